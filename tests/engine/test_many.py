"""Many of everything. What it costs is counted in calls of functions, as time says more of the machine."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

import pytest

from grctl_core.errors import WorkflowNotFoundError
from grctl_engine import Context, Directive, EngineLimits, Workflow, task

from .flows import ALL, Gate, echo
from .rig import Rig, nothing


async def calls_of(work: Callable[[], Awaitable[object]]) -> int:
    """Return how many Python functions are called while ``work`` goes on."""
    count = 0

    def profile(frame: object, event: str, arg: object) -> None:
        nonlocal count
        if event == "call":
            count += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        await work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("runs", [2000])
async def test_nothing_is_left_of_runs_that_ended(runs, make_rig):
    rig = make_rig(*ALL)
    kinds = [
        ("Echo", {"value": 1}, None),
        ("Boom", None, None),
        ("OrderApproval", None, "approve"),
        ("Steps", None, None),
        ("WaitTimesOut", None, None),
        ("StepTooSlow", None, None),
        ("Slow", {"seconds": 2}, "terminate"),
        ("Slow", {"seconds": 3}, "cancel"),
        ("OrderApproval", None, "unknown"),
    ]
    futures = []
    for number in range(runs):
        wf_type, value, act = kinds[number % len(kinds)]
        futures.append(rig.engine.watch(rig.start(wf_type, value, wf_id=f"w{number}")))
        if number % 3 == 0:
            rig.engine.watch(rig.engine._runs.latest(f"w{number}").info.ref).cancel()
    await rig.settle()
    for number in range(runs):
        act = kinds[number % len(kinds)][2]
        if act == "terminate":
            rig.terminate(wf_id=f"w{number}")
        elif act == "cancel":
            rig.cancel(wf_id=f"w{number}")
        elif act is not None:
            rig.send(act, wf_id=f"w{number}")
    await rig.advance(400)
    assert all(future.done() for future in futures)
    assert nothing(rig.held())
    assert len(rig.clock._timers) < 300


async def test_ten_thousand_events_cost_no_more_each_than_ten(make_rig):
    gate = Gate()
    rig = make_rig(gate.workflow)
    ref = rig.start("Gated", "wait")
    await rig.settle()
    for number in range(10_000):
        rig.send("go", {"value": number})
    rig.send("go", {"value": "end"})
    gate.opened.set()
    outcome = await rig.outcome(ref)
    assert outcome.result == [f"go {number}" for number in range(10_000)] + ["go end"]
    assert nothing(rig.held())


counts = Workflow(workflow_type="Counts")


@counts.start()
async def start(ctx: Context, steps: int) -> Directive:
    ctx.store.put("left", steps)
    return ctx.next.step(count)


@counts.step()
async def count(ctx: Context) -> Directive:
    left = await ctx.store.get("left", int) - 1
    ctx.store.put("left", left)
    return ctx.next.step(count) if left else ctx.next.complete("done")


@counts.event()
async def end(ctx: Context) -> Directive:
    return ctx.next.complete("ended")


async def test_a_thousand_steps_cost_no_more_each_than_ten(make_rig):
    async def cost(steps: int) -> float:
        rig = make_rig(counts)

        async def work() -> None:
            assert (await rig.result("Counts", {"steps": steps})).result == "done"

        return await calls_of(work) / steps

    few, many = await cost(10), await cost(1_000)
    assert many <= few


async def test_ten_thousand_events_make_as_many_calls_each_as_a_hundred(make_rig):
    async def cost(events: int) -> float:
        gate = Gate()
        rig = make_rig(gate.workflow)
        ref = rig.start("Gated", "wait")
        await rig.settle()

        async def work() -> None:
            for number in range(events - 1):
                rig.send("go", {"value": number})
            rig.send("go", {"value": "end"})
            gate.opened.set()
            await rig.outcome(ref)

        return await calls_of(work) / events

    few, many = await cost(100), await cost(10_000)
    assert many <= few


async def test_a_thousand_tasks_in_one_step(make_rig):
    @task
    async def work(n: int) -> int:
        return n

    wf = Workflow(workflow_type="Works")

    @wf.start()
    async def start(ctx: Context, tasks: int) -> Directive:
        return ctx.next.complete(sum([await work(n) for n in range(tasks)]))

    async def cost(tasks: int) -> float:
        rig = make_rig(wf)

        async def go() -> None:
            assert (await rig.result("Works", {"tasks": tasks})).result == sum(range(tasks))

        return await calls_of(go) / tasks

    few, many = await cost(20), await cost(1_000)
    assert many <= few


async def test_twenty_thousand_runs(make_rig):
    rig = make_rig(echo, limits=EngineLimits(finished_runs=5_000))
    batch = 1_000
    first = None
    costs = []
    for number in range(20):

        async def work(number: int = number) -> None:
            for n in range(batch):
                ref = rig.start("Echo", {"value": n}, wf_id=f"w{number}-{n}")
                nonlocal first
                first = first or ref
            await turn(rig)

        if number in {6, 12, 19}:  # the first of these forgets as many runs as it starts, too
            costs.append(await calls_of(work))
        else:
            await work()
    assert max(costs) <= min(costs) * 1.01, costs
    runs = rig.engine._runs
    assert len(runs) == len(runs._latest) == len(runs._finished) == 5_000
    assert runs.active == 0
    assert len(rig.clock._timers) < 300
    assert nothing(rig.held())
    assert (await rig.outcome(rig.engine._runs.all()[0].info.ref)).completed
    with pytest.raises(WorkflowNotFoundError, match="the last 5000 ended runs are kept"):
        await rig.engine.watch(first)


async def turn(rig: Rig) -> None:
    """Turn the event loop until all runs have ended; always as often, so that it can be counted."""
    await rig.settle()
    assert rig.engine._runs.active == 0


async def test_what_is_kept_of_a_finished_run_does_not_grow(make_rig):
    rig = make_rig(*ALL)
    for number in range(200):
        rig.start("ProcessOrder", {"order_id": "1"}, wf_id=f"w{number}")
    await rig.settle()
    kept = {
        (run.state, run.step, run.store, run.step_timer, run.wait_timer, run.run_timer, run.watchers, run.followers)
        for run in rig.engine._runs.all()
    }
    assert kept == {(None,) * 8}
    assert {len(run.history) for run in rig.engine._runs.all()} == {4}
