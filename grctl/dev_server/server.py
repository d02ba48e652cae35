"""DevServer: the broker, the engine behind it, and what connects them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from nats import errors as nats_errors

from grctl.dev_server.broker import Broker
from grctl.dev_server.change import Change, Message
from grctl.dev_server.errors import DevServerError, LinkLostError
from grctl.dev_server.faults import Faults
from grctl.dev_server.journal import Journal
from grctl.dev_server.link import Link, LinkKeeper
from grctl.dev_server.restore import restore
from grctl.dev_server.service import Service, max_value
from grctl.dev_server.stream import StreamState, ensure_stream
from grctl.dev_server.temporary import TemporaryFolder
from grctl.dev_server.writer import Writer
from grctl_core.errors import InvalidInputError
from grctl_core.event_loop import running_loop
from grctl_core.outcome import EncodedOutcome
from grctl_engine.clock import Clock, SystemClock
from grctl_engine.definition import Workflow
from grctl_engine.engine import Engine
from grctl_engine.inputs import Input
from grctl_engine.limits import EngineLimits
from grctl_engine.run import Run
from grctl_nats import subjects, wire
from grctl_nats.tasks import end_tasks

__all__ = ["DevServer"]

_log = logging.getLogger("grctl.dev_server")


class DevServer:
    """A Ground Control server for development: a real broker, and the embedded engine answering on it.

    Use it with ``async with``. It belongs to the event loop that it was started in.
    """

    def __init__(
        self,
        workflows: Iterable[Workflow] = (),
        *,
        port: int | None = None,
        store_dir: str | Path | None = None,
        nats_url: str | None = None,
        limits: EngineLimits | None = None,
        clock: Clock | None = None,
        enforce_timeouts: bool = False,
        on_end: Callable[[EncodedOutcome], None] | None = None,
        faults: Faults | None = None,
    ) -> None:
        """Prepare a server.

        Args:
            workflows: the workflow types that it hosts.
            port: where the broker listens, on 127.0.0.1; None for a free port.
            store_dir: where the broker keeps its files; None for a folder that goes with the server.
            nats_url: of a broker that is running already, to use instead of an own one.
            limits: how much the engine holds.
            clock: the engine's time; a ``ManualClock`` for tests.
            enforce_timeouts: end runs when their workflow timeout is over. grctld does not.
            on_end: is called with the end of each run.
            faults: what is to go wrong; for the tests of this library.

        Raises:
            InvalidInputError: a workflow or an option is wrong.

        """
        if nats_url is not None and (port is not None or store_dir is not None):
            raise InvalidInputError("port and store_dir are for an own broker, nats_url is for one that runs already")
        self._workflows = list(workflows)
        self._limits = limits
        self._clock = SystemClock() if clock is None else clock
        self._enforce_timeouts = enforce_timeouts
        self._on_end = on_end
        self._nats_url = nats_url
        self._port = port
        self._store_dir = None if store_dir is None else Path(store_dir)
        self._temporary: TemporaryFolder | None = None
        self._broker: Broker | None = None
        self._created = ""
        self._late: list[Callable[[], None]] = []
        self._stopping: asyncio.Task[None] | None = None
        self.died = asyncio.Event()
        """Set when a fault has killed the server."""
        self._links = LinkKeeper(lambda: self.url, self._prepare)
        self._writer = Writer(self._links)
        self._journal, self._service = self._assemble(faults)
        self.engine = self._new_engine()
        """The engine behind it; another one after the broker has lost its stream, or another server wrote to it."""

    def __repr__(self) -> str:
        return f"<DevServer: {self._nats_url or self._broker}, {self.engine}>"

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return self._nats_url or self.broker.url

    @property
    def broker(self) -> Broker:
        """The server's own broker.

        Raises:
            DevServerError: it has none, or was not started.

        """
        if self._broker is None:
            raise DevServerError("this server has no broker of its own, or was not started")
        return self._broker

    @property
    def workflow_types(self) -> tuple[str, ...]:
        """Names of the workflow types that it hosts."""
        return self.engine.workflow_types

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start, and return when commands are answered.

        Raises:
            DevServerError: it cannot; the text says why.

        """
        running_loop("a DevServer")  # before there is a process that would have to be ended
        # In a task of its own, as the driver may lose a cancellation that meets it while it connects.
        starting = asyncio.create_task(self._start(), name="grctl-dev-start")
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await end_tasks(starting)
            await self.stop()
            raise

    async def _start(self) -> None:
        try:
            if self._nats_url is None:
                folder = self._store_dir
                if folder is None:
                    self._temporary = TemporaryFolder()
                    folder = self._temporary.path
                self._broker = Broker(folder, port=self._port)
                await self._broker.start()
            await self._links.open()
            self._writer.start()
            await self._writer.flush()
        except LinkLostError as error:
            await self.stop()
            raise DevServerError(str(error)) from error
        except BaseException:
            await self.stop()
            raise

    async def stop(self, grace: float = 5.0) -> None:
        """Let running steps end, for ``grace`` seconds, store what is left, and stop.

        Idempotent. It goes on when its caller is cancelled, and whoever else calls it meanwhile returns when it is
        done: a broker is not left running.
        """
        if self._stopping is None or self._stopping.done():
            self._stopping = asyncio.create_task(self._stop(grace), name="grctl-dev-stop")
        await asyncio.shield(self._stopping)

    async def _stop(self, grace: float) -> None:
        for stop in self._late:
            stop()
        await self._service.mute()
        await self.engine.close(grace)
        if self._links.up is not None:
            with contextlib.suppress(TimeoutError):
                await self._writer.flush_within(grace)
        await self._writer.close()
        await self._links.close()
        if self._broker is not None:
            await self._broker.stop()
        if self._temporary is not None:
            await self._temporary.remove()
            self._temporary = None

    async def kill_broker(self) -> None:
        """Kill the broker, as a crash would."""
        await self.broker.kill()

    async def restart_broker(self) -> None:
        """Start the broker again, on the same port and the same store; stop it first if it runs."""
        await self.broker.restart()

    def pause(self) -> None:
        """Stop the broker from doing anything, without any connection noticing."""
        self.broker.pause()

    def resume(self) -> None:
        """Let the broker go on."""
        self.broker.resume()

    async def settled(self) -> None:
        """Wait until everything that has happened so far is in the stream."""
        await self._writer.flush()

    def _assemble(self, faults: Faults | None) -> tuple[Journal, Service]:
        def engine() -> Engine:
            return self.engine

        if faults is None:
            journal = Journal(self._writer.write, self._run_ended)
            return journal, Service(engine, self._links, self._writer, journal)
        from grctl.dev_server.faulty_journal import FaultyJournal
        from grctl.dev_server.faulty_service import FaultyService

        def feed(run: Run, input: Input) -> bool:
            return self.engine.feed(run, input)

        faulty = FaultyJournal(self._writer.write, self._run_ended, faults, feed)
        service = FaultyService(engine, self._links, self._writer, faulty, faults=faults, die=self._die)
        self._late += [faulty.stop, service.stop]
        return faulty, service

    async def _die(self) -> None:
        self.died.set()
        await self.broker.kill()

    def _new_engine(self) -> Engine:
        return Engine(
            self._workflows,
            limits=self._limits,
            clock=self._clock,
            journal=self._journal,
            enforce_timeouts=self._enforce_timeouts,
        )

    async def _prepare(self, link: Link) -> None:
        """Get a new link ready: the stream, the registered types, and then the commands."""
        await _refuse_second_server(link)
        state = await ensure_stream(link)
        self._journal.max_value = max_value(link)
        if self._created:
            await self._give_up_unless_ours(link, state)
        if not self._created:
            await self._take_up(link, state)
        await self._service.listen(link)
        await ensure_stream(link)  # once it is answered the broker knows of the subscription before it: we are there

    async def _give_up_unless_ours(self, link: Link, state: StreamState) -> None:
        """Let go of all runs where the stream is not as we left it."""
        if state.created == self._created and await self._writer.wrote_last(link, state.last_seq):
            return
        if state.created == self._created:
            _log.warning("another server has written to the stream meanwhile: its runs are read again")
        elif state.last_seq:
            _log.error("the broker holds another stream now: the runs of the one before are gone, this one's go on")
        else:
            _log.error("the broker has lost its stream: all runs are gone with it")
        self._created = ""
        await self.engine.close(0)
        self.engine = self._new_engine()

    async def _take_up(self, link: Link, state: StreamState) -> None:
        """Begin with what the stream holds; again at the next link where this one breaks before all is read."""
        self._writer.reset(state.last_seq)
        self._service.has_past = state.last_seq > 0
        self._register_types()
        if state.last_seq and (resumed := await restore(link, self.engine, self._journal)):
            _log.info("%d runs go on where they were; steps that were cut off run again", resumed)
        self._created = state.created

    def _register_types(self) -> None:
        now = self._clock.now()
        messages = []
        for name in self.engine.workflow_types:
            known = self.engine.find_type(name)
            if known is not None:
                body = wire.encode_type_info(known, worker_id=self.engine.worker_id, registered_at=now)
                messages.append(Message(subjects.registry(name), body))
        if messages:
            self._writer.write(Change(messages))

    def _run_ended(self, outcome: EncodedOutcome) -> None:
        if self._on_end is not None:
            self._on_end(outcome)


async def _refuse_second_server(link: Link) -> None:
    """Two servers on one broker do each command twice (docs/protocol.md, section 8, 10)."""
    try:
        await link.client.request(subjects.command("grctl-dev-server"), b"", timeout=2)
    except nats_errors.NoRespondersError:
        return
    except (nats_errors.Error, OSError) as error:
        raise LinkLostError(f"the broker does not answer: {error}") from error
    raise DevServerError("a Ground Control server answers on this broker already, and two do everything twice")
