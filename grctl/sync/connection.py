"""Connection: a connection that any thread may use; connect() opens one."""

from __future__ import annotations

import functools
import os
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from grctl import connecting
from grctl.sync.loop_thread import LoopThread, closed_error, refuse_running_loop
from grctl_core.durations import Duration
from grctl_core.errors import ConnectionClosedError
from grctl_core.protocols import Capabilities, ConnectionListener
from grctl_core.protocols import Connection as AsyncConnection

if TYPE_CHECKING:
    from typing import Unpack

    from grctl_nats.settings import Options

__all__ = ["Connection", "connect"]

P = ParamSpec("P")
R = TypeVar("R")


def connect(url: str, **options: object) -> Connection:
    """Open a connection that any thread may use; the URL's scheme chooses the transport.

    The synchronous form of :func:`grctl.connect`, with the same arguments and errors. Close it:
    ``with connect(...) as connection``. One that is open when the interpreter exits is closed then.

    Args:
        url: where to: ``memory://``, ``nats://host:port`` or ``tls://host:port``.
        **options: the transport's own; unknown ones are refused.

    Raises:
        EventLoopError: an event loop is running in this thread: use the asynchronous client there.
        InvalidInputError, ConnectionFailedError, AccessDeniedError: as :func:`grctl.connect`.

    """
    return Connection._open(functools.partial(connecting.connect, url, **options))  # noqa: SLF001 - the same module


class Connection:
    """A connection that any thread may use. Made by :func:`connect`, :meth:`connect` or :meth:`open`.

    It has an event loop in a thread of its own, in which an asynchronous connection does the work. So closing one
    connection ends all that belongs to it, and what blocks one loop (a step of the embedded engine, a plugin) does not
    hold up another connection.

    A fork cannot use it: each call there raises EventLoopError, and closing it does nothing. Open one after the fork.
    """

    def __init__(self, thread: LoopThread, inner: AsyncConnection) -> None:
        """Take an asynchronous connection and the thread that it lives in; not for users."""
        self._thread = thread
        self._inner = inner
        thread.on_end = functools.partial(inner.close, grace=0)

    @classmethod
    def _open(cls, opener: Callable[[], Awaitable[AsyncConnection]]) -> Self:
        refuse_running_loop()
        thread = LoopThread()
        try:
            return cls(thread, thread.run(opener))
        except BaseException:
            thread.end()
            raise

    @classmethod
    def connect(cls, servers: str | Iterable[str] | None = None, **options: Unpack[Options]) -> Connection:
        """Return this process's connection over NATS, connecting if there is none yet, or none that is open.

        The synchronous form of :meth:`grctl.nats.connection.Connection.connect`, with its arguments and errors. It is
        one for all threads; a fork gets one of its own.
        """
        from grctl_nats.connection import NatsConnection

        return _shared.get(functools.partial(NatsConnection.connect, servers, **options))

    @classmethod
    def open(cls, servers: str | Iterable[str] | None = None, **options: Unpack[Options]) -> Self:
        """Open a connection of your own over NATS: :meth:`grctl.nats.connection.Connection.open`, synchronously."""
        from grctl_nats.connection import NatsConnection

        return cls._open(functools.partial(NatsConnection.open, servers, **options))

    def __enter__(self) -> Self:
        if self._thread.is_ended:
            raise closed_error()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def capabilities(self) -> Capabilities:
        """What the transport, and the server behind it, can do."""
        return self._inner.capabilities

    def ping(self, *, timeout: Duration = 5.0) -> timedelta:
        """Make one round trip to the server, for health checks: :meth:`grctl_core.protocols.Connection.ping`."""
        return self._thread.run(self._inner.ping, timeout=timeout)

    def add_listener(self, listener: ConnectionListener) -> Callable[[], None]:
        """Have a listener called at each ConnectionEvent, in the connection's own thread; returns what removes it.

        It must return at once, and cannot use the connection: its event loop is running there.
        """

        async def add() -> Callable[[], None]:
            return self._inner.add_listener(listener)

        remove = self._thread.run(add)

        async def removing() -> None:
            remove()

        return functools.partial(self._thread.post, removing)

    def run(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call an async function in the connection's own event loop, and wait for what comes of it.

        For what belongs to that loop: the clock of an embedded engine, say, ``connection.run(clock.advance, days=30)``.

        Raises:
            EventLoopError: an event loop is running in this thread, or this is a fork.
            ConnectionClosedError: the connection was closed.
            Exception: what the function raises.

        """
        return self._thread.run(function, *args, **kwargs)

    def close(self, *, grace: Duration = 5.0) -> None:
        """Close; idempotent, and whoever else calls it meanwhile returns when it is closed.

        In a fork it does nothing: the connection is its parent's.

        Args:
            grace: how long what is under way may take to end, in seconds or as a timedelta. Calls of other threads that
                have not ended by then, and all that wait for a run's end, raise their error.

        Raises:
            InvalidInputError: ``grace`` is no duration; nothing was closed.
            EventLoopError: an event loop is running in this thread.

        """
        if not self._thread.is_here:
            return
        try:
            self._thread.run(self._inner.close, grace=grace)
        except ConnectionClosedError:
            if not self._thread.is_ended:
                raise
        self._thread.end()
        self._thread.join()

    def __del__(self) -> None:
        thread = getattr(self, "_thread", None)
        if thread is not None and thread.is_here and not thread.is_ended:
            thread.end()
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        return f"<grctl.sync.Connection of {self._inner!r}>"


class _Shared:
    """The connection of this process that :meth:`Connection.connect` returns.

    The attempts to make it share a loop, and so are one attempt.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._connection: Connection | None = None

    def get(self, opener: Callable[[], Awaitable[AsyncConnection]]) -> Connection:
        """Return it; ``opener`` returns the one that is open in its loop, or opens one."""
        refuse_running_loop()
        with self._lock:
            if self._thread is None or self._thread.is_ended:
                self._thread = LoopThread()
            thread = self._thread
        inner = thread.run(opener)
        with self._lock:
            if self._connection is None or self._connection._inner is not inner:  # noqa: SLF001 - the same module
                self._connection = Connection(thread, inner)
            return self._connection

    def forget(self) -> None:
        """Begin anew in a fork; another thread may have held the lock at that moment."""
        self.__init__()  # type: ignore[misc]


_shared = _Shared()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.forget)
