"""RecordingTransport: a connection for tests of plugins, which answers as scripted and remembers what was sent."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from grctl.testing.answers import Answer
from grctl.testing.script import CommandName, LookName, Script, Scripted, name_of
from grctl.testing.small_server import SmallServer, read_end
from grctl_core.commands import Command, Reply
from grctl_core.durations import Duration, to_seconds
from grctl_core.errors import (
    ConnectionClosedError,
    DeliveryUnknownError,
    EventLoopError,
    InvalidInputError,
    NotSentError,
    UnsupportedOperationError,
)
from grctl_core.event_loop import running_loop
from grctl_core.history import HistoryEvent
from grctl_core.outcome import EncodedOutcome, ErrorDetails
from grctl_core.protocols import Capabilities, Connection, ConnectionEvent, ConnectionListener
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
        self._script = Script()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: list[ConnectionListener] = []
        self._in_flight: set[asyncio.Future[None]] = set()
        self._came = asyncio.Event()
        self._link = 1
        self._connected = True
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._connected else "disconnected"
        return f"<RecordingTransport {state}, {len(self.attempts)} attempts>"

    # What a test says.

    def on(self, name: CommandName | LookName, first: A, *others: Scripted, always: bool = False) -> A:
        """Script what becomes of the next commands of a kind, or of looks; returns the first answer.

        Calls add up. After the last answer the transport answers by itself again.

        >>> transport.on("send", refuse(4002), accept(), lose_reply())
        >>> transport.on("describe", fail(NotSentError("no link")), always=True)

        Args:
            name: ``start``, ``send``, ``cancel``, ``terminate``, ``describe``, ``query``; ``find_run``, ``has_begun``,
                ``find_type``.
            first: an Answer, or a function of the command that returns one. For a look: ``fail``, ``lose_request``,
                ``lose_reply``, ``hold``, ``delay`` or ``accept``.
            *others: for those that follow.
            always: the last answer stays for good.

        Raises:
            InvalidInputError: there is no such name, or something is no answer.

        """
        self._script.add(name, (first, *others), always=always)
        return first

    @property
    def remaining(self) -> dict[str, int]:
        """How many scripted answers nothing has come for: ``assert not transport.remaining`` ends a test."""
        return self._script.remaining

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
        if self._connected and not self._closed:
            self._connected = False
            self._fail_in_flight("the connection was lost before the reply came")
            self._tell(ConnectionEvent.DISCONNECTED)

    def reconnect(self) -> None:
        """Have a connection again, a new one: ``Reply.link`` tells it from the one before."""
        if not self._connected and not self._closed:
            self._connected = True
            self._link += 1
            self._tell(ConnectionEvent.CONNECTED)

    # What a client calls.

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return self._capabilities

    async def request(self, command: Command, *, timeout: float) -> Reply:
        """Record a command and answer it."""
        self._check_usable()
        name = name_of(command)
        attempt = RecordedAttempt(name, command, timeout)
        self.attempts.append(attempt)
        self._came.set()
        try:
            if name == "query" and not self._capabilities.queries:
                raise UnsupportedOperationError("this transport takes no queries: make it with queries=True")
            attempt.reply = await self._answer(name, command, timeout, lambda: self._server.carry_out(command))
            attempt.reply = msgspec.structs.replace(attempt.reply, link=self._link)
        except BaseException as error:
            attempt.error = error
            raise
        return attempt.reply

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
        self._check_usable()
        return self._server.watch(run)

    def history(self, run: RunRef, *, follow: bool) -> AsyncIterator[HistoryEvent]:
        """Iterate over ``run.started``, ``event.received`` for each event, and the run's end."""
        self._check_usable()
        return self._server.history(run, follow=follow)

    async def list_runs(self, run_filter: RunFilter) -> AsyncIterator[RunInfo]:
        """Iterate over the runs that the filter admits."""
        self._check_usable()
        for run in self.runs:
            if run_filter.admits(run):
                yield run

    def add_listener(self, listener: ConnectionListener) -> Callable[[], None]:
        """Have :meth:`disconnect`, :meth:`reconnect` and :meth:`close` call a listener; returns what removes it."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    async def close(self, *, grace: Duration = 5.0) -> None:
        """Close: waits end in ConnectionClosedError, commands without a reply are in doubt. Idempotent."""
        to_seconds("grace", grace, zero=True)
        if self._closed:
            return
        self._check_usable()
        self._closed = True
        self._fail_in_flight("the connection was closed before the reply came")
        self._server.fail_waits(_closed_error())
        self._tell(ConnectionEvent.CLOSED)

    async def __aenter__(self) -> Self:
        self._check_usable()
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # How it answers.

    async def _look(self, name: LookName, what: object, find: Callable[[], T]) -> T:
        self._check_usable()
        self.looks.append(name)
        found: T = await self._answer(name, what, None, find)
        return found

    async def _answer(self, name: str, what: object, timeout: float | None, carry_out: Callable[[], Any]) -> Any:
        """Do what the script says; the order of the script is the order in which commands come."""
        answer = self._script.take(name, what) if self._connected else Answer()  # what is not sent uses up no script
        link = self._link
        await asyncio.sleep(0)  # as any transport would, so that no caller keeps the loop for itself
        self._check_usable()
        if not self._connected:
            raise NotSentError("not sent: the connection is lost")
        if answer.error is not None:
            answer.begin(None)
            raise answer.error
        done = [carry_out() for _ in range(answer.carried_out)]
        await self._until_reply(answer, timeout)
        if answer.lost:
            raise DeliveryUnknownError("the reply was lost, as scripted", link=link)
        return answer.reply if answer.reply is not None else done[0]

    async def _until_reply(self, answer: Answer, timeout: float | None) -> None:
        if not answer.waits:
            answer.begin(None)
            return
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        link, context = self._link, contextvars.Context()
        timers = []
        if timeout is not None:
            said = f"no reply within {timeout:g} s"
            timers.append(loop.call_later(timeout, _settle, waiting, _unknown(said, link), context=context))
        if not answer.held:
            timers.append(loop.call_later(answer.seconds, _settle, waiting, None, context=context))
        self._in_flight.add(waiting)
        try:
            answer.begin(waiting)
            await waiting
        finally:
            self._in_flight.discard(waiting)
            for timer in timers:
                timer.cancel()

    def _fail_in_flight(self, why: str) -> None:
        for waiting in list(self._in_flight):
            _settle(waiting, _unknown(why, self._link))

    def _tell(self, event: ConnectionEvent) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - whatever it raises is its own affair
                _log.exception("listener %r failed", listener)

    def _check_usable(self) -> None:
        if self._closed:
            raise _closed_error()
        loop = running_loop("a RecordingTransport")
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise EventLoopError("this transport belongs to another event loop: make one in each")


def _settle(waiting: asyncio.Future[None], error: Exception | None) -> None:
    if not waiting.done():
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)


def _unknown(why: str, link: int) -> DeliveryUnknownError:
    return DeliveryUnknownError(why, link=link)


def _closed_error() -> ConnectionClosedError:
    return ConnectionClosedError("the transport was closed: make a new one")


if TYPE_CHECKING:

    def _is_a_connection(transport: RecordingTransport) -> Connection:
        return transport
