"""Tasks in asyncio tasks of their own: they end with their step, and asyncio has nothing to log."""

from __future__ import annotations

import asyncio
import gc

import pytest

from grctl_engine import task

from .rig import nothing
from .task_flows import flow


@pytest.fixture
async def unhandled():
    """What asyncio's exception handler was told."""
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    yield told
    gc.collect()
    await asyncio.sleep(0)
    assert told == []


@pytest.fixture
def slow():
    """A task that works until it is let go, and notes how it ended."""

    @task
    async def slow() -> str:
        try:
            await slow.go_on.wait()
        except asyncio.CancelledError:
            slow.ends.append("cancelled")
            raise
        slow.ends.append("done")
        return "done"

    slow.go_on = asyncio.Event()
    slow.ends = []
    return slow


@task
async def bad() -> None:
    raise ValueError("bad")


async def test_what_a_failed_gather_leaves_is_cancelled(make_rig, slow, unhandled):
    rig = make_rig(flow(lambda _: asyncio.gather(slow(), bad())))
    ref = rig.start("W")
    await rig.settle()
    slow.go_on.set()
    await rig.settle()
    assert slow.ends == ["cancelled"]
    assert (await rig.kinds(ref))[-3:] == ["step.failed", "run.failed", "task.cancelled"]
    assert nothing(rig.held())


async def test_what_nobody_awaits_is_cancelled_with_the_run(make_rig, slow, unhandled):
    async def body(ctx):
        kept = asyncio.create_task(slow())
        await ctx.sleep(5)
        await kept

    rig = make_rig(flow(body))
    ref = rig.start("W")
    await rig.settle()
    rig.terminate()
    await rig.settle()
    assert slow.ends == ["cancelled"]
    assert (await rig.kinds(ref))[-2:] == ["run.terminated", "task.cancelled"]
    assert nothing(rig.held())


async def test_close_waits_until_it_is_gone(make_rig, unhandled):
    ends = []

    @task
    async def cleans_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            ends.append("clean")

    async def body(ctx):
        kept = asyncio.create_task(cleans_up())
        await ctx.sleep(5)
        await kept

    rig = make_rig(flow(body))
    rig.start("W")
    await rig.settle()
    await rig.engine.close(grace=0)
    assert ends == ["clean"]
    assert len(asyncio.all_tasks()) == 1


async def test_an_error_while_it_is_cancelled_is_not_logged(make_rig, unhandled):
    @task
    async def breaks() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("broken by it") from None

    async def body(ctx):
        kept = asyncio.create_task(breaks())
        await ctx.sleep(1)
        return kept.done()

    rig = make_rig(flow(body))
    ref = rig.start("W")
    await rig.advance(2)
    assert (await rig.outcome(ref)).result is False
    assert (await rig.kinds(ref))[-2:] == ["run.completed", "task.cancelled"]
    assert nothing(rig.held())


async def test_one_that_ends_in_time_is_left_alone(make_rig, slow, unhandled):
    async def body(ctx):
        kept = asyncio.create_task(slow())
        await ctx.sleep(1)
        slow.go_on.set()
        return await kept

    rig = make_rig(flow(body))
    ref = rig.start("W")
    await rig.advance(2)
    assert (await rig.outcome(ref)).result == "done"
    assert "task.cancelled" not in await rig.kinds(ref)
    assert not rig.engine._host.executor._branches
