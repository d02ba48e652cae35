"""Exit codes, and the errors by which a command ends itself. Light: each start of the command line loads it."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CommandError", "ExitCode", "ReaderGoneError"]


class ExitCode(IntEnum):
    """What the command line exits with (docs/command-line.md, "Exit codes")."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    NO_CONNECTION = 5
    TIMED_OUT = 6
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command.

    Attributes:
        code: what to exit with.
    """

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


class ReaderGoneError(Exception):
    """Nobody reads stdout any more, as in ``| head -1``. (click would make an exit code of its own of the OSError.)"""
