"""What goes wrong inside a step by the workflow's own doing. A run that fails so has the class's name as its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grctl_core.errors import GrctlError, WorkflowError

if TYPE_CHECKING:
    from grctl_core.run import RunRef
    from grctl_engine.child import ChildOutcome

__all__ = [
    "ChildFailedError",
    "InputMismatchError",
    "NoDecisionError",
    "NoParentError",
    "ReadOnlyError",
    "StepEndedError",
    "TaskResultError",
]


class InputMismatchError(GrctlError, TypeError):
    """The input, or an event's payload, does not fit the parameters of its handler."""


class NoDecisionError(GrctlError, TypeError):
    """A handler returned something that is no decision, mostly None."""


class StepEndedError(GrctlError, RuntimeError):
    """A context was used after its step had ended, or had been abandoned."""


class TaskResultError(GrctlError, TypeError):
    """A task returned what cannot be recorded, or what its return annotation does not say. It is not tried again."""


class NoParentError(GrctlError, RuntimeError):
    """``ctx.send_to_parent()`` in a run that is nobody's child."""


class ReadOnlyError(GrctlError, RuntimeError):
    """A query tried to change something. It may read: ``ctx.run``, ``ctx.store.get()``."""


class ChildFailedError(WorkflowError):
    """``ctx.run_child()``: the child did not complete. It failed, timed out, was cancelled or terminated.

    A cancelled child is one of these, and no ``CancelledError``: ``asyncio.gather`` and ``TaskGroup`` would take
    that for a cancellation of the handler's own, and lose which child it was.

    Attributes:
        outcome: how it ended: ``outcome.status`` tells the four apart.
        type: name of the child's own error, such as ``"ValueError"``; ``message`` and ``stack_trace`` likewise.
    """

    def __init__(self, outcome: ChildOutcome[Any], run: RunRef) -> None:
        error = outcome.error
        message = f"child workflow {run.wf_id!r} (run {run.run_id}) ended as {outcome.status}"
        if error is not None:
            message += f": {error.type}: {error.message}"
        if error is None:
            super().__init__(str(outcome.status), message, "", run)
        else:
            super().__init__(error.type, error.message, error.stack_trace, run)
        self.args = (message,)
        self.outcome = outcome
