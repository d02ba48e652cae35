"""Children that are started, and what they tell their parents."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from grctl_core.outcome import ErrorDetails
from grctl_core.run import RunStatus
from grctl_engine import ChildOutcome, Context, Directive, EngineLimits, Workflow

from .families import parent, talks
from .flows import Gate, boom, echo
from .rig import nothing


async def test_start_child(make_rig):
    async def body(ctx):
        handle = await ctx.start_child("Echo", "child", {"value": 5}, timedelta(hours=2))
        info = handle.run_info
        assert (info.wf_id, info.wf_type, info.parent_wf_id, info.parent_run_id) == ("child", "Echo", "w", ctx.run.id)
        assert (info.timeout, info.parent_callback_step) == (timedelta(hours=2), None)
        return info.id

    rig = make_rig(parent(body), echo)
    ref = rig.start("Parent")
    outcome = await rig.outcome(ref)
    child = rig.describe("child")
    assert outcome.result == child.id
    assert (child.parent_wf_id, child.parent_wf_type, child.parent_run_id) == ("w", "Parent", ref.run_id)
    assert child.created_at == rig.clock.now()
    assert (await rig.outcome(child.ref)).result == 5
    (started,) = [event for event in await rig.history(ref) if event.kind == "child.started"]
    assert started.data == {"run_id": child.id, "wf_type": "Echo", "wf_id": "child", "input": {"value": 5}}
    assert rig.describe("w").parent_wf_id is None


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("complete", ["completed", True, "wait?", None]),
        ("fail", ["failed", False, None, ["ValueError", "card declined"]]),
        ("cancel", ["cancelled", False, None, ["RunCancelled", "enough"]]),
        ("terminate", ["terminated", False, None, ["RunTerminated", "stop"]]),
        ("time out", ["timed_out", False, None, ["RunTimeout", ""]]),
    ],
)
async def test_on_completed_step_gets_every_end(end, expected, make_rig):
    gate = Gate()

    async def body(ctx):
        wf_type = "Boom" if end == "fail" else "Gated"
        timeout = 60 if end == "time out" else None
        value = None if end == "fail" else "wait" if end == "cancel" else "wait?"
        await ctx.start_child(wf_type, "child", value, timeout, on_completed_step="ended")
        return ctx.next.wait(timeout=timedelta(days=2))

    rig = make_rig(parent(body), gate.workflow, boom)
    ref = rig.start("Parent")
    await rig.settle()
    match end:
        case "complete":
            gate.opened.set()
        case "cancel":
            gate.opened.set()
            await rig.settle()
            rig.cancel("enough", wf_id="child")
        case "terminate":
            rig.terminate("stop", wf_id="child")
        case "time out":
            await rig.advance(60)
    assert (await rig.outcome(ref)).result == expected
    assert rig.describe("child").parent_callback_step == "ended"
    assert nothing(rig.held())


async def test_on_completed_step_takes_typed_results_and_single_fields(make_rig):
    wf = Workflow(workflow_type="Parent")

    @wf.start()
    async def start(ctx: Context) -> Directive:
        await ctx.start_child("Echo", "child", {"value": ["7", "8"]}, on_completed_step=typed)
        return ctx.next.wait()

    @wf.step()
    async def typed(ctx: Context, outcome: ChildOutcome[tuple[str, str]], later: int = 5) -> Directive:
        ctx.store.put("first", repr(outcome.unwrap()))
        await ctx.start_child("Boom", "child", on_completed_step=spread)
        return ctx.next.wait()

    @wf.step()
    async def spread(ctx: Context, status: str, error: ErrorDetails | None, result: Any) -> Directive:
        return ctx.next.complete([await ctx.store.get("first"), status, error.type, result])

    rig = make_rig(wf, echo, boom)
    outcome = await rig.result("Parent")
    assert outcome.result == ["('7', '8')", "failed", "ValueError", None]


async def test_outcomes_wait_in_the_inbox_of_a_busy_parent_even_of_a_full_one(make_rig):
    gate = asyncio.Event()

    async def body(ctx):
        for number in range(3):
            await ctx.start_child("Talks", f"c{number}", {"what": []}, on_completed_step="says_outcome")
        await gate.wait()
        return ctx.next.wait()

    wf = parent(body)
    got = []

    @wf.step()
    async def says_outcome(ctx: Context, outcome: ChildOutcome) -> Directive:
        got.append(outcome.result)
        return ctx.next.complete(len(got)) if len(got) == 3 else ctx.next.wait()

    rig = make_rig(wf, talks, limits=EngineLimits(inbox=1))
    ref = rig.start("Parent")
    await rig.settle()
    gate.set()
    assert (await rig.outcome(ref)).result == 3
    assert got == ["talked"] * 3


async def test_children_go_on_when_their_parent_ends(make_rig):
    gate = Gate()

    async def body(ctx):
        await ctx.start_child("Gated", "child", 5, on_completed_step="ended")
        return ctx.next.wait()

    rig = make_rig(parent(body), gate.workflow)
    ref = rig.start("Parent")
    await rig.settle()
    rig.terminate("stop")
    await rig.settle()
    before = await rig.kinds(ref)
    assert rig.describe("child").status is RunStatus.RUNNING
    gate.opened.set()
    assert (await rig.outcome(rig.describe("child").ref)).result == 5
    assert await rig.kinds(ref) == before
    assert nothing(rig.held())


async def test_the_outcome_does_not_go_to_a_later_run_of_the_parents_id(make_rig):
    gate = Gate()

    async def body(ctx):
        if not (again := rig.engine._runs.latest("child")):
            await ctx.start_child("Gated", "child", 5, on_completed_step="ended")
        return ctx.next.wait() if not again else ctx.next.wait(timeout=1, on_timeout="says")

    rig = make_rig(parent(body), gate.workflow)
    rig.start("Parent")
    await rig.settle()
    rig.terminate()
    second = rig.start("Parent")
    await rig.settle()
    gate.opened.set()
    await rig.settle()
    assert "event.received" not in await rig.kinds(second)


async def test_send_to_parent(make_rig):
    async def body(ctx):
        await ctx.start_child("Talks", "child", {"what": [1, None, "end"]})
        return ctx.next.wait()

    rig = make_rig(parent(body), talks)
    outcome = await rig.result("Parent")
    assert outcome.result == [1, None, "end"]
    sent = [event for event in await rig.history(rig.describe("child").ref) if event.kind == "parent.event_sent"]
    assert [event.data["payload"] for event in sent] == [{"value": 1}, {"value": None}, {"value": "end"}]
    assert sent[0].data.keys() == {"event_name", "payload", "parent_wf_type", "parent_wf_id"}
    assert (sent[0].data["parent_wf_type"], sent[0].data["parent_wf_id"]) == ("Parent", "w")
    assert sent[0].operation_id.startswith("send_to_parent:")
