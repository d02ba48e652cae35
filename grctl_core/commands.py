"""Commands to the server, and its reply: one command is one message on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar, TypeAlias

import msgspec

from grctl_core.ids import new_ulid
from grctl_core.run import RunInfo, RunRef

__all__ = [
    "CancelCommand",
    "Command",
    "DescribeCommand",
    "ErrorCode",
    "EventCommand",
    "QueryCommand",
    "Reply",
    "ReplyError",
    "StartCommand",
    "TerminateCommand",
]


def _now() -> datetime:
    return datetime.now(UTC)


class _Command(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """What all commands have.

    Attributes:
        wf_id: the workflow id that it is for.
        id: the command's own id, a ULID.
        created_at: when the client made it.
        headers: message headers; the server ignores them (docs/protocol.md, section 2).
    """

    wf_id: str
    id: str = msgspec.field(default_factory=new_ulid)
    created_at: datetime = msgspec.field(default_factory=_now)
    headers: Mapping[str, str] | None = None

    kind: ClassVar[str]

    def __repr__(self) -> str:
        """Show ids, never a payload."""
        return f"<{type(self).__name__} {self.kind} {self.id} for workflow {self.wf_id!r}>"


class StartCommand(_Command, gc=False, frozen=True, kw_only=True):
    """Start a run. ``input`` is encoded; None is sent as nil."""

    kind: ClassVar[str] = "run.start"
    run: RunInfo
    input: bytes | None = None


class EventCommand(_Command, gc=False, frozen=True, kw_only=True):
    """Send an event to the latest run of the id. ``payload`` is encoded; None is sent as nil.

    ``run`` is the run that the sender means, None where it means whichever is the latest. It is not sent.
    """

    kind: ClassVar[str] = "run.event"
    run: RunRef | None = None
    event_name: str
    payload: bytes | None = None


class CancelCommand(_Command, gc=False, frozen=True, kw_only=True):
    """Cancel the latest run of the id."""

    kind: ClassVar[str] = "run.cancel"
    reason: str = ""


class TerminateCommand(_Command, gc=False, frozen=True, kw_only=True):
    """Terminate the latest run of the id."""

    kind: ClassVar[str] = "run.terminate"
    reason: str = ""


class DescribeCommand(_Command, gc=False, frozen=True, kw_only=True):
    """Ask for the RunInfo of the latest run of the id."""

    kind: ClassVar[str] = "run.describe"


class QueryCommand(_Command, gc=False, frozen=True, kw_only=True):
    """Ask a run's query handler. ``arguments`` is an encoded map. The embedded engine's alone."""

    kind: ClassVar[str] = "run.query"
    run_id: str
    query_name: str
    arguments: bytes | None = None


Command: TypeAlias = StartCommand | EventCommand | CancelCommand | TerminateCommand | DescribeCommand | QueryCommand


class ErrorCode:
    """The server's error codes (docs/protocol.md, "Error codes")."""

    PANIC = 0
    UNKNOWN_COMMAND = 4000
    ALREADY_RUNNING = 4001
    NOT_FOUND = 4002
    FINISHED = 4003
    TYPE_NOT_REGISTERED = 4004
    BAD_MESSAGE = 4005
    INTERNAL = 5000


class ReplyError(msgspec.Struct, gc=False, frozen=True):
    """Why the server refused."""

    code: int
    message: str
    detail: str = ""


class Reply(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """The server's answer to one command.

    Attributes:
        success: whether the command was accepted, which is not yet that it took effect.
        run: the RunInfo that a describe is answered with.
        payload: the encoded answer to a query.
        error: why it was refused.
        link: number of the broker connection that it came over, None where the transport does not say. Commands sent
            over one link are handled in order as far as a describe is concerned (docs/protocol.md, section 2), over
            two links they are not.
    """

    success: bool
    run: RunInfo | None = None
    payload: bytes | None = None
    error: ReplyError | None = None
    link: int | None = None

    def __repr__(self) -> str:
        """Show what the server said, never the answer to a query."""
        run = "" if self.run is None else f" with {self.run!r}"
        return f"<Reply: {'success' if self.success else self.error!r}{run}>"
