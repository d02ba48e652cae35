from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import grctl_memory
from grctl_core.codec import decode, encode
from grctl_core.commands import DescribeCommand, ErrorCode, EventCommand, QueryCommand, StartCommand, TerminateCommand
from grctl_core.errors import (
    ConnectionClosedError,
    EventLoopError,
    InvalidInputError,
    WorkflowNotFoundError,
)
from grctl_core.ids import new_ulid
from grctl_core.protocols import Capabilities, Connection, ConnectionEvent
from grctl_core.run import RunFilter, RunInfo, RunRef, RunStatus
from grctl_engine import Context, Directive, Engine, EngineLimits, ManualClock, Workflow
from grctl_memory import MemoryConnection, open_url

wf = Workflow(workflow_type="W")


@wf.start()
async def start(ctx: Context, value: Any = None) -> Directive:
    return ctx.next.wait() if value == "wait" else ctx.next.complete(value)


@wf.event()
async def end(ctx: Context, value: Any = None) -> Directive:
    return ctx.next.complete(value)


def start_command(wf_id: str = "w", value: Any = None) -> StartCommand:
    info = RunInfo(id=new_ulid(), wf_id=wf_id, wf_type="W", created_at=datetime.now(UTC))
    return StartCommand(wf_id=wf_id, run=info, input=encode("input", value))


@pytest.fixture
async def connection():
    async with await MemoryConnection.open(workflows=[wf], clock=ManualClock()) as opened:
        yield opened


async def test_it_is_a_connection(connection):
    typed: Connection = connection
    assert isinstance(typed, Connection)
    assert typed.capabilities == Capabilities(workflow_timeout=True, queries=True)
    assert isinstance(connection.engine, Engine)
    assert grctl_memory.__all__ == ["MemoryConnection", "open_url"]


async def test_a_run_from_start_to_end(connection):
    command = start_command(value="wait")
    run = command.run.ref
    assert (await connection.request(command, timeout=1)).success
    watched = connection.watch(run)
    assert await connection.has_begun(run)
    payload = encode("payload", {"value": [1, "a"]})
    assert (await connection.request(EventCommand(wf_id="w", event_name="end", payload=payload), timeout=1)).success
    outcome = await watched
    assert decode(outcome.result) == [1, "a"]
    assert await connection.find_run(run) == outcome.run
    described = await connection.request(DescribeCommand(wf_id="w"), timeout=1)
    assert described.run == outcome.run
    assert (await connection.find_type("W")).events == ("end",)
    assert [event.kind async for event in connection.history(run, follow=True)][-1] == "run.completed"
    assert [info.id async for info in connection.list_runs(RunFilter())] == [run.run_id]


async def test_a_request_lets_others_have_their_turn_and_cancelled_then_does_nothing(connection):
    command = start_command()
    request = asyncio.create_task(connection.request(command, timeout=1))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert await connection.find_run(command.run.ref) is None


async def test_requests_keep_their_order(connection):
    await connection.request(start_command(value="wait"), timeout=1)
    await asyncio.gather(
        *(connection.request(EventCommand(wf_id="w", event_name=f"e{n}"), timeout=1) for n in range(50))
    )
    run = connection.engine._runs.latest("w").info.ref
    names = [
        event.data["event_name"]
        async for event in connection.history(run, follow=False)
        if event.kind == "event.received"
    ]
    assert names == [f"e{n}" for n in range(50)]


async def test_no_timeout_is_too_short(connection):
    assert (await connection.request(start_command(), timeout=0)).success


async def test_a_query_of_no_run(connection):
    reply = await connection.request(QueryCommand(wf_id="w", run_id="r", query_name="q"), timeout=1)
    assert reply.error.code == ErrorCode.NOT_FOUND


async def test_what_is_not_there(connection):
    run = RunRef("w", "nope")
    assert await connection.find_run(run) is None
    assert not await connection.has_begun(run)
    assert await connection.find_type("Nope") is None
    with pytest.raises(WorkflowNotFoundError):
        await connection.watch(run)


# --- opening


@pytest.mark.parametrize(
    "url", ["memory", "memory:", "memory:/", "memory://host", "memory:///path", "memory://?a=b", "nats://", "", None]
)
async def test_a_url_with_anything_in_it_is_refused(url):
    with pytest.raises(InvalidInputError, match="memory://"):
        await MemoryConnection.open(url)


async def test_open_url_is_the_doors_way_in():
    async with await open_url("memory://", workflows=[wf], limits=EngineLimits(inbox=7)) as opened:
        assert opened.engine.limits.inbox == 7


@pytest.mark.parametrize("workflows", [[asyncio], wf, "W", [wf, wf]])
async def test_workflows_are_checked(workflows):
    with pytest.raises(InvalidInputError, match="workflow"):
        await MemoryConnection.open(workflows=workflows)


@pytest.mark.parametrize("option", [{"workflows": [wf]}, {"limits": EngineLimits()}, {"clock": ManualClock()}])
async def test_an_engine_comes_with_its_own_options(option):
    with pytest.raises(InvalidInputError, match=r"pass them to Engine\(...\)"):
        await MemoryConnection.open(engine=Engine([wf]), **option)


def test_what_is_no_engine_is_refused():
    with pytest.raises(InvalidInputError, match="Engine, not list"):
        MemoryConnection([wf])


# --- closing


async def test_everything_after_close_says_so():
    connection = await MemoryConnection.open(workflows=[wf])
    assert "to <Engine: W; 0 active runs>" in repr(connection)
    command = start_command(value="wait")
    await connection.request(command, timeout=1)
    run = command.run.ref
    listing = connection.list_runs(RunFilter())
    await connection.close()
    await connection.close()
    uses = [
        lambda: connection.request(start_command("x"), timeout=1),
        lambda: connection.find_run(run),
        lambda: connection.has_begun(run),
        lambda: connection.find_type("W"),
        lambda: anext(listing),
        connection.__aenter__,
    ]
    for use in uses:
        with pytest.raises(ConnectionClosedError):
            await use()
    for use in (
        lambda: connection.watch(run),
        lambda: connection.history(run, follow=True),
        lambda: connection.list_runs(RunFilter()),
    ):
        with pytest.raises(ConnectionClosedError, match=r"MemoryConnection\.open"):
            use()
    assert "closed" in repr(connection)


async def test_a_request_on_its_way_is_refused_when_the_connection_is_closed():
    connection = await MemoryConnection.open(workflows=[wf])
    request = asyncio.create_task(connection.request(start_command(), timeout=1))
    await asyncio.sleep(0)
    await connection.close()
    with pytest.raises(ConnectionClosedError):
        await request


@pytest.mark.parametrize("shared", [False, True])
async def test_close_fails_who_waits_and_nobody_elses(shared, caplog):
    engine = Engine([wf])
    mine = MemoryConnection(engine) if shared else await MemoryConnection.open(workflows=[wf])
    others = MemoryConnection(engine)
    for connection in (mine, others):
        await connection.request(start_command("mine" if connection is mine else "others", "wait"), timeout=1)
    run = mine.engine._runs.latest("mine").info.ref
    other_run = others.engine._runs.latest("others").info.ref
    watched, unseen = mine.watch(run), mine.watch(run)
    reader = mine.history(run, follow=True)
    for _ in range(10):
        await asyncio.sleep(0)
    read = [await anext(reader) for _ in range(4)]
    waiting = asyncio.create_task(anext(reader))
    others_watched = others.watch(other_run)
    await asyncio.sleep(0)
    await mine.close()
    assert len(read) == 4
    for future in (watched, waiting):
        with pytest.raises(ConnectionClosedError, match="connection was closed"):
            await future
    with pytest.raises(ConnectionClosedError):  # also one that was not waiting at that moment
        await anext(reader)
    await others.request(TerminateCommand(wf_id="others"), timeout=1)
    assert (await others_watched).run.status is RunStatus.TERMINATED
    del unseen
    gc.collect()
    assert not caplog.records
    await engine.close()


async def test_a_shared_engine_goes_on():
    engine = Engine([wf])
    async with MemoryConnection(engine) as first:
        await first.request(start_command(value="wait"), timeout=1)
    async with MemoryConnection(engine) as second:
        reply = await second.request(EventCommand(wf_id="w", event_name="end"), timeout=1)
        assert reply.success
    await engine.close()


async def test_listeners_hear_of_the_end_once(caplog):
    connection = await MemoryConnection.open(workflows=[wf])
    heard: list[ConnectionEvent] = []

    def broken(event: ConnectionEvent) -> None:
        raise ValueError(event)

    connection.add_listener(broken)
    connection.add_listener(heard.append)
    remove = connection.add_listener(lambda _: heard.clear())
    remove()
    remove()
    with caplog.at_level(logging.ERROR, "grctl.memory"):
        await connection.close()
        await connection.close()
    assert heard == [ConnectionEvent.CLOSED]
    assert len(caplog.records) == 1


async def test_close_with_grace_lets_a_step_end():
    gate = asyncio.Event()
    held = Workflow(workflow_type="W")

    @held.start()
    async def start(ctx: Context) -> Directive:
        await gate.wait()
        return ctx.next.complete("done")

    connection = await MemoryConnection.open(workflows=[held])
    command = start_command()
    await connection.request(command, timeout=1)
    watched = connection.watch(command.run.ref)
    await asyncio.sleep(0)
    closing = asyncio.create_task(connection.close(grace=60))
    await asyncio.sleep(0)
    gate.set()
    await closing
    assert decode((await watched).result) == "done"


# --- loops


def test_a_connection_belongs_to_one_loop():
    async def open_it() -> MemoryConnection:
        return await MemoryConnection.open(workflows=[wf])

    connection = asyncio.run(open_it())

    async def use(act) -> None:
        with pytest.raises(EventLoopError, match="this connection belongs to another event loop"):
            result = act()
            if hasattr(result, "__await__"):
                await result

    run = RunRef("w", "r")
    for act in (
        lambda: connection.request(start_command(), timeout=1),
        lambda: connection.watch(run),
        lambda: connection.find_run(run),
        lambda: connection.history(run, follow=False),
        lambda: connection.list_runs(RunFilter()),
        connection.close,
    ):
        asyncio.run(use(act))


def test_a_connection_made_outside_of_a_loop_takes_the_first():
    connection = MemoryConnection(Engine([wf]))

    async def use() -> bool:
        return (await connection.request(start_command(new_ulid()), timeout=1)).success

    assert asyncio.run(use())
    with pytest.raises(EventLoopError):
        asyncio.run(use())


async def test_nothing_is_left_of_many_runs():
    connection = await MemoryConnection.open(workflows=[wf])
    before = len(asyncio.all_tasks())
    commands = [start_command(f"w{number}", number) for number in range(2000)]
    await asyncio.gather(*(connection.request(command, timeout=1) for command in commands))
    outcomes = await asyncio.gather(*(connection.watch(command.run.ref) for command in commands))
    assert [decode(outcome.result) for outcome in outcomes] == list(range(2000))
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before
    with contextlib.suppress(AttributeError):
        assert not [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
    await connection.close()


@pytest.mark.parametrize("grace", [None, "x", -1, float("nan")])
async def test_a_bad_grace_closes_nothing(grace):
    connection = await MemoryConnection.open(workflows=[])
    with pytest.raises(InvalidInputError, match="grace must be"):
        await connection.close(grace=grace)
    assert await connection.find_type("Any") is None  # open still
    await connection.close(grace=timedelta(0))


async def test_a_second_close_returns_when_the_first_is_done():
    slow = Workflow(workflow_type="W")
    going_on = asyncio.Event()

    @slow.start()
    async def start(ctx: Context) -> Directive:
        await going_on.wait()
        return ctx.next.complete(None)

    connection = await MemoryConnection.open(workflows=[slow])
    await connection.request(start_command(value=None), timeout=1)
    await asyncio.sleep(0)
    first = asyncio.create_task(connection.close(grace=60))
    await asyncio.sleep(0)
    second = asyncio.create_task(connection.close())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not first.done()
    assert not second.done()
    first.cancel()  # the closing goes on
    going_on.set()
    await second
    with pytest.raises(ConnectionClosedError):
        await connection.find_type("W")
