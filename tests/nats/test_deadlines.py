"""Workflow timeouts that a client upholds. The clock is the broker's, moved by hand where it decides."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo

import msgspec
import pytest
from fake_server import new_run

from grctl_core.commands import CancelCommand, DescribeCommand, Reply, ReplyError, StartCommand, TerminateCommand
from grctl_core.errors import (
    ConnectionClosedError,
    DeliveryUnknownError,
    InvalidInputError,
    NotDeliveredError,
    NotSentError,
)
from grctl_core.run import RunInfo, RunRef, RunStatus
from grctl_nats import NatsConnection
from grctl_nats import connection as connection_module
from grctl_nats import deadlines as deadlines_module
from grctl_nats.deadlines import Deadlines
from grctl_nats.ending import TIMEOUT_REASON

pytestmark = pytest.mark.usefixtures("nothing_left")

SHORT = timedelta(milliseconds=20)


class World:
    """One run, the broker's clock, and what the deadline does."""

    def __init__(self, **fields: object) -> None:
        self.ahead = timedelta()
        fields = {"timeout": SHORT, "started_at": self.now()} | fields
        self.run = new_run(**fields)
        self.stored: RunInfo | None = self.run
        self.latest_run: RunInfo | None = self.run
        self.troubles: list[Exception] = []
        self.looks = 0
        self.commands: list[TerminateCommand] = []
        self.sent = asyncio.Event()
        self.steps: list[str] = []
        self.ending: set[str] = set()
        self.deadlines = Deadlines(
            self.look,
            self.latest,
            self.send,
            is_ending=lambda wf_id: wf_id in self.ending,
            broker_now=self.now,
            compare_clocks=self.compare_clocks,
            reason=TIMEOUT_REASON,
        )

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    async def compare_clocks(self) -> None:
        self.steps.append("clocks")

    async def look(self, ref: object) -> RunInfo | None:
        assert ref == self.run.ref
        self.looks += 1
        if self.troubles:
            raise self.troubles.pop(0)
        return self.stored

    async def latest(self, wf_id: str) -> RunInfo | None:
        assert wf_id == self.run.wf_id
        return self.latest_run

    async def send(self, command: TerminateCommand) -> Reply:
        self.commands.append(command)
        self.steps.append("terminate")
        self.sent.set()
        return Reply(success=True)

    async def act(self) -> None:
        """Wait until the deadline has done what it does, once."""
        async with asyncio.timeout(20):
            before = self.looks
            while self.looks == before or self.deadlines._tasks:
                await asyncio.sleep(0.001)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(deadlines_module, "_AGAIN", 0.01)
    monkeypatch.setattr(deadlines_module, "_OTHERS_LATER", (0.0, 0.0))


async def test_a_run_that_takes_too_long_is_terminated(quick):
    world = World()
    world.deadlines.uphold(world.run)
    async with asyncio.timeout(20):
        await world.sent.wait()
    assert world.commands[0].wf_id == world.run.wf_id
    assert world.commands[0].reason.startswith(TIMEOUT_REASON)
    await world.deadlines.close()


async def test_accepted_is_not_effective(quick):
    world = World()
    world.deadlines.uphold(world.run)
    async with asyncio.timeout(20):
        while len(world.commands) < 3:
            await asyncio.sleep(0.001)
    world.stored = msgspec.structs.replace(world.run, status=RunStatus.TERMINATED)
    async with asyncio.timeout(20):
        while len(world.deadlines):
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("fields", [{"status": RunStatus.COMPLETED}, {"completed_at": datetime.now(UTC)}])
async def test_a_recorded_end_wins(quick, fields):
    world = World()
    world.stored = msgspec.structs.replace(world.run, **fields)
    world.deadlines.uphold(world.run)
    await world.act()
    assert (world.commands, len(world.deadlines)) == ([], 0)


async def test_a_run_that_is_gone(quick, monkeypatch):
    monkeypatch.setattr(deadlines_module, "_MISSING_FOR", 0.0)
    world = World()
    world.stored = None
    world.deadlines.uphold(world.run)
    await world.act()
    assert (world.commands, len(world.deadlines)) == ([], 0)


@pytest.mark.parametrize("latest", [None, new_run(), "ended"])
async def test_only_this_run_is_terminated(quick, latest):
    """A terminate acts on the latest run of the id, so that must be this one."""
    world = World()
    world.latest_run = msgspec.structs.replace(world.run, status=RunStatus.FAILED) if latest == "ended" else latest
    world.deadlines.uphold(world.run)
    await world.act()
    assert (world.commands, len(world.deadlines)) == ([], 0)


async def test_it_counts_from_the_beginning_of_the_run(quick):
    world = World(started_at=None)
    world.deadlines.uphold(world.run)
    for _ in range(3):
        await world.act()
    assert world.commands == []
    world.stored = msgspec.structs.replace(world.run, started_at=world.now())
    async with asyncio.timeout(20):
        await world.sent.wait()
    await world.deadlines.close()


@pytest.mark.parametrize("hours", [-5, 5])
async def test_clocks_may_differ(quick, hours):
    """What this machine believes the time to be is of no matter."""
    world = World()
    world.ahead = timedelta(hours=hours)
    world.stored = world.run = msgspec.structs.replace(world.run, started_at=world.now(), timeout=timedelta(hours=1))
    world.latest_run = world.run
    world.deadlines.uphold(world.run)
    assert len(world.deadlines) == 1
    await asyncio.sleep(0.03)
    assert world.looks == 0
    await world.deadlines.close()


@pytest.mark.parametrize("trouble", [NotSentError("x"), DeliveryUnknownError("x")])
async def test_trouble_makes_it_wait(quick, trouble):
    world = World()
    world.troubles = [trouble] * 3
    world.deadlines.uphold(world.run)
    async with asyncio.timeout(20):
        await world.sent.wait()
    assert world.looks >= 4
    await world.deadlines.close()


async def test_a_server_that_fails_at_the_deadline(quick, broker, server, connection):
    """Only the word that there is no such run ends the upholding."""
    run = new_run(timeout=SHORT, started_at=datetime.now(UTC))
    await server.put_run(run)
    failed = [Reply(success=False, error=ReplyError(code, "hiccup")) for code in (5000, 0)]
    server.answer = lambda command: failed.pop() if failed else server.ok(command)
    connection._deadlines.uphold(run)
    async with asyncio.timeout(20):
        while not server.commands or not isinstance(server.commands[-1], TerminateCommand):
            await asyncio.sleep(0.005)
    assert failed == []


async def test_a_defect_makes_it_wait_and_is_logged(quick, caplog):
    world = World()
    world.troubles = [KeyError("a defect")]
    world.deadlines.uphold(world.run)
    async with asyncio.timeout(20):
        await world.sent.wait()
    await world.deadlines.close()
    assert "a defect" in caplog.text


async def test_runs_that_need_none(quick):
    for fields in ({"timeout": None}, {"status": "completed"}):
        world = World(**fields)
        world.deadlines.uphold(world.run)
        assert len(world.deadlines) == 0


async def test_each_run_once_and_forgetting(quick):
    world = World(timeout=timedelta(hours=1))
    for _ in range(5):
        world.deadlines.uphold(world.run)
    assert len(world.deadlines) == 1
    world.deadlines.forget(world.run.ref)
    world.deadlines.forget(RunRef("unknown", "unknown"))
    assert len(world.deadlines) == 0


async def test_a_timeout_of_centuries(quick):
    world = World(timeout=timedelta(days=365 * 900))
    world.deadlines.uphold(world.run)
    await world.deadlines.close()


async def test_the_clocks_are_compared_before_each_terminate(quick):
    world = World()
    world.deadlines.uphold(world.run)
    async with asyncio.timeout(20):
        while len(world.commands) < 2:
            await asyncio.sleep(0.001)
    assert world.steps[:4] == ["clocks", "terminate", "clocks", "terminate"]
    await world.deadlines.close()


async def test_a_healthy_run_survives_a_clock_that_was_wrong(quick):
    world = World(timeout=timedelta(hours=1))
    world.ahead = timedelta(hours=2)

    async def compare_clocks() -> None:
        world.ahead = timedelta()

    world.deadlines._compare_clocks = compare_clocks
    world.deadlines.uphold(world.run)
    await world.act()
    assert (world.commands, len(world.deadlines)) == ([], 1)
    await world.deadlines.close()


async def test_the_starter_goes_first(quick, monkeypatch):
    """All the others leave it time, or their commands would reach a run that has ended."""
    monkeypatch.setattr(deadlines_module, "_OTHERS_LATER", (0.3, 0.4))
    starter, other = World(), World()
    other.deadlines.uphold(other.run)
    starter.deadlines.uphold(starter.run, started_here=True)
    async with asyncio.timeout(20):
        await starter.sent.wait()
    assert other.looks == 0
    other.stored = msgspec.structs.replace(other.run, status=RunStatus.TERMINATED)
    await other.act()
    assert other.commands == []
    await starter.deadlines.close()


def test_the_others_spread():
    assert deadlines_module._OTHERS_LATER == (1.0, 5.0)


async def test_a_start_that_arrives_late(quick):
    world = World(started_at=None)
    world.stored = None
    world.deadlines.uphold(world.run, started_here=True)
    for _ in range(3):
        await world.act()
    assert (world.commands, len(world.deadlines)) == ([], 1)
    world.stored = msgspec.structs.replace(world.run, started_at=world.now())
    async with asyncio.timeout(20):
        await world.sent.wait()
    await world.deadlines.close()


async def test_a_run_that_never_begins(quick, monkeypatch):
    monkeypatch.setattr(deadlines_module, "_UNBEGUN_FOR", 0.03)
    world = World(started_at=None, created_at=datetime.now(UTC))
    world.deadlines.uphold(world.run, started_here=True)
    await world.act()
    assert world.commands == []
    async with asyncio.timeout(20):
        await world.sent.wait()
    await world.deadlines.close()


async def test_closed_for_good(quick):
    world = World()
    await world.deadlines.close()
    world.deadlines.uphold(world.run)
    assert len(world.deadlines) == 0


async def test_a_closed_connection_is_not_tried_again(quick):
    world = World()
    world.troubles = [ConnectionClosedError("x")]
    world.deadlines.uphold(world.run)
    await world.act()
    assert (world.commands, len(world.deadlines)) == ([], 0)


async def test_a_run_that_ends_while_it_is_looked_at(quick):
    world = World()

    async def latest(_: str) -> RunInfo | None:
        world.deadlines.forget(world.run.ref)
        return world.run

    world.deadlines._latest = latest
    world.deadlines.uphold(world.run)
    await world.act()
    assert (world.commands, len(world.deadlines)) == ([], 0)


async def test_a_run_that_somebody_is_ending(quick):
    """Two commands at once, and the second would reach a run that has ended (docs/protocol.md, section 8, 5)."""
    world = World()
    world.ending.add(world.run.wf_id)
    world.deadlines.uphold(world.run)
    for _ in range(3):
        await world.act()
    assert (world.commands, len(world.deadlines)) == ([], 1)
    world.ending.clear()
    async with asyncio.timeout(20):
        await world.sent.wait()
    await world.deadlines.close()


@pytest.mark.parametrize("kind", [CancelCommand, TerminateCommand])
async def test_a_command_of_the_same_connection(quick, broker, server, connection, kind):
    run = new_run(timeout=SHORT, started_at=datetime.now(UTC))
    await server.put_run(run)
    server.answer = lambda command: None if isinstance(command, kind) else server.ok(command)
    ending = asyncio.create_task(connection.request(kind(wf_id=run.wf_id, reason="mine"), timeout=100))
    async with asyncio.timeout(20):
        while not server.commands or not isinstance(server.commands[-1], kind):
            await asyncio.sleep(0.001)
        before = len(server.commands)
        connection._deadlines.uphold(run)
        await server.received(before + 3)  # it looks, again and again
    assert [command.reason for command in server.commands if isinstance(command, kind)] == ["mine"]
    assert {command.kind for command in server.commands[before:]} == {"run.describe"}
    ending.cancel()
    async with asyncio.timeout(20):
        while not isinstance(server.commands[-1], TerminateCommand) or server.commands[-1].reason == "mine":
            await asyncio.sleep(0.001)
    assert connection._ending == {}


async def test_a_step_of_the_wall_clock(quick, connection, monkeypatch):
    """Somebody sets this machine's clock: the broker's goes on."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=1)

    monkeypatch.setattr(connection_module, "datetime", Shifted)
    assert abs(connection._broker_now() - datetime.now(UTC)) < timedelta(seconds=30)
    await connection._compare_clocks()
    assert abs(connection._broker_now() - datetime.now(UTC)) < timedelta(seconds=30)


async def test_over_a_connection(quick, broker, server):
    async def stored() -> None:
        await server.put_run(msgspec.structs.replace(run, started_at=datetime.now(UTC), status=RunStatus.RUNNING))

    async with await NatsConnection.open(broker.url) as connection:
        run = new_run(timeout=SHORT, started_at=None, status=None)
        await connection.request(StartCommand(wf_id=run.wf_id, run=run), timeout=20)
        await stored()
        async with asyncio.timeout(20):
            while not any(isinstance(command, TerminateCommand) for command in server.commands):
                await asyncio.sleep(0.005)
        await server.end(run, RunStatus.TERMINATED, reason=server.commands[-1].reason)
        outcome = await asyncio.wait_for(connection.watch(run.ref), 20)
        assert outcome.run.status is RunStatus.TIMED_OUT


def refused(code: int, detail: str = "") -> Reply:
    return Reply(success=False, error=ReplyError(code, "refused", detail))


LONG = timedelta(hours=1)


@pytest.mark.parametrize("code", [5000, 0, 4001])
async def test_a_start_that_may_have_been_carried_out(server, connection, code):
    run = new_run(timeout=LONG)
    server.answer = lambda _: refused(code, f"workflow has active run {run.id}")
    await connection.request(StartCommand(wf_id=run.wf_id, run=run), timeout=20)
    assert len(connection._deadlines) == 1


async def test_a_start_whose_caller_leaves(server, connection):
    run = new_run(timeout=LONG)
    server.answer = lambda _: None
    starting = asyncio.create_task(connection.request(StartCommand(wf_id=run.wf_id, run=run), timeout=20))
    await server.received(1)
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    assert len(connection._deadlines) == 1


async def test_a_start_whose_answer_does_not_come(server, connection):
    run = new_run(timeout=LONG)
    server.answer = lambda _: None
    with pytest.raises(DeliveryUnknownError):
        await connection.request(StartCommand(wf_id=run.wf_id, run=run), timeout=0.05)
    assert len(connection._deadlines) == 1


@pytest.mark.parametrize("code", [4001, 4003, 4004, 4005])
async def test_a_start_that_is_certainly_refused(server, connection, code):
    run = new_run(timeout=LONG)
    server.answer = lambda _: refused(code, f"workflow has active run {new_run().id}")
    await connection.request(StartCommand(wf_id=run.wf_id, run=run), timeout=20)
    assert [command.kind for command in server.commands] == ["run.start"]
    assert len(connection._deadlines) == 0


async def nobody_listens(connection) -> None:
    """Wait until the broker has noticed that the server is gone: until then it gives it what comes."""
    while True:
        try:
            await connection.request(DescribeCommand(wf_id="w"), timeout=0.2)
        except NotDeliveredError:
            return
        except DeliveryUnknownError:
            continue


async def test_a_start_that_is_not_sent(broker, server, connection):
    run = new_run(timeout=LONG)
    with pytest.raises(InvalidInputError):
        await connection.request(StartCommand(wf_id=run.wf_id, run=run, input=b"x" * 2**20), timeout=20)
    assert len(connection._deadlines) == 0
    await server.client.close()
    await nobody_listens(connection)
    with pytest.raises(NotDeliveredError):
        await connection.request(StartCommand(wf_id=run.wf_id, run=run), timeout=20)
    assert len(connection._deadlines) == 0
    broker.kill()
    with pytest.raises((NotSentError, DeliveryUnknownError)):
        await connection.request(StartCommand(wf_id=run.wf_id, run=run), timeout=20)
    connection._deadlines.forget(run.ref)  # of that one, which may have come before the loss was seen
    with pytest.raises(NotSentError):
        await connection.request(StartCommand(wf_id=run.wf_id, run=run), timeout=20)
    assert len(connection._deadlines) == 0


async def test_a_refusal_of_the_second_try_says_nothing_of_the_first(server, connection):
    run = new_run(timeout=LONG)
    start = StartCommand(wf_id=run.wf_id, run=run)
    server.answer = lambda _: refused(5000)
    await connection.request(start, timeout=20)
    server.answer = lambda _: refused(4003)
    await connection.request(start, timeout=20)
    assert len(connection._deadlines) == 1


async def test_whoever_waits_upholds_it(quick, broker, server, connection):
    run = new_run(timeout=SHORT, started_at=datetime.now(UTC))
    await server.put_run(run)
    waiting = connection.watch(run.ref)
    async with asyncio.timeout(20):
        while not server.commands or not isinstance(server.commands[-1], TerminateCommand):
            await asyncio.sleep(0.005)
    await server.end(run, RunStatus.TERMINATED, reason=server.commands[-1].reason)
    assert (await asyncio.wait_for(waiting, 20)).run.status is RunStatus.TIMED_OUT


async def test_disconnected_at_the_deadline(quick, broker, server, connection):
    run = new_run(timeout=timedelta(milliseconds=300), started_at=datetime.now(UTC))
    await server.put_run(run)
    waiting = connection.watch(run.ref)
    async with asyncio.timeout(20):
        while not len(connection._deadlines):
            await asyncio.sleep(0.001)
    broker.kill()
    await asyncio.sleep(0.35)
    await broker.start()
    await server.connect()
    async with asyncio.timeout(20):
        while not server.commands or not isinstance(server.commands[-1], TerminateCommand):
            await asyncio.sleep(0.005)
    await server.end(run, RunStatus.TERMINATED, reason=server.commands[-1].reason)
    assert (await asyncio.wait_for(waiting, 20)).run.status is RunStatus.TIMED_OUT
