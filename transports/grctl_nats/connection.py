"""NatsConnection: to a Ground Control server over NATS."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import os
import socket
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, Unpack

import msgspec

from grctl_core.commands import (
    CancelCommand,
    Command,
    DescribeCommand,
    ErrorCode,
    EventCommand,
    Reply,
    StartCommand,
    TerminateCommand,
)
from grctl_core.durations import Duration, to_seconds
from grctl_core.errors import (
    DecodeError,
    DeliveryUnknownError,
    EventLoopError,
    InvalidInputError,
    NotDeliveredError,
    NotSentError,
)
from grctl_core.event_loop import OwnLoop, running_loop
from grctl_core.history import HistoryEvent
from grctl_core.listeners import Listeners
from grctl_core.outcome import EncodedOutcome
from grctl_core.ping import PING_TIMEOUT, ping
from grctl_core.protocols import Capabilities, ConnectionEvent, ConnectionListener
from grctl_core.run import RunFilter, RunInfo, RunRef
from grctl_core.secret import Secret, call
from grctl_core.wire import refusal
from grctl_core.workflow_type import TypeInfo
from grctl_nats import safeguards, subjects, wire
from grctl_nats.deadlines import Deadlines
from grctl_nats.ending import TIMEOUT_REASON
from grctl_nats.history import find_run_info, read_history
from grctl_nats.latest_runs import LatestRuns
from grctl_nats.link import Link
from grctl_nats.listing import list_runs
from grctl_nats.records import Records
from grctl_nats.settings import Options, Settings, read_settings, servers_of_environment
from grctl_nats.slots import Slots
from grctl_nats.tasks import end_tasks
from grctl_nats.uplink import Uplink, closed_error
from grctl_nats.watcher import Watcher

__all__ = ["NatsConnection", "open_url"]

_log = logging.getLogger("grctl.nats")

_CERTAIN = frozenset({ErrorCode.FINISHED, ErrorCode.TYPE_NOT_REGISTERED, ErrorCode.BAD_MESSAGE})
"""Codes of a refused start that say for certain that nothing was started."""

_CAPABILITIES = Capabilities(queries=False, workflow_timeout=False)


class NatsConnection:
    """A connection to a Ground Control server over NATS. It belongs to the event loop that it was opened in.

    When the broker goes away it connects anew by itself, for as long as it takes. What was under way then ends at once
    as DeliveryUnknownError; what is asked meanwhile ends at once as NotSentError. Waits go on.

    Use :meth:`connect` or :meth:`open`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._safeguards = settings.safeguards
        self._loop = running_loop("a connection")
        self._sender = f"c_{os.urandom(4).hex()}@{socket.gethostname() or 'localhost'}"
        self._listeners = Listeners(_log)
        self._own_loop = OwnLoop(self._loop)
        self._slots = Slots(settings.max_in_flight)
        self._under_way = 0
        self._idle = asyncio.Event()  # set by the last request that ends while the connection is being closed
        self._closer: asyncio.Task[None] | None = None  # from the first close() on
        self._clock = (datetime.now(UTC), self._loop.time())
        self._seen = LatestRuns()
        self._ended = LatestRuns()
        self._warned = False
        self._refused: set[str] = set()
        self._refused_hints: set[str] = set()
        self._uplink = Uplink(settings, self._prepare, self._changed)
        self._records = Records(lambda: self._uplink.link, settings.request_timeout)
        self._ending: Counter[str] = Counter()  # cancels and terminates under way, by workflow id
        self._deadlines = Deadlines(
            self.find_run,
            self._latest,
            self._send,
            is_ending=lambda wf_id: wf_id in self._ending,
            broker_now=self._broker_now,
            compare_clocks=self._compare_clocks,
            reason=TIMEOUT_REASON,
        )
        self._watcher = Watcher(self._records, self._deadlines.uphold, self._saw_end)

    @classmethod
    async def connect(cls, servers: str | Iterable[str] | None = None, **options: Unpack[Options]) -> Self:
        """Return this event loop's connection, connecting if there is none yet, or none that is open.

        Concurrent first calls share one attempt; a caller that is cancelled does not end it for the others. Where a
        connection is open already the arguments are not used, and a warning is given if the servers differ: those of
        the arguments, else of the environment.

        Args:
            servers: addresses, comma-separated or as a list. By default the environment's GRCTL_NATS_SERVERS, else
                ``nats://localhost:4225``.
            **options: as for :meth:`open`.

        Raises:
            InvalidInputError, AccessDeniedError, ConnectionFailedError, UnsupportedOperationError: as :meth:`open`.

        """
        reading = Secret(functools.partial(read_settings, servers, **options))
        names_servers = servers is not None or options.get("context") is not None
        del servers, options  # no traceback is to show what is in them
        loop = running_loop("a connection")
        for other in [loop for loop in _shared if loop.is_closed()]:
            del _shared[other]
        shared = _shared.get(loop)
        if shared is not None and not shared.is_usable():
            shared = None
        if shared is None:
            settings = call(reading)
            # An empty context, or the connection's tasks would keep the span of whoever happened to connect first.
            task = loop.create_task(cls._open(settings), name="grctl-connect", context=contextvars.Context())
            task.add_done_callback(_see, context=contextvars.Context())
            shared = _shared[loop] = _Shared(task, settings.servers)
        elif names_servers or servers_of_environment() is not None:
            wanted = call(reading).servers
            if wanted != shared.servers:
                warnings.warn(
                    f"Connection.connect() returned the connection to {_listed(shared.servers)} that is open in this "
                    f"event loop, not one to {_listed(wanted)}: for a second one call Connection.open()",
                    UserWarning,
                    stacklevel=2,
                )
        return await asyncio.shield(shared.task)

    @classmethod
    async def open(cls, servers: str | Iterable[str] | None = None, **options: Unpack[Options]) -> Self:
        """Open a connection of your own.

        Args:
            servers: addresses, comma-separated or as a list; tried in turn. By default the environment's
                GRCTL_NATS_SERVERS, else ``nats://localhost:4225``.
            **options: ``user`` and ``password``, ``token``, ``credentials`` (path), ``nkey`` (seed, or path), one of
                them; password and token may be functions that return it, and files are read at each connect;
                ``tls`` (an SSLContext), or ``tls_ca``, ``tls_cert``, ``tls_key`` (paths); ``context`` (name of a NATS
                command line context); ``connect_timeout`` (in all, default 5 s), ``request_timeout`` (of one look at
                the records, default 5 s); ``name``; ``max_in_flight`` (requests that wait for their reply at once,
                default 512; further ones queue); ``safeguards``; ``inbox_prefix`` (of the subjects that replies come
                to, default ``_INBOX``).

        Raises:
            InvalidInputError: an argument is wrong.
            AccessDeniedError: the broker refuses the login.
            ConnectionFailedError: nobody answers, or somebody who is not trusted.
            UnsupportedOperationError: the broker has no JetStream, or no Ground Control.

        """
        reading = Secret(functools.partial(read_settings, servers, **options))
        del servers, options  # no traceback is to show what is in them
        settings = call(reading)
        opening = running_loop("a connection").create_task(cls._open(settings), context=contextvars.Context())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # In a task of its own: whoever is cancelled once may be cancelled again, as by anyio's scopes.
            giving_up = opening.get_loop().create_task(cls._give_up(opening), context=contextvars.Context())
            _giving_up.add(giving_up)
            giving_up.add_done_callback(_giving_up.discard, context=contextvars.Context())
            await asyncio.shield(giving_up)
            raise

    @classmethod
    async def _give_up(cls, opening: asyncio.Task[Self]) -> None:
        await end_tasks(opening)
        if not opening.cancelled() and opening.exception() is None:
            await opening.result().close(grace=0)

    @classmethod
    async def _open(cls, settings: Settings) -> Self:
        self = cls(settings)
        try:
            await self._uplink.open()
        except BaseException:
            await self.close(grace=0)
            raise
        return self

    def __repr__(self) -> str:
        closer = self._closer
        state = "open" if closer is None else "closed" if closer.done() else "closing"
        return f"<NatsConnection to {_listed(self._settings.servers)}, {state}>"

    async def __aenter__(self) -> Self:
        self._check_usable()
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def capabilities(self) -> Capabilities:
        """What a Ground Control server can do."""
        return _CAPABILITIES

    def request(self, command: Command, *, timeout: float) -> Coroutine[Any, Any, Reply]:
        """Send one command; see ``grctl_core.protocols.Connection.request``.

        What nothing has to be done for before it or after it, as for nearly all, has no coroutine more than it takes.
        """
        self._check_usable()
        subjects.check_tokens(command.wf_id)
        return self._send(command, timeout) if self._is_plain(command) else self._send_guarded(command, timeout)

    def _is_plain(self, command: Command) -> bool:
        if type(command) is StartCommand:
            return command.run.timeout is None and self._ended.get(command.wf_id) is None
        if type(command) is EventCommand:
            return command.run is None or not self._safeguards.settled_before_send
        return type(command) is DescribeCommand

    async def _send_guarded(self, command: Command, timeout: float) -> Reply:
        self._enter()
        try:
            guard = self._guard(command)
            if guard is not None:
                try:
                    await guard
                except DeliveryUnknownError as error:  # of a look: the command itself is certainly not sent
                    raise NotSentError(f"not sent: looking at the run first failed: {error}") from error
            if type(command) is StartCommand:
                return await self._start(command, timeout)
            if type(command) is CancelCommand or type(command) is TerminateCommand:
                return await self._end(command, timeout)
            return await self._send(command, timeout)
        finally:
            self._leave()

    def _enter(self) -> None:
        self._under_way += 1

    def _leave(self) -> None:
        self._under_way -= 1
        if not self._under_way and self._closer is not None:
            self._idle.set()

    async def _start(self, command: StartCommand, timeout: float) -> Reply:
        """Send a start. From then on its timeout is upheld, however this ends, unless it certainly started nothing."""
        run = command.run
        begun = self._deadlines.uphold(run, started_here=True)  # not so where an earlier try may have started it
        try:
            reply = await self._send(command, timeout)
        except (NotSentError, NotDeliveredError, InvalidInputError):
            if begun:
                self._deadlines.forget(run.ref)
            raise
        if begun and _is_refused(reply, run):
            self._deadlines.forget(run.ref)
        return reply

    async def _end(self, command: CancelCommand | TerminateCommand, timeout: float) -> Reply:
        """Send a cancel or terminate. Meanwhile no deadline terminates the run too (safeguard 5)."""
        self._ending[command.wf_id] += 1
        try:
            return await self._send(command, timeout)
        finally:
            self._ending[command.wf_id] -= 1
            if not self._ending[command.wf_id]:
                del self._ending[command.wf_id]

    def _guard(self, command: Command) -> Awaitable[None] | None:
        """Return what to wait for before the command may go out; None, for nothing, is by far the most common."""
        guards = self._safeguards
        if type(command) is StartCommand:
            ended = self._ended.get(command.wf_id) if guards.residue_before_start else None
            return None if ended is None else self._wait_for_residue(ended)
        if type(command) is EventCommand and guards.settled_before_send and command.run is not None:
            return safeguards.wait_until_settled(self._records, command.run, guards.settled_within)
        if type(command) is CancelCommand and guards.begun_before_cancel:
            return safeguards.wait_until_begun(lambda: self._latest(command.wf_id), guards.begun_within)
        return None

    async def _wait_for_residue(self, ended: RunRef) -> None:
        await safeguards.wait_for_residue(self._records, ended, self._safeguards.residue_within)
        self._ended.drop(ended)

    async def _send(self, command: Command, timeout: float | None = None) -> Reply:
        self._enter()
        try:
            if not self._slots.take_now():
                await self._slots.take()
            try:
                reply = await self._exchange(command, self._settings.request_timeout if timeout is None else timeout)
            finally:
                self._slots.give_back()
        finally:
            self._leave()
        if reply.success:
            self._note(command, reply)
        return reply

    async def _exchange(self, command: Command, timeout: float) -> Reply:
        body = memoryview(wire.encode_command(command, self._sender))  # its repr shows no byte of it
        headers = dict(command.headers) if command.headers else None
        link = self._uplink.link
        if type(command) is StartCommand:
            self._watcher.starts(command.run.ref)
        if self._safeguards.size_margin:
            safeguards.check_size(body, link.max_payload)
        answer = (await link.request(subjects.command(command.wf_id), body, headers, timeout)).data
        try:
            return wire.decode_reply(answer, command, link.number)
        except DecodeError as error:
            raise DeliveryUnknownError(f"the server answered, but {error}", link=link.number) from error

    def _note(self, command: Command, reply: Reply) -> None:
        """Remember which run an id has, and which one a terminate ended; the terminate itself names the id alone."""
        if type(command) is StartCommand:
            self._seen.put(command.run.ref)
        elif reply.run is not None:
            self._seen.put(reply.run.ref)
        if type(command) is TerminateCommand and (ended := self._seen.get(command.wf_id)) is not None:
            self._ended.put(ended)

    async def ping(self, *, timeout: Duration = PING_TIMEOUT) -> timedelta:
        """Make one round trip to the server, for health checks; return how long it took.

        It takes no slot of ``max_in_flight``: how busy this process is does not count.

        Args:
            timeout: seconds, or a timedelta, for all of it.

        Raises:
            NotSentError: there is no connection to a broker at the moment.
            NotDeliveredError: the broker is there, and no server listens on it.
            DeliveryUnknownError: no answer came in time: server or broker are stuck, or overloaded.
            ConnectionClosedError: the connection was closed.
            AccessDeniedError: the broker refuses the subject, ``grctl_api.workflow.*``.
            ServerError: the server answered that it cannot look at its records.
            InvalidInputError: ``timeout`` is no duration.

        """
        self._check_usable()
        self._enter()
        try:
            return await ping(self._exchange, timeout)
        finally:
            self._leave()

    def watch(self, run: RunRef) -> asyncio.Future[EncodedOutcome]:
        """Return a new future of the run's end; see ``grctl_core.protocols.Connection.watch``."""
        self._check_run(run)
        return self._watcher.watch(run)

    async def find_run(self, run: RunRef) -> RunInfo | None:
        """Return the stored record of exactly this run."""
        self._check_run(run)
        record = await find_run_info(self._records, run)
        return None if record is None else wire.decode_run_info(record, run)

    async def has_begun(self, run: RunRef) -> bool:
        """Whether the server has a state record of the run."""
        self._check_run(run)
        return await self._records.last(subjects.run_state(run)) is not None

    async def find_type(self, workflow_type: str) -> TypeInfo | None:
        """Return what is registered for a workflow type."""
        self._check_usable()
        subjects.check_tokens(workflow_type)
        record = await self._records.last(subjects.registry(workflow_type))
        return None if record is None else wire.decode_type_info(record.body)

    def history(self, run: RunRef, *, follow: bool) -> AsyncIterator[HistoryEvent]:
        """Iterate over a run's history; goes on over reconnects."""
        self._check_run(run)
        return read_history(self._records, self._uplink, run, follow=follow)

    def list_runs(self, run_filter: RunFilter) -> AsyncIterator[RunInfo]:
        """Iterate over the runs that the filter admits; ends in an error when the connection is lost meanwhile."""

        def link() -> Link:
            self._check_usable()
            subjects.check_tokens(run_filter.workflow_type)
            return self._uplink.link

        return list_runs(link, run_filter, self._settings.request_timeout)

    def add_listener(self, listener: ConnectionListener) -> Callable[[], None]:
        """Have a listener called when the connection is up, lost or closed; returns what removes it."""
        return self._listeners.add(listener)

    async def close(self, *, grace: Duration = 5.0) -> None:
        """Close.

        Idempotent: whoever else calls it meanwhile returns when it is closed. It goes on when its caller is cancelled.

        Args:
            grace: how long requests under way may take to end, in seconds or as a timedelta; after that they end as
                DeliveryUnknownError.

        Raises:
            InvalidInputError: ``grace`` is no duration; nothing was closed.
            EventLoopError: this is not the connection's event loop.

        """
        seconds = to_seconds("grace", grace, zero=True)
        self._check_loop()
        if self._closer is None:
            closing = self._close(seconds)
            self._closer = self._loop.create_task(closing, name="grctl-nats-close", context=contextvars.Context())
        await asyncio.shield(self._closer)

    async def _close(self, grace: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                if self._under_way:
                    await self._idle.wait()
        await self._deadlines.close()
        await self._watcher.close()
        await self._uplink.close()
        self._listeners.tell(ConnectionEvent.CLOSED)

    async def _prepare(self, link: Link) -> None:
        """See to it that Ground Control is behind a new link, and compare the clocks."""
        await self._compare_clocks(Records(lambda: link, self._settings.request_timeout))
        if self._safeguards.second_reply_warning:
            link.replies.on_second = lambda: self._second_reply(link.server)
        link.on_dropped = self._watcher.hints_lost
        link.on_hints_refused = lambda subject: self._hints_refused(link.server, subject)
        link.on_unheard_refusal = self._refused_unheard

    def _changed(self, link: Link | None) -> None:
        if link is not None:
            self._watcher.link_up(link)
        self._listeners.tell(ConnectionEvent.DISCONNECTED if link is None else ConnectionEvent.CONNECTED)

    def _second_reply(self, server: str) -> None:
        """Safeguard 10: somebody else answers too."""
        if not self._warned:
            self._warned = True
            _log.warning(
                "a request was answered twice: two Ground Control servers seem to run on the broker %s, which "
                "doubles and loses events. Stop one of them",
                server,
            )

    def _refused_unheard(self, subject: str, said: str) -> None:
        """Warn of what no call can raise, once for each kind of subject: behind that are ids."""
        kind = ".".join(subject.split(".")[: 5 if subject.startswith("$js.") else 2])
        if kind not in self._refused:
            self._refused.add(kind)
            _log.warning("%s", said)

    def _hints_refused(self, server: str, subject: str) -> None:
        """Warn, once for each kind of hint: each follower has a subject of its own."""
        kind = subject.partition(".")[0]
        if kind not in self._refused_hints:
            self._refused_hints.add(kind)
            _log.warning(
                "the broker %s refuses the subscription to %r: ends and events are seen only by looking again and "
                "again, seconds late. Have its administrator permit it",
                server,
                subject,
            )

    def _saw_end(self, run: RunInfo) -> None:
        self._deadlines.forget(run.ref)
        self._ended.put(run.ref)

    async def _latest(self, wf_id: str) -> RunInfo | None:
        """Return the latest run of the id by the server's word; None only where it says that there is none.

        Raises:
            RefusedError: it said neither.

        """
        reply = await self._send(DescribeCommand(wf_id=wf_id))
        if reply.success and reply.run is not None:
            return reply.run
        if reply.error is not None and reply.error.code == ErrorCode.NOT_FOUND:
            return None
        raise refusal(reply, "describe", RunRef(wf_id, ""), changes_state=False)

    async def _compare_clocks(self, records: Records | None = None) -> None:
        state = await (records or self._records).state()
        self._clock = (state.now, self._loop.time())

    def _broker_now(self) -> datetime:
        """Return the broker's time. The clock of this machine is no part of it: somebody may set that."""
        then, read_at = self._clock
        return then + timedelta(seconds=self._loop.time() - read_at)

    def _check_usable(self) -> None:
        if self._closer is not None:
            raise closed_error()
        self._check_loop()

    def _check_run(self, run: RunRef) -> None:
        self._check_usable()
        subjects.check_tokens(run.wf_id, run.run_id, run.wf_type)

    def _check_loop(self) -> None:
        if self._own_loop.runs_here():
            return
        if running_loop("the connection") is not self._loop:  # in a child process that was forked none is running
            raise EventLoopError(
                "this connection belongs to another event loop, the one that it was opened in: open one in each "
                "event loop, or stay in one asyncio.run()"
            )


class _Shared(msgspec.Struct):
    """The connection of one event loop, or the attempt to make it."""

    task: asyncio.Task[Any]
    servers: tuple[Any, ...]

    def is_usable(self) -> bool:
        if not self.task.done():
            return True
        if self.task.cancelled() or self.task.exception() is not None:
            return False
        connection: NatsConnection = self.task.result()
        return connection._closer is None  # noqa: SLF001 - its own module


_giving_up: set[asyncio.Task[None]] = set()
"""Held until they are done, as the loop does not."""

_shared: dict[asyncio.AbstractEventLoop, _Shared] = {}
"""Held until the loop is closed and somebody connects in another one."""


def _is_refused(reply: Reply, run: RunInfo) -> bool:
    """Whether a reply to a start says that this run was certainly not started.

    Codes 5000 and 0 leave it open, and the active run of a 4001 may be this one, of a start that came twice.
    """
    if reply.success or reply.error is None:
        return False
    if reply.error.code == ErrorCode.ALREADY_RUNNING:
        return run.id not in reply.error.detail
    return reply.error.code in _CERTAIN


def _see(task: asyncio.Task[Any]) -> None:
    """Look at how an attempt ended, as all its callers may have left: or asyncio would log that nobody did."""
    if not task.cancelled():
        task.exception()


def _listed(servers: Iterable[Any]) -> str:
    return ", ".join(server.url for server in servers)


async def open_url(url: str, **options: Unpack[Options]) -> NatsConnection:
    """Open a connection by URL: the door's way in. Options as :meth:`NatsConnection.open`."""
    opening = NatsConnection.open(url, **options)
    del url, options  # no traceback is to show what is in them
    return await opening
