"""RecordingTransport: a connection for tests of plugins, which answers as scripted and remembers what was sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from grctl.testing.script import CommandName, LookName, Scripted, name_of
from grctl.testing.scripted_link import ScriptedLink, closed_error
from grctl.testing.small_server import SmallServer, read_end
from grctl_core.commands import Command, Reply
from grctl_core.durations import Duration, to_seconds
from grctl_core.errors import (
    InvalidInputError,
    UnsupportedOperationError,
)
from grctl_core.history import HistoryEvent
from grctl_core.outcome import EncodedOutcome, ErrorDetails
from grctl_core.ping import PING_TIMEOUT, ping
from grctl_core.protocols import Capabilities, Connection, ConnectionListener
from grctl_core.run import RunFilter, RunInfo, RunRef, RunStatus
from grctl_core.workflow_type import TypeInfo

__all__ = ["RecordedAttempt", "RecordingTransport"]

_log = logging.getLogger("grctl.testing")

A = TypeVar("A", bound=Scripted)
T = TypeVar("T")


@dataclass(eq=False)
class RecordedAttempt:
    """One command that came to the transport, and what became of it.

    Attributes:
        name: the command, named after its operation: ``"start"``, ``"send"``, ...
        command: what was sent, of ``grctl_core.commands``; its values are encoded.
        timeout: seconds that the reply was given.
        reply: what it was answered with, None where it was not, or not yet.
        error: what was raised instead, a CancelledError too.
    """

    name: CommandName
    command: Any
    timeout: float
    reply: Reply | None = None
    error: BaseException | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """The message headers; empty where there are none."""
        headers: Mapping[str, str] | None = self.command.headers
        return {} if headers is None else headers


class RecordingTransport:
    """A connection to no server: it answers as scripted, else as a small healthy server would.

    Without a script a start begins a run, describe returns its record, events are accepted, cancel and terminate end
    the run, and it ends otherwise when :meth:`end` says so. No workflow is executed, and nothing takes time.

    >>> import asyncio
    >>> from grctl import Client
    >>> from grctl.testing import RecordingTransport, lose_reply
    >>> async def main():
    ...     async with RecordingTransport() as transport:
    ...         transport.on("send", lose_reply())
    ...         client = Client(connection=transport)  # plugins=[the one under test]
    ...         handle = await client.start_workflow("Order", "order-1", {"qty": 1})
    ...         try:
    ...             await handle.send("approve")
    ...         except Exception as error:
    ...             print(type(error).__name__)
    ...         transport.end("order-1", result="shipped")
    ...         print(await handle.result(), [attempt.name for attempt in transport.attempts])
    >>> asyncio.run(main())
    DeliveryUnknownError
    shipped ['start', 'send']

    It belongs to the event loop that it is first used in.
    """

    def __init__(self, *, types: Iterable[TypeInfo] | None = None, queries: bool = True) -> None:
        """Make a transport.

        Args:
            types: the workflow types that are registered; starting another is refused. By default every type can be
                started, and nothing is known of its events.
            queries: whether it takes queries. One that is not scripted is answered with None.

        """
        self.attempts: list[RecordedAttempt] = []
        """Every command that came, in order: those that nothing was sent of too."""
        self.looks: list[LookName] = []
        """Every look at the records, in order."""
        self._server = SmallServer(None if types is None else {info.name: info for info in types})
        self._capabilities = Capabilities(queries=queries)
        self._link = ScriptedLink()
        self._came = asyncio.Event()

    def __repr__(self) -> str:
        state = "closed" if self._link.closed else "open" if self._link.connected else "disconnected"
        return f"<RecordingTransport {state}, {len(self.attempts)} attempts>"

    # What a test says.

    def on(self, name: CommandName | LookName, first: A, *others: Scripted, always: bool = False) -> A:
        """Script what becomes of the next commands of a kind, or of looks; returns the first answer.

        Calls add up. After the last answer the transport answers by itself again.

        >>> transport.on("send", refuse(4002), accept(), lose_reply())
        >>> transport.on("describe", fail(NotSentError("no link")), always=True)

        Args:
            name: ``start``, ``send``, ``cancel``, ``terminate``, ``describe``, ``query``; ``find_run``, ``has_begun``,
                ``find_type``, ``ping``.
            first: an Answer, or a function of the command that returns one. For a look: ``fail``, ``lose_request``,
                ``lose_reply``, ``hold``, ``delay`` or ``accept``.
            *others: for those that follow.
            always: the last answer stays for good.

        Raises:
            InvalidInputError: there is no such name, or something is no answer.

        """
        self._link.script.add(name, (first, *others), always=always)
        return first

    @property
    def remaining(self) -> dict[str, int]:
        """How many scripted answers nothing has come for: ``assert not transport.remaining`` ends a test."""
        return self._link.script.remaining

    def end(
        self,
        run: RunInfo | RunRef | str,
        status: RunStatus | str | None = None,
        *,
        result: object = None,
        error: ErrorDetails | Exception | None = None,
        reason: str = "",
    ) -> RunInfo:
        """End a run; whoever waits for it learns it. Returns its record.

        Args:
            run: the run, its id, or its workflow id for the latest.
            status: how; by default completed, or failed where there is an ``error``.
            result: of a completed run.
            error: of a failed run; an exception is told as a worker would tell it.
            reason: of a cancelled or terminated run.

        Raises:
            InvalidInputError: there is no such run, it has ended, or this is no end.

        """
        record = self._server.find(run)
        if record.is_finished:
            raise InvalidInputError(f"run {record.id} of {record.wf_id!r} has ended already: {record.status}")
        return self._server.end(record, read_end(status, result, error, reason))

    def end_on_start(
        self,
        workflow_type: str,
        status: RunStatus | str | None = None,
        *,
        result: object = None,
        error: ErrorDetails | Exception | None = None,
        reason: str = "",
    ) -> None:
        """Have every run of a type end as soon as it begins: for ``run_workflow``. Arguments as for :meth:`end`."""
        self._server.ends_on_start[workflow_type] = read_end(status, result, error, reason)

    def run(self, run: RunInfo | RunRef | str) -> RunInfo:
        """Return the record of a run, by its id or, the latest, by its workflow id.

        Raises:
            InvalidInputError: there is none.

        """
        return self._server.find(run)

    def add_run(self, run: RunInfo) -> RunInfo:
        """Have a run that somebody else has started; return its record."""
        return self._server.add(run)

    @property
    def runs(self) -> list[RunInfo]:
        """The records of all runs, in the order of their starts."""
        return list(self._server.runs.values())

    def sent(self, name: CommandName) -> list[Any]:
        """Return the commands of a kind that came, in order; a copy."""
        return [attempt.command for attempt in self.attempts if attempt.name == name]

    async def came(self, name: CommandName, times: int = 1) -> list[Any]:
        """Wait until so many commands of a kind have come; return them."""
        while len(found := self.sent(name)) < times:
            self._came.clear()
            await self._came.wait()
        return found

    @property
    def live_watches(self) -> int:
        """How many waits for a run's end there are now: 0 when nothing is left behind."""
        return self._server.live_watches

    def disconnect(self) -> None:
        """Lose the connection: commands that wait for a reply are in doubt, others are not sent; waits go on."""
        self._link.disconnect()

    def reconnect(self) -> None:
        """Have a connection again, a new one: ``Reply.link`` tells it from the one before."""
        self._link.reconnect()

    # What a client calls.

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return self._capabilities

    async def request(self, command: Command, *, timeout: float) -> Reply:
        """Record a command and answer it."""
        self._link.check_usable()
        name = name_of(command)
        attempt = RecordedAttempt(name, command, timeout)
        self.attempts.append(attempt)
        self._came.set()
        try:
            if name == "query" and not self._capabilities.queries:
                raise UnsupportedOperationError("this transport takes no queries: make it with queries=True")
            attempt.reply = await self._link.answer(name, command, timeout, lambda: self._server.carry_out(command))
            attempt.reply = msgspec.structs.replace(attempt.reply, link=self._link.number)
        except BaseException as error:
            attempt.error = error
            raise
        return attempt.reply

    async def ping(self, *, timeout: Duration = PING_TIMEOUT) -> timedelta:
        """Make one round trip. It is a look, ``on("ping", fail(NotDeliveredError("no server")))``, and no attempt."""

        async def answer(command: Command, seconds: float) -> Reply:
            return await self._look("ping", command, lambda: self._server.carry_out(command), seconds)

        return await ping(answer, timeout)

    async def find_run(self, run: RunRef) -> RunInfo | None:
        """Return the record of exactly this run."""

        def find() -> RunInfo | None:
            found = self._server.runs.get(run.run_id)
            return found if found is not None and found.wf_id == run.wf_id else None

        return await self._look("find_run", run, find)

    async def has_begun(self, run: RunRef) -> bool:
        """Whether there is such a run: all begin at once."""
        return await self._look("has_begun", run, lambda: run.run_id in self._server.runs)

    async def find_type(self, workflow_type: str) -> TypeInfo | None:
        """Return what was given as ``types``."""
        return await self._look("find_type", workflow_type, lambda: (self._server.types or {}).get(workflow_type))

    def watch(self, run: RunRef) -> asyncio.Future[EncodedOutcome]:
        """Return a new future of the run's end."""
        self._link.check_usable()
        return self._server.watch(run)

    def history(self, run: RunRef, *, follow: bool) -> AsyncIterator[HistoryEvent]:
        """Iterate over ``run.started``, ``event.received`` for each event, and the run's end."""
        self._link.check_usable()
        return self._server.history(run, follow=follow)

    async def list_runs(self, run_filter: RunFilter) -> AsyncIterator[RunInfo]:
        """Iterate over the runs that the filter admits."""
        self._link.check_usable()
        for run in self.runs:
            if run_filter.admits(run):
                yield run

    def add_listener(self, listener: ConnectionListener) -> Callable[[], None]:
        """Have :meth:`disconnect`, :meth:`reconnect` and :meth:`close` call a listener; returns what removes it."""
        return self._link.add_listener(listener)

    async def close(self, *, grace: Duration = 5.0) -> None:
        """Close: waits end in ConnectionClosedError, commands without a reply are in doubt. Idempotent."""
        to_seconds("grace", grace, zero=True)
        if self._link.closed:
            return
        self._link.check_usable()
        self._link.close(lambda: self._server.fail_waits(closed_error()))

    async def __aenter__(self) -> Self:
        self._link.check_usable()
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _look(self, name: LookName, what: object, find: Callable[[], T], timeout: float | None = None) -> T:
        self._link.check_usable()
        self.looks.append(name)
        found: T = await self._link.answer(name, what, timeout, find)
        return found


if TYPE_CHECKING:

    def _is_a_connection(transport: RecordingTransport) -> Connection:
        return transport
