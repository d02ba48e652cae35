"""Outcome: how a run ended, as a value instead of an exception."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

import msgspec

from grctl_core.codec import decode
from grctl_core.errors import (
    DecodeError,
    GrctlError,
    WorkflowCancelledError,
    WorkflowError,
    WorkflowTerminatedError,
    WorkflowTimeoutError,
)
from grctl_core.run import RunInfo, RunStatus

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["EncodedOutcome", "ErrorDetails", "Outcome", "decode_outcome"]


class ErrorDetails(msgspec.Struct, frozen=True):
    """Why a run, a step or a task failed.

    Attributes:
        type: name of the error, such as ``"ValueError"`` or one of your own, such as ``"CardDeclined"``.
        message: its text.
        stack_trace: the worker's traceback, may be empty.
    """

    type: str
    message: str
    stack_trace: str = ""


class EncodedOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, as a transport delivers it: the result still encoded.

    Attributes:
        run: the run's record at its end; its ``status`` says how it ended.
        result: the encoded result of a completed run; None for the result None.
        error: why a failed run failed.
        reason: what the one who cancelled or terminated the run said.
    """

    run: RunInfo
    result: bytes | None = None
    error: ErrorDetails | None = None
    reason: str = ""

    def __repr__(self) -> str:
        """Show ids and the status, never a result."""
        return f"<EncodedOutcome of run {self.run.id} of workflow {self.run.wf_id!r}: {self.run.status}>"


class Outcome(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """How a run ended: look at ``status``, or call :meth:`unwrap`.

    Attributes:
        status: completed, failed, timed_out, cancelled or terminated; a newer server may have more.
        run: the run's record at its end.
        result: the result of a completed run, else None.
        error: why a failed run failed, else None.
        reason: what the one who cancelled or terminated the run said, else empty.
    """

    status: RunStatus
    run: RunInfo
    result: T | None = None
    error: ErrorDetails | None = None
    reason: str = ""

    @property
    def completed(self) -> bool:
        """Whether the run completed, with a result."""
        return self.status is RunStatus.COMPLETED

    def unwrap(self) -> T:
        """Return the result of a completed run.

        Raises:
            WorkflowError: it failed.
            WorkflowTimeoutError: it timed out.
            WorkflowCancelledError: it was cancelled.
            WorkflowTerminatedError: it was terminated.

        """
        if self.status is RunStatus.COMPLETED:
            return self.result  # type: ignore[return-value]  # None is a T where the result is None
        raise self.to_error()

    def to_error(self) -> GrctlError:
        """Return a new error that says how the run ended, for a run that did not complete."""
        run = self.run.ref
        name = f"workflow {run.wf_id!r} (run {run.run_id})"
        because = f": {self.reason}" if self.reason else ""
        match self.status:
            case RunStatus.CANCELLED:
                return WorkflowCancelledError(f"{name} was cancelled{because}", reason=self.reason, run=run)
            case RunStatus.TERMINATED:
                return WorkflowTerminatedError(f"{name} was terminated{because}", reason=self.reason, run=run)
            case RunStatus.TIMED_OUT:
                limit = f" of {self.run.timeout}" if self.run.timeout else ""
                return WorkflowTimeoutError(f"{name} exceeded its workflow_timeout{limit}", run=run)
        error = self.error or ErrorDetails("UnknownError", f"{name} ended as {self.status}, and no cause is recorded")
        return WorkflowError(error.type, error.message, error.stack_trace, run)


def decode_outcome(encoded: EncodedOutcome, result_type: Any) -> Outcome[Any]:
    """Decode what a transport delivered.

    Raises:
        DecodeError: the result is not of the type that was asked for.

    """
    result = None
    status = encoded.run.status or RunStatus("unknown")
    if status is RunStatus.COMPLETED:
        try:
            result = decode(b"\xc0" if encoded.result is None else encoded.result, result_type)
        except DecodeError as error:
            raise DecodeError(
                f"workflow {encoded.run.wf_id!r} (run {encoded.run.id}) completed, but its result is not what "
                f"result_type asks for: {error}"
            ) from error.__cause__
    return Outcome(status=status, run=encoded.run, result=result, error=encoded.error, reason=encoded.reason)
