"""Children that a step waits for, and the slots of those steps."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from grctl_core.errors import WorkflowError
from grctl_core.run import RunStatus
from grctl_engine import ChildFailedError, Context, Directive, EngineLimits, Workflow

from .families import parent
from .flows import Gate, approval, boom, echo
from .rig import nothing


async def test_run_child(make_rig):
    async def body(ctx):
        first = await ctx.run_child("Echo", "a", {"value": {"n": 1}})
        rest = await asyncio.gather(*(ctx.run_child("Echo", f"b{n}", {"value": n}) for n in range(20)))
        return [first, rest, await ctx.run_child("Echo", "none")]

    rig = make_rig(parent(body), echo)
    outcome = await rig.result("Parent")
    assert outcome.result == [{"n": 1}, list(range(20)), None]
    assert nothing(rig.held())


@pytest.mark.parametrize("end", ["fail", "cancel", "terminate", "time out"])
@pytest.mark.parametrize("gathered", [False, True])
async def test_run_child_of_one_that_does_not_complete(end, gathered, make_rig):
    gate = Gate()
    caught = []

    async def body(ctx):
        call = ctx.run_child(
            "Boom" if end == "fail" else "Gated", "child", None, timedelta(minutes=1) if end == "time out" else None
        )
        try:
            await (asyncio.gather(call) if gathered else call)
        except WorkflowError as error:
            caught.append(error)
            raise

    rig = make_rig(parent(body), gate.workflow, boom)
    ref = rig.start("Parent")
    await rig.settle()
    if end == "cancel":
        rig.cancel("enough", wf_id="child")
        gate.opened.set()
    elif end == "terminate":
        rig.terminate("stop", wf_id="child")
    elif end == "time out":
        await rig.advance(60)
    outcome = await rig.outcome(ref)
    (error,) = caught
    assert isinstance(error, ChildFailedError)
    assert not isinstance(error, asyncio.CancelledError)
    status, type_, message = {
        "fail": ("failed", "ValueError", "card declined"),
        "cancel": ("cancelled", "RunCancelled", "enough"),
        "terminate": ("terminated", "RunTerminated", "stop"),
        "time out": ("timed_out", "RunTimeout", ""),
    }[end]
    assert (error.outcome.status, error.type, error.message) == (status, type_, message)
    assert error.run == rig.describe("child").ref
    assert outcome.status is RunStatus.FAILED
    assert outcome.error.type == "ChildFailedError"
    assert outcome.error.message == (
        f"child workflow 'child' (run {error.run.run_id}) ended as {status}: {type_}: {message}"
    )
    assert nothing(rig.held())


async def test_a_parent_that_stops_waiting_leaves_its_child_alone(make_rig):
    gate = Gate()
    rig = make_rig(parent(lambda ctx: ctx.run_child("Gated", "child", 5), timeout=10), gate.workflow)
    ref = rig.start("Parent")
    await rig.advance(10)
    assert (await rig.outcome(ref)).error.type == "StepTimeout"
    assert rig.describe("child").status is RunStatus.RUNNING
    gate.opened.set()
    assert (await rig.outcome(rig.describe("child").ref)).result == 5
    assert nothing(rig.held())


async def test_a_cancelled_parent_waits_for_its_step_and_so_for_its_child(make_rig):
    gate = Gate()
    rig = make_rig(parent(lambda ctx: ctx.run_child("Gated", "child", 5)), gate.workflow)
    ref = rig.start("Parent")
    await rig.settle()
    rig.cancel("enough")
    await rig.settle()
    assert rig.describe("w").status is RunStatus.RUNNING
    gate.opened.set()
    assert (await rig.outcome(ref)).status is RunStatus.CANCELLED


@pytest.mark.parametrize("depth", [1, 2, 30])
@pytest.mark.parametrize("slots", [1, 2])
async def test_parents_that_wait_do_not_keep_their_children_from_running(depth, slots, make_rig):
    wf = Workflow(workflow_type="Nested")
    running = []

    @wf.start()
    async def start(ctx: Context, left: int) -> Directive:
        executor = rig.engine._host.executor
        if left:
            below = await asyncio.gather(
                *(
                    ctx.run_child("Nested", f"{ctx.run.wf_id}-{n}", {"left": left - 1})
                    for n in range(2 if left > 28 else 1)
                )
            )
        else:
            below = [0]
        running.append(executor.running - executor._aside)
        return ctx.next.complete(1 + sum(below))

    rig = make_rig(wf, limits=EngineLimits(running_steps=slots))
    outcome = await rig.result("Nested", {"left": depth})
    assert outcome.result >= depth + 1
    assert max(running) <= slots
    executor = rig.engine._host.executor
    assert (executor.running, executor._aside, len(executor._returning)) == (0, 0, 0)
    assert nothing(rig.held())


async def test_a_step_that_comes_back_is_served_before_those_that_have_not_begun(make_rig):
    order = []

    async def body(ctx):
        await ctx.run_child("Echo", "child")
        order.append("parent")

    other = Workflow(workflow_type="Other")

    @other.start()
    async def start(ctx: Context, number: int) -> Directive:
        order.append(number)
        await ctx.sleep(1)
        return ctx.next.complete(None)

    rig = make_rig(parent(body), echo, other, limits=EngineLimits(running_steps=1))
    rig.start("Other", {"number": 0}, wf_id="o0")
    ref = rig.start("Parent")
    for number in range(1, 4):
        rig.start("Other", {"number": number}, wf_id=f"o{number}")
    await rig.advance(10)
    assert (await rig.outcome(ref)).completed
    # The child was dispatched after the others; the parent came back as soon as the child had ended.
    assert order == [0, 1, 2, 3, "parent"]
    assert nothing(rig.held())


@pytest.mark.parametrize("end", ["terminate", "time out", "its turn", "close"])
async def test_a_parent_that_waits_for_its_slot(end, make_rig):
    async def body(ctx):
        try:
            await ctx.run_child("OrderApproval", "child")
        except WorkflowError as error:
            return error.type

    gate = Gate()
    rig = make_rig(parent(body, timeout=10), approval, gate.workflow, limits=EngineLimits(running_steps=1))
    ref = rig.start("Parent")
    await rig.settle()
    rig.start("Gated", 5, wf_id="gated")
    await rig.settle()
    rig.terminate("stop", wf_id="child")
    await rig.settle()
    executor = rig.engine._host.executor
    assert (executor.running, executor._aside, len(executor._returning)) == (2, 1, 1)
    assert rig.describe("w").status is RunStatus.RUNNING
    match end:
        case "terminate":
            rig.terminate("stop")
            assert (await rig.outcome(ref)).status is RunStatus.TERMINATED
        case "time out":
            await rig.advance(10)
            assert (await rig.outcome(ref)).error.type == "StepTimeout"
        case "its turn":
            gate.opened.set()
            assert (await rig.outcome(ref)).result == "RunTerminated"
        case "close":
            await rig.engine.close(grace=0)
    gate.opened.set()
    await rig.settle()
    assert (executor.running, executor._aside, executor._sleeping, len(executor._returning)) == (0, 0, 0, 0)


async def test_closing_does_not_wait_for_a_parent_whose_child_will_not_end(make_rig):
    rig = make_rig(parent(lambda ctx: ctx.run_child("OrderApproval", "child")), approval)
    ref = rig.start("Parent")
    await rig.settle()
    await asyncio.wait_for(rig.engine.close(grace=1000), 60)
    assert rig.engine._runs.find(ref.wf_id, ref.run_id).state is not None


async def test_closing_waits_for_a_parent_whose_child_ends_in_time(make_rig):
    gate = Gate()
    rig = make_rig(parent(lambda ctx: ctx.run_child("Gated", "child", 5)), gate.workflow)
    ref = rig.start("Parent")
    await rig.settle()
    future = rig.engine.watch(ref)
    closing = asyncio.create_task(rig.engine.close(grace=1000))
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.wait_for(closing, 60)
    assert future.result().run.status is RunStatus.COMPLETED
