"""Attempt: one command on the wire, as the attempt layers see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import msgspec

from grctl_core.calls import CommandCall
from grctl_core.commands import Command
from grctl_core.durations import to_seconds
from grctl_core.headers import NO_HEADERS, check_headers

__all__ = ["Attempt", "Fate"]


class Fate(msgspec.Struct, gc=False):
    """What the connection itself said of a command, whatever the attempt layers make of it.

    Attributes:
        is_open: whether it was handed over, and nothing says that it was not carried out.
    """

    is_open: bool = False


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One command on the wire.

    Attributes:
        command: what is sent.
        timeout: seconds that the reply may take.
        call: the operation that it is for.
        number: which command of the call this is, from 1; looks at the run count.
        fate: for the core, which alone writes it; None for a command that changes nothing.
    """

    command: Command
    timeout: float
    call: CommandCall
    number: int
    fate: Fate | None = None

    @property
    def kind(self) -> str:
        """What is sent: run.start, run.event, run.cancel, run.terminate, run.describe or run.query."""
        return self.command.kind

    @property
    def headers(self) -> Mapping[str, str]:
        """The message headers."""
        return self.command.headers or NO_HEADERS

    def replace(self, *, headers: Mapping[str, str] | None = None, timeout: float | None = None) -> Self:
        """Return a copy with other headers, or another timeout; None leaves it as it is.

        Raises:
            InvalidInputError: a value cannot be used.

        """
        attempt = self
        if headers is not None:
            command = msgspec.structs.replace(self.command, headers=check_headers(headers) or None)
            attempt = msgspec.structs.replace(attempt, command=command)
        if timeout is not None:
            attempt = msgspec.structs.replace(attempt, timeout=to_seconds("timeout", timeout))
        return attempt

    def __repr__(self) -> str:
        """Show ids, never a payload."""
        return f"<Attempt {self.number} of {self.call!r}: {self.kind}>"
