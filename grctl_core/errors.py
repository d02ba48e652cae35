"""Every error that this library raises.

    GrctlError
    ├── InvalidInputError (ValueError)        a value of yours is wrong; nothing was sent
    ├── ConnectionFailedError (ConnectionError)
    │   ├── NotSentError                      nothing left this process: safe to repeat
    │   ├── NotDeliveredError                 sent, but no server took it: safe to repeat
    │   └── ConnectionClosedError             the connection was closed, by you or for good
    ├── AccessDeniedError                     the broker refuses the login or the subject
    ├── DeliveryUnknownError                  it may have been carried out, or may still be
    ├── RefusedError                          the server answered no; nothing was done
    │   ├── WorkflowNotFoundError
    │   ├── WorkflowAlreadyRunningError
    │   ├── WorkflowFinishedError
    │   ├── WorkflowTypeNotRegisteredError
    │   └── ServerError                       any other refusal, with its code
    ├── UnsupportedOperationError             this transport or server cannot do it
    ├── EventLoopError (RuntimeError)         used outside the event loop that it belongs to
    ├── DecodeError (ValueError)              what the server holds is not what was expected
    ├── PluginError                           a plugin broke the rules; the message names it
    ├── WorkflowError                         the run failed
    ├── WorkflowTimeoutError (TimeoutError)   the run exceeded its workflow_timeout
    └── WorkflowCancelledError (asyncio.CancelledError)
        └── WorkflowTerminatedError

Three questions decide where an error sits: what can the caller do, was it sent, was it delivered.
The last four say how a run ended, all others that a call did not do its work. A run that was
cancelled is not a failed run: ``WorkflowCancelledError`` and ``WorkflowTimeoutError`` are no
``WorkflowError``, so ``except WorkflowError``, ``except TimeoutError``,
``except asyncio.CancelledError`` in this order tell all of them apart.

Each error survives ``pickle`` and ``copy`` with its class, message, fields and notes.
"""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from grctl_core.run import RunRef

__all__ = [
    "AccessDeniedError",
    "ConnectionClosedError",
    "ConnectionFailedError",
    "DecodeError",
    "DeliveryUnknownError",
    "EventLoopError",
    "GrctlError",
    "InvalidInputError",
    "NotDeliveredError",
    "NotSentError",
    "PluginError",
    "RefusedError",
    "ServerError",
    "UnsupportedOperationError",
    "WorkflowAlreadyRunningError",
    "WorkflowCancelledError",
    "WorkflowError",
    "WorkflowFinishedError",
    "WorkflowNotFoundError",
    "WorkflowTerminatedError",
    "WorkflowTimeoutError",
    "WorkflowTypeNotRegisteredError",
    "own_copy",
]


def _restore(cls: type[GrctlError], args: tuple[Any, ...], fields: dict[str, Any]) -> GrctlError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(fields)
    if "__notes__" in fields:
        error.__notes__ = [*fields["__notes__"]]  # a copy's notes are its own
    return error


def own_copy(error: Exception) -> Exception:
    """Return a copy for one more caller, with a traceback of its own. An error that is not ours stays itself."""
    return copy.copy(error) if isinstance(error, GrctlError) else error


class GrctlError(Exception):
    """Base of every error that this library raises. ``str(error)`` says what to do."""

    def __reduce__(self) -> tuple[Callable[..., GrctlError], tuple[Any, ...]]:
        return _restore, (type(self), self.args, self.__dict__)


class InvalidInputError(GrctlError, ValueError):
    """A value passed by the caller is wrong. Nothing was sent."""


class ConnectionFailedError(GrctlError, ConnectionError):
    """There is no working connection. Its subclasses say whether anything was sent."""


class NotSentError(ConnectionFailedError):
    """Nothing left this process: repeating the call is safe."""


class NotDeliveredError(ConnectionFailedError):
    """It was sent and certainly not carried out, as no server took it: repeating is safe."""


class ConnectionClosedError(ConnectionFailedError):
    """The connection was closed. Open a new one."""


class AccessDeniedError(GrctlError):
    """The broker refuses the login, or the subject. Repeating does not help, so it is no ConnectionError."""


class DeliveryUnknownError(GrctlError):
    """No answer came: the operation may have been carried out, or may still be.

    Not a ``TimeoutError``: that one says that the workflow, or your own waiting, timed out.

    Attributes:
        operation: what was asked for: ``"start"``, ``"send"``, ``"cancel"``, ...
        run: the run that it concerned, or None where it is not known. For a start its run id is the one
            that the run has if it was started: ``client.get_handle(run.wf_id, run_id=run.run_id)`` looks.
        link: number of the broker connection that carried the attempt, None where it is not known.
    """

    def __init__(
        self, message: str, *, operation: str | None = None, run: RunRef | None = None, link: int | None = None
    ) -> None:
        super().__init__(message)
        self.operation = operation
        self.run = run
        self.link = link


class RefusedError(GrctlError):
    """The server answered no. Nothing was done.

    Attributes:
        code: the server's code (docs/protocol.md, "Error codes"), None where the client itself looked and refused.
        detail: the server's own words, may be empty.
    """

    def __init__(self, message: str, *, code: int | None = None, detail: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail


class WorkflowNotFoundError(RefusedError):
    """There is no such run: the id never ran, or its records are gone."""


class WorkflowAlreadyRunningError(RefusedError):
    """The workflow id has an active run already; one at a time is allowed.

    Attributes:
        run_id: the active run's id, None where the server did not say.
    """

    def __init__(self, message: str, *, run_id: str | None = None, code: int | None = None, detail: str = "") -> None:
        super().__init__(message, code=code, detail=detail)
        self.run_id = run_id


class WorkflowFinishedError(RefusedError):
    """The run has ended and takes no more events, cancels or terminates."""


class WorkflowTypeNotRegisteredError(RefusedError):
    """No worker has registered this workflow type."""


class ServerError(RefusedError):
    """The server refused with a code that has no class of its own: see ``code`` and ``detail``."""


class UnsupportedOperationError(GrctlError):
    """This transport, or the server behind it, cannot do that."""


class EventLoopError(GrctlError, RuntimeError):
    """A connection, client or handle was used outside the event loop that it belongs to."""


class DecodeError(GrctlError, ValueError):
    """What the server holds cannot be decoded, or is not of the type that was asked for."""


class PluginError(GrctlError):
    """A plugin of the client broke the rules: it called proceed twice, or returned what the hook may not return.

    The message names the plugin and the hook. Whether the operation was carried out depends on when it happened.
    """


class WorkflowError(GrctlError):
    """The run failed.

    Attributes:
        type: name of the error, mostly the exception's class name in the worker, such as ``"ValueError"``.
        message: its text.
        stack_trace: the worker's traceback, may be empty.
        run: the run that failed.
    """

    def __init__(self, type: str, message: str, stack_trace: str = "", run: RunRef | None = None) -> None:
        super().__init__(f"{type}: {message}")
        self.type = type
        self.message = message
        self.stack_trace = stack_trace
        self.run = run


class WorkflowTimeoutError(GrctlError, TimeoutError):
    """The run exceeded its ``workflow_timeout`` and was ended. A plain ``TimeoutError`` is your own waiting.

    Attributes:
        run: the run that timed out.
    """

    def __init__(self, message: str, *, run: RunRef | None = None) -> None:
        super().__init__(message)
        self.run = run


class WorkflowCancelledError(GrctlError, asyncio.CancelledError):
    """The run was cancelled. A ``CancelledError`` of any other class is the cancellation of your own task.

    Attributes:
        reason: what the one who cancelled said, may be empty.
        run: the run that was cancelled.
    """

    def __init__(self, message: str, *, reason: str = "", run: RunRef | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.run = run


class WorkflowTerminatedError(WorkflowCancelledError):
    """The run was terminated: ended at once, without the workflow having a say."""
