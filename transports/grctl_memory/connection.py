"""MemoryConnection: a thin adapter from the Connection protocol to the embedded engine."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from grctl_core.commands import Command, QueryCommand, Reply
from grctl_core.durations import Duration, to_seconds
from grctl_core.errors import (
    ConnectionClosedError,
    DeliveryUnknownError,
    EventLoopError,
    InvalidInputError,
)
from grctl_core.event_loop import running_loop
from grctl_core.history import HistoryEvent
from grctl_core.listeners import Listeners
from grctl_core.outcome import EncodedOutcome
from grctl_core.ping import PING_TIMEOUT, ping
from grctl_core.protocols import Capabilities, Connection, ConnectionEvent, ConnectionListener
from grctl_core.run import RunFilter, RunInfo, RunRef
from grctl_core.workflow_type import TypeInfo
from grctl_engine.clock import Clock
from grctl_engine.definition import Workflow
from grctl_engine.engine import Engine
from grctl_engine.limits import EngineLimits

__all__ = ["MemoryConnection", "open_url"]

URL = "memory://"

_CAPABILITIES = Capabilities(workflow_timeout=True, queries=True)

_log = logging.getLogger("grctl.memory")
_log.addHandler(logging.NullHandler())  # a library prints nothing of its own accord


class MemoryConnection:
    """A connection to an engine in this process. Belongs to the event loop that it is first used in.

    async with await MemoryConnection.open(workflows=[wf]) as connection:
        client = Client(connection=connection)
    """

    def __init__(self, engine: Engine) -> None:
        """Connect to an engine that others may share: closing the connection does not close it.

        Raises:
            InvalidInputError: it is no engine.

        """
        if not isinstance(engine, Engine):
            raise InvalidInputError(f"engine must be an Engine, not {type(engine).__name__}")
        self._engine = engine
        self._owns_engine = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._closing: asyncio.Task[None] | None = None
        self._listeners = Listeners(_log)

    @classmethod
    async def open(
        cls,
        url: str = URL,
        *,
        workflows: Iterable[Workflow] | None = None,
        limits: EngineLimits | None = None,
        clock: Clock | None = None,
        engine: Engine | None = None,
    ) -> Self:
        """Connect to an engine: a new one, which is closed with the connection, or one that is there.

        Args:
            url: ``memory://``, nothing more.
            workflows: the workflow types that the new engine runs.
            limits: how much it holds.
            clock: its time; a ``ManualClock`` for tests.
            engine: an engine to share, instead of the above.

        Raises:
            InvalidInputError: another url, something that is no workflow, or an engine along with its own options.

        """
        if url != URL:
            raise InvalidInputError(
                f"{url!r}: the embedded engine is in this process, so its url is {URL!r}, with nothing after it"
            )
        if engine is not None:
            if workflows is not None or limits is not None or clock is not None:
                raise InvalidInputError("workflows, limits and clock are the engine's: pass them to Engine(...)")
            connection = cls(engine)
        else:
            connection = cls(Engine(() if workflows is None else workflows, limits=limits, clock=clock))
            connection._owns_engine = True
        connection._loop = running_loop("a connection")
        return connection

    def __repr__(self) -> str:
        return f"<MemoryConnection {'closed' if self._closed else 'to'} {self._engine!r}>"

    async def __aenter__(self) -> Self:
        self._check_usable()
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def engine(self) -> Engine:
        """The engine, for tests: ``connection.engine.clock``."""
        return self._engine

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do."""
        return _CAPABILITIES

    async def request(self, command: Command, *, timeout: float) -> Reply:
        """Have the engine carry out a command. ``timeout`` matters to queries alone: all else is answered at once.

        Cancelled while it waits for its turn of the event loop, the command is not carried out.
        """
        self._check_usable()
        await asyncio.sleep(0)  # as any transport would, so that no caller keeps the loop for itself
        self._check_usable()
        if type(command) is QueryCommand:
            return await self._query(command, timeout)
        return self._engine.execute(command)

    async def _query(self, command: QueryCommand, timeout: float) -> Reply:
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await self._engine.query(command)
        except TimeoutError:
            raise DeliveryUnknownError(
                f"query {command.query_name!r} of workflow {command.wf_id!r} was not answered within {timeout:g} s"
            ) from None

    async def ping(self, *, timeout: Duration = PING_TIMEOUT) -> timedelta:
        """Make one round trip to the engine; return how long it took."""
        self._check_usable()
        return await ping(lambda command, seconds: self.request(command, timeout=seconds), timeout)

    def watch(self, run: RunRef) -> asyncio.Future[EncodedOutcome]:
        """Return a new future of the run's end."""
        self._check_usable()
        return self._engine.watch(run, owner=self)

    async def find_run(self, run: RunRef) -> RunInfo | None:
        """Return the record of exactly this run."""
        self._check_usable()
        return self._engine.find_run(run)

    async def has_begun(self, run: RunRef) -> bool:
        """Whether the engine has the run."""
        self._check_usable()
        return self._engine.has_begun(run)

    async def find_type(self, workflow_type: str) -> TypeInfo | None:
        """Return what is registered for a workflow type."""
        self._check_usable()
        return self._engine.find_type(workflow_type)

    def history(self, run: RunRef, *, follow: bool) -> AsyncIterator[HistoryEvent]:
        """Iterate over a run's history."""
        self._check_usable()
        return self._engine.history(run, follow=follow, owner=self, check=self._check_usable)

    def list_runs(self, run_filter: RunFilter) -> AsyncIterator[RunInfo]:
        """Iterate over the runs that the filter admits."""
        self._check_usable()
        return self._engine.list_runs(run_filter, check=self._check_usable)

    def add_listener(self, listener: ConnectionListener) -> Callable[[], None]:
        """Have a listener called when the connection is closed; returns what removes it."""
        return self._listeners.add(listener)

    async def close(self, *, grace: Duration = 5.0) -> None:
        """Close the connection, and with it the engine if :meth:`open` made it.

        Idempotent: whoever else calls it meanwhile returns when it is closed. It goes on when its caller is cancelled.

        Args:
            grace: how long an engine of its own lets running steps go on, in seconds or as a timedelta; 0 for not at
                all.

        Raises:
            InvalidInputError: ``grace`` is no duration; nothing was closed.
            EventLoopError: this is not the connection's event loop.

        """
        seconds = to_seconds("grace", grace, zero=True)
        if self._closing is None:
            self._check_usable()
            self._closed = True
            closing = self._close(seconds, asyncio.current_task())
            self._closing = asyncio.get_running_loop().create_task(closing, context=contextvars.Context())
        await asyncio.shield(self._closing)

    async def _close(self, grace: float, closer: asyncio.Task[Any] | None) -> None:
        try:
            if self._owns_engine:
                await self._engine.close(grace, error=_closed_error, closer=closer)
        finally:
            self._engine.release(self, _closed_error)
            self._listeners.tell(ConnectionEvent.CLOSED)

    def _check_usable(self) -> None:
        if self._closed:
            raise _closed_error()
        loop = running_loop("a connection")
        if self._loop is not loop:
            if self._loop is not None:
                raise EventLoopError(
                    "this connection belongs to another event loop, the one that it was opened in: open one in each "
                    "event loop, or stay in one asyncio.run()"
                )
            self._loop = loop


def _closed_error() -> ConnectionClosedError:
    return ConnectionClosedError("the connection was closed: open a new one with MemoryConnection.open()")


async def open_url(
    url: str,
    *,
    workflows: Iterable[Workflow] | None = None,
    limits: EngineLimits | None = None,
    clock: Clock | None = None,
    engine: Engine | None = None,
) -> MemoryConnection:
    """Open a connection by url: the door's way in. See :meth:`MemoryConnection.open`."""
    return await MemoryConnection.open(url, workflows=workflows, limits=limits, clock=clock, engine=engine)


if TYPE_CHECKING:

    def _is_a_connection(connection: MemoryConnection) -> Connection:
        return connection
