"""LoopThread: an event loop in a thread of its own, and the way in for all other threads."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextvars
import functools
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar

from grctl_core.errors import ConnectionClosedError, EventLoopError

__all__ = ["LoopThread", "PendingCall", "closed_error", "refuse_running_loop"]

P = ParamSpec("P")
R = TypeVar("R")

_CANCEL_AGAIN_AFTER = 0.25
_CANCEL_AT_MOST = 20
"""How often tasks that are left at the end are cancelled, in vain, before they are left alone: 5 s in all."""

_AT_EXIT = 5.0
"""Seconds that the end of one thread may take when the interpreter exits."""

_log = logging.getLogger("grctl.sync")
_log.addHandler(logging.NullHandler())  # a library prints nothing of its own accord


class LoopThread:
    """An event loop in a thread of its own.

    The thread is a daemon: Python joins all others before it runs exit handlers, so that one which only an exit handler
    ends would keep the process for ever.

    Attributes:
        on_end: an async function that closes what lives in the loop; called when the thread is to end. What it raises
            is logged.
    """

    def __init__(self) -> None:
        self.on_end: Callable[[], Coroutine[Any, Any, object]] | None = None
        self._process = os.getpid()
        # Reentrant, as a collection in the middle of submitting may run a finalizer that submits.
        self._lock = threading.RLock()
        self._ended = False
        self._exiting = False
        self._loop = asyncio.new_event_loop()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=_serve, args=(self._loop, self._stopped), name="grctl-sync", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._loop.close()
            raise
        _alive.add(self)

    @property
    def is_here(self) -> bool:
        """Whether this is the process that the thread runs in: a fork has a copy of the loop that nobody runs."""
        return self._process == os.getpid()

    @property
    def is_ended(self) -> bool:
        """Whether it takes no more calls."""
        return self._ended

    def run(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call an async function in the loop, in the calling thread's context, and wait for what comes of it.

        What it raises is raised here as it is; it travels as data, since a task that a WorkflowCancelledError escapes
        from counts as cancelled, and its error would be lost. An exception that ends the waiting, such as
        KeyboardInterrupt, ends it at once and cancels the call.

        Raises:
            EventLoopError: this thread runs an event loop, or this is a forked process.
            ConnectionClosedError: the loop has ended, or ends meanwhile.

        """
        call = self.calling(function, *args, **kwargs)
        del args, kwargs
        return call.wait()

    def calling(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> PendingCall[R]:
        """Return the call of :meth:`run` before it is made, for callers whose frames are not to hold its arguments.

        They may be secret, and tracebacks with the values of variables find their way into logs.
        """
        return PendingCall(self, functools.partial(function, *args, **kwargs), contextvars.copy_context())

    def post(self, function: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Have an async function called in the loop, and do not wait. From any thread, a finalizer's too.

        Once the loop has ended it does nothing: what the loop had was cleaned up then.
        """
        if self.is_here:
            self.submit(PendingCall(self, function, contextvars.Context()).start)

    def settle(self, future: concurrent.futures.Future[R], error: BaseException | None, value: R | None) -> None:
        """Give another thread what came of a call; in the loop's thread."""
        if error is None:
            future.set_result(value)  # type: ignore[arg-type]  # None is an R where the value is None
        else:
            future.set_exception(SystemExit() if self._exiting else error)

    def end(self, *, exiting: bool = False) -> None:
        """Take no more calls, call :attr:`on_end`, and end the thread. Does not wait; from any thread; idempotent.

        Args:
            exiting: the interpreter exits. Only daemon threads can be waiting then, and an error would make each print
                a traceback: they get SystemExit, which ends a thread in silence.

        """
        if not self.is_here:
            return
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._exiting = exiting
            self._loop.call_soon_threadsafe(self._finish, context=contextvars.Context())

    def join(self) -> None:
        """Wait until the thread has ended. When the interpreter exits, five seconds at most."""
        self._thread.join(_AT_EXIT if self._exiting else None)

    def create_task(self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context) -> asyncio.Task[Any]:
        """Make a task of a coroutine; in the loop's thread."""
        return self._loop.create_task(coroutine, context=context)

    def check_usable(self) -> None:
        """Make sure that this thread may wait for the loop.

        Raises:
            EventLoopError: this thread runs an event loop, or this is a forked process.

        """
        refuse_running_loop()
        if not self.is_here:
            raise EventLoopError(
                f"this connection was opened in process {self._process}, and cannot be used in its fork {os.getpid()}: "
                "open a new connection here, with grctl.sync.connect(...)"
            )

    def submit(self, callback: Callable[[], object]) -> bool:
        """Have a callback run in the loop's thread; False if it takes no more.

        The lock is what makes sure that none is left behind: each that was taken runs before the loop ends.
        """
        with self._lock:
            if self._ended:
                return False
            self._loop.call_soon_threadsafe(callback, context=contextvars.Context())
            return True

    def closed_error(self) -> BaseException:
        """Return the error of a call that came after the end."""
        return SystemExit() if self._exiting and threading.current_thread().daemon else closed_error()

    def _finish(self) -> None:
        if self.on_end is None:
            self._stop()
        else:
            self._loop.create_task(self.on_end()).add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._stop()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("closing failed", exc_info=error)

    def _stop(self) -> None:
        self._stopped.set()
        self._loop.stop()


class PendingCall(Generic[R]):
    """One call on its way through the loop. Its repr says nothing of its arguments."""

    def __init__(self, thread: LoopThread, function: Callable[[], Awaitable[R]], context: contextvars.Context) -> None:
        self.future: concurrent.futures.Future[R] = concurrent.futures.Future()
        self._thread = thread
        self._function = function
        self._context = context
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False

    def wait(self) -> R:
        """Make the call and wait for what comes of it; see :meth:`LoopThread.run`."""
        self._thread.check_usable()
        try:
            if not self._thread.submit(self.start):
                raise self._thread.closed_error()
            return self.future.result()
        except BaseException:
            if not self.future.done():
                self._thread.submit(self.cancel)
            raise
        finally:
            if self.future.done():
                del self.future  # its error's traceback leads to those who hold this call: all would be garbage

    def start(self) -> None:
        """Begin; in the loop's thread."""
        if not self._is_cancelled:
            self._task = self._thread.create_task(self._carry(), self._context)

    def cancel(self) -> None:
        """Give it up, begun or not; in the loop's thread."""
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()

    async def _carry(self) -> None:
        """Make data of what comes of it: nothing may escape into the task."""
        try:
            value = await self._function()
        except GeneratorExit:
            self._thread.settle(self.future, closed_error(), None)  # the loop has been left, and the task with it
            raise
        except BaseException as error:  # noqa: BLE001 - all of it is the caller's
            if type(error) is asyncio.CancelledError and self._thread.is_ended:
                error = closed_error()
            self._thread.settle(self.future, error, None)
        else:
            self._thread.settle(self.future, None, value)
        finally:
            del self  # the error's traceback leads here, and from here to the error


_alive: weakref.WeakSet[LoopThread] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """End what is open when the interpreter exits; whatever takes too long dies with it."""
    threads = list(_alive)
    for thread in threads:
        thread.end(exiting=True)
    for thread in threads:
        if thread.is_here:
            thread.join()


def closed_error() -> ConnectionClosedError:
    """Return the error of whoever uses what was closed."""
    return ConnectionClosedError("the connection was closed: open a new one with grctl.sync.connect(...)")


def refuse_running_loop() -> None:
    """Refuse to block a thread whose event loop is running.

    Raises:
        EventLoopError: it is.

    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise EventLoopError(
        "an event loop is running in this thread, and a synchronous call would stop all that it does: use the "
        "asynchronous client here, grctl.connect(...) and grctl.Client with 'await' (a notebook's cell may say 'await' "
        "too), or make this call in another thread, with asyncio.to_thread(...)"
    )


def _serve(loop: asyncio.AbstractEventLoop, stopped: threading.Event) -> None:
    """Run the loop until it is stopped, then clean up."""
    try:
        while not stopped.is_set():
            try:
                loop.run_forever()
            except (KeyboardInterrupt, SystemExit) as error:
                # asyncio lets these through: a step of the embedded engine, or a listener, called sys.exit().
                said = f"{type(error).__name__} in a thread that is not the main one: neither it nor the process ends"
                loop.call_exception_handler({"message": said, "exception": error})
    finally:
        try:
            loop.run_until_complete(_end_tasks())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            # It gives up the default executor too, without waiting. asyncio.run would wait for it in one more thread,
            # which none can be started for any more when the interpreter exits.
            loop.close()


async def _end_tasks() -> None:
    """Cancel what is left, again and again: a task may lose a cancellation (``asyncio.wait_for`` of Python 3.11)."""
    for _ in range(_CANCEL_AT_MOST):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_CANCEL_AGAIN_AFTER)
    _log.warning("the event loop of a synchronous connection ends, and %d of its tasks do not", len(left))
