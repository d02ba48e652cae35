"""RunEnd: the end of one run, for any number of waiters, over one watch of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any, Self

from grctl_core.errors import ConnectionClosedError, EventLoopError, own_copy
from grctl_core.event_loop import running_loop
from grctl_core.notifications import NO_STATE
from grctl_core.outcome import EncodedOutcome, Outcome, decode_outcome

if TYPE_CHECKING:
    from grctl_core.notifications import Notifications
    from grctl_core.protocols import Connection
    from grctl_core.run import RunInfo, RunRef

__all__ = ["RunEnd"]


class RunEnd:
    """Where a handle keeps, and waits for, the end of its run.

    Inside, an end is data (an Outcome). It becomes an exception only in the futures that users look at: an exception
    on a future that our own code awaits would swallow a ``task.cancel()`` of the same loop iteration.

    A future that somebody waits for is held strongly until it is done, one that was only looked at is held weakly:
    looking often does not pile up. The watch is cancelled when nobody is left who could see its end.

    There may be a hundred thousand of them, so what is empty is None, and the watch has one callback.

    Callbacks that outlive a caller run in an empty context: they must not keep the span of whoever happened to wait
    first. Each in one of its own, as a context cannot be entered in two threads at once.

    Attributes:
        outcome: how the run ended, once it is known.
        run: the run's record at its end, also where the result cannot be decoded and ``outcome`` stays None.
    """

    __slots__ = (
        "__weakref__",
        "_connection",
        "_looked_at",
        "_notifications",
        "_on_end",
        "_result_type",
        "_run",
        "_settled",
        "_since",
        "_state",
        "_waiting",
        "_watch",
        "outcome",
        "run",
    )

    def __init__(
        self,
        connection: Connection,
        run: RunRef,
        result_type: Any,
        notifications: Notifications | None = None,
        state: Mapping[str, Any] = NO_STATE,
    ) -> None:
        self.outcome: Outcome[Any] | None = None
        self.run: RunInfo | None = None
        self._connection = connection
        self._run = run
        self._result_type = result_type
        self._notifications = notifications if notifications and notifications.on_run_ended else None
        self._state = state
        self._since: float | None = None  # nobody has looked yet
        self._watch: asyncio.Future[EncodedOutcome] | None = None
        self._on_end: _OnEnd | None = None  # what the watch calls
        # One waits, mostly: no set is made for it.
        self._waiting: asyncio.Future[Any] | set[asyncio.Future[Any]] | None = None
        self._looked_at: set[weakref.ref[_EndFuture]] | None = None
        self._settled: _EndFuture | None = None

    def future(self) -> asyncio.Future[Any]:
        """Return a future of the caller's own; after the end, the settled one.

        Where the end cannot be learned it gets the error, and the next look tries again.
        """
        if self._settled is not None:
            return self._settled
        if self.outcome is not None:
            # What is known needs no connection: it may be closed by now, and the run's records gone.
            self._settled = _EndFuture(self, running_loop("a handle"))
            self._settled.settle(self.outcome, None)
            return self._settled
        watch = self._watching()
        future = _EndFuture(self, watch.get_loop())
        if not watch.done():
            self._look(future)
            return future
        failure = self._settle(watch)
        future.settle(self.outcome, failure)
        if failure is None:
            self._settled = future
        return future

    async def wait(self) -> Outcome[Any]:
        """Wait for the end, and return it as data.

        Raises:
            GrctlError: the end cannot be learned; as :meth:`grctl_core.protocols.Connection.watch`.

        """
        if self.outcome is None:
            watch = self._watching()
            if watch.done():
                failure = self._settle(watch)
            else:
                waiter: asyncio.Future[Exception | None] = watch.get_loop().create_future()
                self.hold(waiter)
                try:
                    failure = await waiter
                finally:
                    self.release(waiter)
            if self.outcome is None:
                raise own_copy(failure or _stopped())
        return self.outcome

    def hold(self, future: asyncio.Future[Any]) -> None:
        """Keep a future that is being waited for, and with it this object."""
        if self._waiting is None:
            self._waiting = future
        elif isinstance(self._waiting, set):
            self._waiting.add(future)
        elif self._waiting is not future:
            self._waiting = {self._waiting, future}
        if self._on_end is not None:
            self._on_end.kept = self
        if self._looked_at is not None and isinstance(future, _EndFuture):
            self._looked_at.discard(weakref.ref(future))
            self._looked_at = self._looked_at or None

    def release(self, future: asyncio.Future[Any]) -> None:
        """Let go of a future that nobody waits for any more; whoever has it may go on to look at it."""
        if isinstance(self._waiting, set) and future in self._waiting:
            self._waiting.discard(future)
        elif self._waiting is future:
            self._waiting = None
        else:
            return
        if not self._waiting:
            self._waiting = None
            if self._on_end is not None:
                self._on_end.kept = None
        if isinstance(future, _EndFuture) and not future.done():
            self._look(future)

    def _look(self, future: _EndFuture) -> None:
        if self._looked_at is None:
            self._looked_at = set()
        self._looked_at.add(weakref.ref(future, self._looked_at.discard))

    def _watching(self) -> asyncio.Future[EncodedOutcome]:
        loop = running_loop("a handle")
        if self._watch is None:
            self._watch = self._connection.watch(self._run)
            if self._since is None and self._notifications is not None:
                self._since = loop.time()
            self._on_end = _OnEnd(self)
            self._watch.add_done_callback(self._on_end, context=Context())
        elif self._watch.get_loop() is not loop:
            raise EventLoopError("this handle belongs to another event loop: the one that its connection was opened in")
        return self._watch

    def _settle(self, watch: asyncio.Future[EncodedOutcome]) -> Exception | None:
        """Take what the watch brought to all who wait; return why, if it brought no end."""
        if watch is not self._watch:
            return None
        self._watch = self._on_end = None
        failure: Exception | None = None
        try:
            encoded = watch.result()
            self.run = encoded.run
            self.outcome = decode_outcome(encoded, self._result_type)
        except asyncio.CancelledError:
            failure = _stopped()
        except Exception as error:  # noqa: BLE001 - also a transport's mistake must reach those who wait
            failure = error
        looked_at = list(self._looked_at or ())  # a copy: a future that dies meanwhile leaves the set
        waiting = self._waiting if isinstance(self._waiting, set) else filter(None, [self._waiting])
        futures = [*waiting, *filter(None, (look() for look in looked_at))]
        self._waiting = self._looked_at = None
        for future in futures:
            if isinstance(future, _EndFuture):
                future.settle(self.outcome, failure)
            elif not future.done():
                future.set_result(failure)
        if (
            self.outcome is not None
            and self.run is not None
            and self._notifications is not None
            and self._since is not None
        ):
            waited = watch.get_loop().time() - self._since
            self._notifications.run_ended(self._state, self.run, self.outcome, waited)
        return failure

    def __del__(self) -> None:
        watch = getattr(self, "_watch", None)
        if watch is not None and not watch.done():
            loop = watch.get_loop()
            with contextlib.suppress(RuntimeError):  # the loop was closed, and the watch with it
                loop.call_soon_threadsafe(watch.cancel)  # objects may be dropped in any thread


def _stopped() -> ConnectionClosedError:
    return ConnectionClosedError("the connection stopped watching for the end of this run")


class _OnEnd:
    """What a watch calls when it is done. It holds its RunEnd weakly, and strongly while somebody waits.

    Attributes:
        kept: the RunEnd, while somebody waits.
    """

    __slots__ = ("_end", "kept")

    def __init__(self, end: RunEnd) -> None:
        self._end = weakref.ref(end)
        self.kept: RunEnd | None = None

    def __call__(self, watch: asyncio.Future[EncodedOutcome]) -> None:
        end = self._end()
        self.kept = None
        if end is not None and end._watch is watch:  # noqa: SLF001 - the same module
            end._settle(watch)  # noqa: SLF001
        elif not watch.cancelled():
            watch.exception()  # nobody is left to ask: an end that nobody waits for logs nothing


class _EndFuture(asyncio.Future[Any]):
    """The future that a user looks at. It knows whether somebody waits for it."""

    __slots__ = ("_end", "_waiters")

    def __init__(self, end: RunEnd, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._end = end
        self._waiters = 0

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        if not self.done():
            if self._waiters == 0:
                self._end.hold(self)
            self._waiters += 1
        super().add_done_callback(fn, context=context)

    def remove_done_callback(self, fn: Callable[[Self], object], /) -> int:
        removed = super().remove_done_callback(fn)
        if removed and not self.done():
            self._waiters -= removed
            if self._waiters <= 0:
                self._end.release(self)
        return removed

    def cancel(self, msg: Any | None = None) -> bool:
        cancelled = super().cancel(msg)
        self._end.release(self)
        return cancelled

    def settle(self, outcome: Outcome[Any] | None, failure: Exception | None) -> None:
        """Make the run's end this future's: the only place where it becomes an exception."""
        if self.done():
            return
        if failure is None and outcome is not None and outcome.completed:
            self.set_result(outcome.result)
            return
        self.set_exception(own_copy(failure) if failure is not None else outcome.to_error())  # type: ignore[union-attr]
        self.exception()  # marks it as seen: an end that nobody asks for logs nothing
