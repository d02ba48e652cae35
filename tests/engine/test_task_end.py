"""Tasks whose step ends before them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from grctl_core.run import RunStatus
from grctl_engine import RetryPolicy, task
from grctl_engine.effects import Step
from grctl_engine.executor import StepExecution
from grctl_engine.scope import StepScope, current_scope

from .rig import nothing
from .task_flows import double, flow, run


async def never_ends():
    await asyncio.Event().wait()


@pytest.mark.parametrize("end", ["terminate", "step timeout", "run timeout"])
async def test_a_task_is_cancelled_after_the_event_that_ends_the_run(end, make_rig):
    slow = task(never_ends)
    rig = make_rig(flow(lambda _: slow(), timeout=5))
    ref = rig.start("W", timeout=timedelta(seconds=3) if end == "run timeout" else None)
    await rig.advance(1)
    if end == "terminate":
        rig.terminate("stop")
    else:
        await rig.advance(10)
    outcome = await rig.outcome(ref)
    history = await rig.history(ref)
    ended = {"terminate": "run.terminated", "step timeout": "run.failed", "run timeout": "run.timeout"}[end]
    assert [event.kind for event in history][-2:] == [ended, "task.cancelled"]
    assert outcome.status in {RunStatus.TERMINATED, RunStatus.FAILED, RunStatus.TIMED_OUT}
    seconds = {"terminate": 1, "step timeout": 5, "run timeout": 3}[end]
    assert history[-1].data["duration_ms"] == seconds * 1000
    assert nothing(rig.held())


async def test_a_task_is_cancelled_in_its_back_off(make_rig):
    calls = []

    @task(retry_policy=RetryPolicy(max_attempts=9, initial_delay_ms=5000))
    async def fails() -> None:
        calls.append(1)
        raise ValueError("no")

    rig = make_rig(flow(lambda _: fails()))
    ref = rig.start("W")
    await rig.advance(1)
    rig.terminate()
    await rig.advance(100)
    kinds = await rig.kinds(ref)
    assert kinds[-3:] == ["task.attempt_failed", "run.terminated", "task.cancelled"]
    assert calls == [1]
    assert nothing(rig.held())


async def test_all_of_a_gather_are_cancelled(make_rig):
    slow = task(never_ends)

    async def body(ctx):
        await asyncio.gather(slow(), slow(), double(1))

    rig = make_rig(flow(body))
    ref = rig.start("W")
    await rig.settle()
    rig.terminate()
    await rig.settle()
    kinds = await rig.kinds(ref)
    assert kinds[-3:] == ["run.terminated", "task.cancelled", "task.cancelled"]


async def test_a_handler_cancels_a_task_of_its_own(make_rig):
    slow = task(never_ends)

    async def body(ctx):
        running = asyncio.create_task(slow())
        await ctx.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return "went on"

    outcome, history = await run(make_rig, body, seconds=2)
    assert outcome.result == "went on"
    assert [event.kind for event in history][-3:] == ["task.cancelled", "step.completed", "run.completed"]


async def test_a_task_that_swallows_its_cancellation_is_recorded_as_cancelled(make_rig):
    @task(retry_policy=RetryPolicy(max_attempts=5))
    async def stubborn() -> str:
        try:
            await never_ends()
        except asyncio.CancelledError:
            return "no"

    rig = make_rig(flow(lambda _: stubborn()))
    ref = rig.start("W")
    await rig.settle()
    rig.terminate()
    await rig.settle()
    assert (await rig.kinds(ref))[-2:] == ["run.terminated", "task.cancelled"]


async def test_a_task_that_fails_at_its_cancellation_is_not_tried_again(make_rig):
    calls = []

    @task(retry_policy=RetryPolicy(max_attempts=5))
    async def breaks() -> None:
        calls.append(1)
        try:
            await never_ends()
        except asyncio.CancelledError:
            raise ValueError("broken by it") from None

    rig = make_rig(flow(lambda _: breaks()))
    ref = rig.start("W")
    await rig.settle()
    rig.terminate()
    await rig.advance(60)
    assert (await rig.kinds(ref))[-2:] == ["run.terminated", "task.cancelled"]
    assert calls == [1]


async def test_a_task_that_nobody_awaited_ends_with_its_step(make_rig):
    left = []
    go_on = asyncio.Event()

    @task
    async def forgotten() -> str:
        await go_on.wait()
        return "late"

    async def body(ctx):
        left.append(asyncio.create_task(forgotten()))
        await ctx.sleep(1)
        return "returned"

    rig = make_rig(flow(body))
    ref = rig.start("W")
    await rig.advance(2)
    go_on.set()
    (error,) = await asyncio.gather(*left, return_exceptions=True)
    assert type(error).__name__ == "StepEndedError"
    assert "task 'forgotten': step 'start' of workflow 'w' has ended" in str(error)
    assert (await rig.kinds(ref))[-2:] == ["run.completed", "task.cancelled"]
    with pytest.raises(Exception, match="has ended"):
        await left_over(rig)


async def left_over(rig):
    """Call a task where the step has ended already."""
    run = rig.engine._runs.latest("w")
    scope = StepScope(rig.engine._host, run, StepExecution(run, Step("start", None, 1, rig.clock.now())))
    scope.open = False
    token = current_scope.set(scope)
    try:
        await double(1)
    finally:
        current_scope.reset(token)
