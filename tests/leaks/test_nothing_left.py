"""10,000 runs at once on the embedded engine, ended in every way there is: nothing is left behind.

Left behind would be: tasks, futures that nobody will settle, timers, runs that count as active, objects of ours beyond
the finished runs that the engine keeps on purpose (``EngineLimits.finished_runs``).
"""

from __future__ import annotations

import asyncio
import collections
import gc
import weakref
from typing import Any

import pytest

import grctl
from grctl import Client, RunStatus
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_engine.limits import EngineLimits

RUNS = 10_000
KEPT = 10

ends = Workflow(workflow_type="Ends")


@ends.start(timeout=60)
async def start(ctx: Context, how: str) -> Directive:
    ctx.store.put("how", how)
    match how:
        case "at once":
            return ctx.next.complete(how)
        case "by an exception":
            raise ValueError(how)
        case "after a step":
            return ctx.next.step(second)
        case "by a step timeout":
            return ctx.next.step(too_slow)
        case "by a wait timeout":
            return ctx.next.wait(timeout=0.05)
        case "terminated in a step":
            await asyncio.get_running_loop().create_future()
    return ctx.next.wait()


@ends.step()
async def second(ctx: Context) -> Directive:
    return ctx.next.complete(await ctx.store.get("how", str))


@ends.step(timeout=0.05)
async def too_slow(ctx: Context) -> Directive:
    await asyncio.sleep(60)
    return ctx.next.complete()


@ends.event()
async def finish(ctx: Context, how: str) -> Directive:
    return ctx.next.complete(how)


async def _ended(client: Client, wf_id: str, how: str) -> str:
    """Start a run, have it end this way, and return what became of it."""
    timeout = 0.05 if how == "by the workflow timeout" else None
    handle = await client.start_workflow("Ends", wf_id, how, timeout)
    given_up = asyncio.create_task(handle.result())
    looked_at = handle.future
    await asyncio.sleep(0)
    given_up.cancel()
    match how:
        case "by an event":
            await handle.send("finish", how)
        case "cancelled":
            await handle.cancel(how)
        case "terminated" | "terminated in a step":
            await handle.terminate(how)
    outcome = await handle.outcome()
    assert looked_at.done()
    return str(outcome.status)


WAYS = {
    "at once": RunStatus.COMPLETED,
    "after a step": RunStatus.COMPLETED,
    "by an event": RunStatus.COMPLETED,
    "by an exception": RunStatus.FAILED,
    "by a step timeout": RunStatus.FAILED,
    "by a wait timeout": RunStatus.FAILED,
    "by the workflow timeout": RunStatus.TIMED_OUT,
    "cancelled": RunStatus.CANCELLED,
    "terminated": RunStatus.TERMINATED,
    "terminated in a step": RunStatus.TERMINATED,
}


class Census:
    """What lives in this event loop, as far as a leak would show in it. Other threads have loops of their own."""

    def __init__(self) -> None:
        gc.collect()
        loop = asyncio.get_running_loop()
        self.pending: set[int] = set()
        self.ours: collections.Counter[str] = collections.Counter()
        self.timers = 0
        for thing in gc.get_objects():
            if isinstance(thing, asyncio.Future) and not thing.done() and thing.get_loop() is loop:
                self.pending.add(id(thing))
            elif isinstance(thing, asyncio.TimerHandle) and not thing.cancelled() and thing._loop is loop:
                self.timers += 1
            kind = type(thing)
            # As text: a class of another library has a property of this name.
            if str(kind.__module__).partition(".")[0].startswith("grctl"):
                self.ours[f"{kind.__module__}.{kind.__qualname__}"] += 1


async def _settled() -> None:
    """Let callbacks that are due run: those of ended tasks, of cancelled watches."""
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    for _ in range(5):
        await asyncio.sleep(0)


async def _assert_nothing_left(before: Census, client: Client) -> None:
    await _settled()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert [run async for run in client.list_workflows(status="running")] == []
    assert len([run async for run in client.list_workflows()]) <= KEPT
    await _settled()
    after = Census()
    assert len(after.pending) == len(before.pending)
    assert after.timers == before.timers
    grown = {kind: count - before.ours[kind] for kind, count in after.ours.items() if count > before.ours[kind]}
    # A kept run is a record, its ending and a history of some ten events.
    assert sum(grown.values()) <= KEPT * 30, grown


@pytest.fixture
async def client():
    connection = await grctl.connect("memory://", workflows=[ends], limits=EngineLimits(finished_runs=KEPT))
    client = Client(connection=connection)
    await client.run_workflow("Ends", "warm-up", "at once")
    yield client
    await connection.close()


async def test_10_000_runs_that_end_in_every_way_leave_nothing(client):
    before = Census()
    ways = list(WAYS)
    ended = await asyncio.gather(*(_ended(client, f"run-{n}", ways[n % len(ways)]) for n in range(RUNS)))
    assert ended == [str(WAYS[ways[n % len(ways)]]) for n in range(RUNS)]
    del ended
    await _assert_nothing_left(before, client)


async def test_10_000_runs_that_wait_at_once_complete_and_leave_nothing(client):
    before = Census()
    handles = await asyncio.gather(*(client.start_workflow("Ends", f"run-{n}", "waits") for n in range(RUNS)))
    results = [asyncio.create_task(handle.result()) for handle in handles]
    while len([run async for run in client.list_workflows(status="running")]) < RUNS:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not any(result.done() for result in results)
    await asyncio.gather(*(handle.send("finish", str(n)) for n, handle in enumerate(handles)))
    assert await asyncio.gather(*results) == [str(n) for n in range(RUNS)]
    del handles, results
    await _assert_nothing_left(before, client)


async def test_10_000_waits_that_are_given_up_leave_nothing(client):
    handle = await client.start_workflow("Ends", "run", "waits")
    stays = asyncio.create_task(handle.outcome())
    await _settled()
    before = Census()
    waits: list[asyncio.Future[Any]] = [asyncio.create_task(handle.result()) for _ in range(RUNS // 2)]
    waits += [handle.future for _ in range(RUNS // 2)]
    await asyncio.sleep(0)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    del waits, wait
    await _settled()
    after = Census()
    assert len(after.pending) == len(before.pending)
    assert not stays.done()
    await handle.terminate()
    assert (await stays).status is RunStatus.TERMINATED


async def test_10_000_handles_that_are_dropped_leave_nothing(client):
    """Each had a watch on the end of the same run."""
    handle = await client.start_workflow("Ends", "run", "waits")
    await _settled()
    before = Census()
    for _ in range(RUNS):
        assert not (await client.get_handle("run")).future.done()
    await _settled()
    after = Census()
    assert len(after.pending) == len(before.pending)
    assert after.ours["grctl_core.handle.WorkflowHandle"] == before.ours["grctl_core.handle.WorkflowHandle"]
    await handle.terminate()
    assert (await handle.outcome()).status is RunStatus.TERMINATED


async def test_1_000_histories_that_are_left_halfway_leave_nothing(client):
    handle = await client.start_workflow("Ends", "run", "waits")
    async for event in handle.history(follow=True):
        if event.kind == "wait.started":
            break
    await _settled()
    before = Census()
    followers = [asyncio.create_task(_follow(handle)) for _ in range(1_000)]
    await asyncio.sleep(0)
    for follower in followers:
        follower.cancel()
    await asyncio.gather(*followers, return_exceptions=True)
    del followers, follower
    await _settled()
    after = Census()
    assert len(after.pending) == len(before.pending)
    assert after.ours == before.ours
    await handle.terminate()


async def _follow(handle: Any) -> None:
    async for _ in handle.history(follow=True):
        pass


async def test_refused_and_failed_calls_leave_nothing(client):
    handle = await client.start_workflow("Ends", "run", "waits")
    stays = asyncio.create_task(handle.outcome())
    await _settled()
    before = Census()
    calls = [
        lambda: client.start_workflow("Ends", "run", "waits"),
        lambda: client.start_workflow("Nobody", "other"),
        lambda: client.get_handle("unknown"),
        lambda: handle.send("no such event"),
        lambda: handle.send("finish", object()),
        lambda: handle.result(timeout=0.0001),
    ]
    for call in calls:
        await asyncio.gather(*(call() for _ in range(200)), return_exceptions=True)
    await _settled()
    after = Census()
    assert len(after.pending) == len(before.pending)
    assert after.timers == before.timers
    assert sum((after.ours - before.ours).values()) <= 5, after.ours - before.ours
    await handle.terminate()
    assert (await stays).status is RunStatus.TERMINATED


async def test_a_closed_connection_with_runs_under_way_leaves_nothing():
    before = Census()
    connection = await grctl.connect("memory://", workflows=[ends])
    client = Client(connection=connection)
    ways = ["waits", "terminated in a step", "by a step timeout", "by the workflow timeout"]
    handles = [
        await client.start_workflow("Ends", f"run-{n}", ways[n % len(ways)], 60 if n % 3 else None)
        for n in range(1_000)
    ]
    waits = [asyncio.create_task(handle.outcome()) for handle in handles]
    for _ in range(10):
        await asyncio.sleep(0)
    await connection.close(grace=0)
    ended = await asyncio.gather(*waits, return_exceptions=True)
    assert {type(end) for end in ended} <= {grctl.ConnectionClosedError, grctl.Outcome}
    assert sum(isinstance(end, grctl.ConnectionClosedError) for end in ended) >= 500
    engine = weakref.ref(connection.engine)
    del connection, client, handles, waits, ended
    await _settled()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    after = Census()
    assert len(after.pending) == len(before.pending)
    assert after.timers == before.timers
    assert engine() is None
