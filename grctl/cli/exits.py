"""Exit codes, and which of them an error leads to."""

from __future__ import annotations

import re
from enum import IntEnum

from grctl_core.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    DeliveryUnknownError,
    GrctlError,
    InvalidInputError,
    RefusedError,
    UnsupportedOperationError,
    WorkflowNotFoundError,
    WorkflowTimeoutError,
)
from grctl_core.outcome import Outcome
from grctl_core.run import RunStatus

__all__ = ["CommandError", "ExitCode", "code_of_error", "code_of_outcome", "in_our_words"]


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


_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (InvalidInputError, ExitCode.USAGE),
    (WorkflowNotFoundError, ExitCode.NOT_FOUND),
    (RefusedError, ExitCode.REFUSED),
    (AccessDeniedError, ExitCode.REFUSED),
    (UnsupportedOperationError, ExitCode.REFUSED),
    (WorkflowTimeoutError, ExitCode.TIMED_OUT),
    (ConnectionFailedError, ExitCode.NO_CONNECTION),
    (DeliveryUnknownError, ExitCode.TIMED_OUT),
    (GrctlError, ExitCode.FAILED),
    (TimeoutError, ExitCode.TIMED_OUT),
)
"""The first one that fits counts."""


def code_of_error(error: Exception) -> ExitCode | None:
    """Return what an error exits with, None for one that is none of ours."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)


_WORDS = (
    (r"pass check_event=False", "add --unchecked"),
    (r"on_conflict='(\w+)'", r"--on-conflict \1"),
    (r"\bpass tls_ca='([\w.]+)'", r"add --tls-ca \1"),
    (r"\bpass tls_cert= and tls_key=", "add --tls-cert and --tls-key"),
    (r"\bservers=", "--server-url"),
)
"""What the library's messages say to programmers, and what a user of the command line writes for it."""


def in_our_words(message: str) -> str:
    """Return a message of the library with the names of our options in it."""
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message


def code_of_outcome(outcome: Outcome[object]) -> ExitCode:
    """Return what the end of a workflow exits with."""
    if outcome.completed:
        return ExitCode.OK
    return ExitCode.TIMED_OUT if outcome.status is RunStatus.TIMED_OUT else ExitCode.FAILED
