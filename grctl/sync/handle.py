"""Handle: one run, for any thread."""

from __future__ import annotations

import concurrent.futures
import contextvars
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic

from grctl.sync.binding import blocking, iterating
from grctl.sync.connection import Connection
from grctl_core.durations import Duration
from grctl_core.errors import WorkflowCancelledError, WorkflowError, WorkflowTimeoutError
from grctl_core.handle import WorkflowHandle
from grctl_core.outcome import Outcome
from grctl_core.run import RunInfo

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["Handle"]

_HOW_A_RUN_ENDS = (WorkflowError, WorkflowTimeoutError, WorkflowCancelledError)


class Handle(Generic[T]):
    """A handle to one run, for any thread. Made by a :class:`grctl.sync.Client`.

    Its methods are those of :class:`grctl.WorkflowHandle` without ``await``: same arguments, same errors. Each waits in
    the calling thread; Ctrl-C ends that at once, and leaves the run alive.
    """

    def __init__(self, connection: Connection, inner: WorkflowHandle[T]) -> None:
        """Take an asynchronous handle of that connection; not for users."""
        self._connection = connection  # so that it stays open as long as the handle is there
        self._thread = connection._thread  # noqa: SLF001 - one package
        self._inner = inner
        self._future: concurrent.futures.Future[T] | None = None

    @property
    def run_info(self) -> RunInfo:
        """What was last learned of the run: at its start, by :meth:`describe`, or at its end. Asks nobody."""
        return self._inner.run_info

    @property
    def future(self) -> concurrent.futures.Future[T]:
        """A future of the run's end: the result, or the error that :meth:`result` raises.

        For ``concurrent.futures.wait`` and ``as_completed``. It is one for all who look, and cannot be cancelled
        (``cancel()`` returns False): to give up waiting, give ``result(timeout=...)`` a limit. Where the end cannot be
        learned it gets the error, and the next look tries again. Callbacks are called in the connection's own thread:
        they must return at once, and cannot use the client. From the first look on the handle is kept until the run has
        ended, or the connection is closed.

        Raises:
            EventLoopError: an event loop is running in this thread.
            ConnectionClosedError: the connection was closed before the end was known.

        """
        future = self._future
        if future is not None and _tells_the_end(future):
            return future
        return self._thread.run(self._watch)

    def result(self, timeout: Duration | None = None) -> T:
        """Wait for the end and return the result.

        Args:
            timeout: how long to wait at most, in seconds or as a timedelta; None waits for ever. The run goes on.

        Raises:
            WorkflowError: the run failed.
            WorkflowTimeoutError: the run exceeded its workflow_timeout.
            WorkflowCancelledError: the run was cancelled.
            WorkflowTerminatedError: the run was terminated.
            TimeoutError: the waiting took longer than ``timeout``.
            WorkflowNotFoundError: the run's records are gone.
            DecodeError: the result is not of the type that was asked for.
            ConnectionClosedError: the connection was closed.

        """
        return self._thread.run(self._inner.result, timeout)

    def outcome(self, timeout: Duration | None = None) -> Outcome[T]:
        """Wait for the end and return how the run ended: never raises for that. The best way in servers.

        Args:
            timeout: as for :meth:`result`.

        Raises:
            TimeoutError, WorkflowNotFoundError, DecodeError, ConnectionClosedError: as :meth:`result`.

        """
        return self._thread.run(self._inner.outcome, timeout)

    send = blocking(WorkflowHandle.send)
    query = blocking(WorkflowHandle.query)
    describe = blocking(WorkflowHandle.describe)
    cancel = blocking(WorkflowHandle.cancel)
    terminate = blocking(WorkflowHandle.terminate)
    history = iterating(WorkflowHandle.history)

    def log_context(self) -> AbstractContextManager[None]:
        """Have the log records of the block name this run: :meth:`grctl.WorkflowHandle.log_context`."""
        return self._inner.log_context()

    def __repr__(self) -> str:
        return f"<grctl.sync.Handle of {self._inner!r}>"

    async def _watch(self) -> concurrent.futures.Future[T]:
        """Return the future; in the connection's thread, so that there is one however many threads look."""
        future = self._future
        if future is not None and (not future.done() or _tells_the_end(future)):
            return future
        future = self._future = concurrent.futures.Future()
        future.set_running_or_notify_cancel()  # from here on it cannot be cancelled
        source = self._inner.future
        if source.done():
            self._copy(source)
        else:
            source.add_done_callback(self._copy, context=contextvars.Context())
        return future

    def _copy(self, source: asyncio.Future[T]) -> None:
        if self._future is not None:
            error = source.exception()
            self._thread.settle(self._future, error, None if error is not None else source.result())


def _tells_the_end(future: concurrent.futures.Future[Any]) -> bool:
    return future.done() and ((error := future.exception()) is None or isinstance(error, _HOW_A_RUN_ENDS))
