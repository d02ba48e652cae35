"""ChildOutcome: how a child workflow ended, as its parent learns it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

import msgspec

from grctl_core.errors import WorkflowError
from grctl_core.outcome import ErrorDetails
from grctl_core.run import RunInfo, RunStatus

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["ChildHandle", "ChildOutcome", "outcome_error"]


class ChildOutcome(msgspec.Struct, Generic[T], frozen=True):
    """How a child workflow ended. Its parent's ``on_completed_step`` gets it.

    Annotated as ``ChildOutcome[Receipt]`` the result is decoded to that type, without it to plain values.

    Attributes:
        status: completed, failed, timed_out, cancelled or terminated.
        result: the result of a completed child, else None.
        error: why it did not complete. For one that was cancelled, terminated or timed out the type is
            ``RunCancelled``, ``RunTerminated`` or ``RunTimeout``, and the message is the reason that was given.
    """

    status: RunStatus
    result: T | None = None
    error: ErrorDetails | None = None

    @property
    def ok(self) -> bool:
        """Whether the child completed, with a result."""
        return self.status is RunStatus.COMPLETED

    def unwrap(self) -> T:
        """Return the result of a completed child.

        Raises:
            WorkflowError: it did not complete.

        """
        if self.ok:
            return self.result  # type: ignore[return-value]  # None is a T where the result is None
        error = self.error or ErrorDetails(str(self.status), "the child workflow did not complete")
        raise WorkflowError(error.type, error.message, error.stack_trace)


class ChildHandle(msgspec.Struct, frozen=True):
    """What ``ctx.start_child()`` returns.

    Attributes:
        run_info: the child's record at its start.
    """

    run_info: RunInfo


_ERROR_TYPES = {
    RunStatus.CANCELLED: "RunCancelled",
    RunStatus.TERMINATED: "RunTerminated",
    RunStatus.TIMED_OUT: "RunTimeout",
}


def outcome_error(status: RunStatus, error: ErrorDetails | None, reason: str) -> ErrorDetails | None:
    """Return why a child did not complete; None for one that did."""
    if error is None and status in _ERROR_TYPES:
        return ErrorDetails(_ERROR_TYPES[status], reason)
    return error
