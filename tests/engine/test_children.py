from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from grctl_core.errors import InvalidInputError, WorkflowError
from grctl_core.outcome import ErrorDetails
from grctl_core.run import RunStatus
from grctl_engine import ChildFailedError, ChildOutcome, Context, Directive, EngineLimits, Workflow

from .flows import Gate, approval, boom, echo
from .rig import nothing


def parent(body, timeout=None):
    """A workflow whose only step returns a directive, or completes with what ``body(ctx)`` returns."""
    wf = Workflow(workflow_type="Parent")

    @wf.start(timeout=timeout)
    async def start(ctx: Context) -> Directive:
        returned = await body(ctx)
        return returned if isinstance(returned, Directive) else ctx.next.complete(returned)

    @wf.event()
    async def says(ctx: Context, value: Any = None) -> Directive:
        heard = [*await ctx.store.get("heard", list, []), value]
        ctx.store.put("heard", heard)
        return ctx.next.complete(heard) if value == "end" else ctx.next.wait()

    @wf.step()
    async def ended(ctx: Context, outcome: ChildOutcome) -> Directive:
        error = None if outcome.error is None else [outcome.error.type, outcome.error.message]
        return ctx.next.complete([outcome.status, outcome.ok, outcome.result, error])

    return wf


talks = Workflow(workflow_type="Talks")


@talks.start()
async def start_talks(ctx: Context, what: list[Any]) -> Directive:
    for value in what:
        await ctx.send_to_parent("says", {"value": value})
    return ctx.next.complete("talked")


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


async def error_of(make_rig, body, *others, **options):
    rig = make_rig(parent(body), echo, talks, *others, **options)
    outcome = await rig.result("Parent")
    assert outcome.status is RunStatus.FAILED
    kinds = await rig.kinds(outcome.run.ref)
    return rig, outcome.error, kinds


@pytest.mark.parametrize("call", ["start_child", "run_child"])
@pytest.mark.parametrize(
    ("arguments", "type_", "message"),
    [
        (("Echo", "w"), "WorkflowAlreadyRunningError", "child workflow id 'w' has an active run already ("),
        (("NoSuch", "c"), "WorkflowTypeNotRegisteredError", "'NoSuch'"),
        (("Echo", "a.b"), "InvalidInputError", "workflow_id 'a.b' has '.'"),
        (("Echo", ""), "InvalidInputError", "workflow_id is empty"),
        (("E o", "c"), "InvalidInputError", "workflow_type 'E o' has ' '"),
        ((5, "c"), "InvalidInputError", "workflow_type must be a string"),
        (("Echo", "c", object()), "InvalidInputError", "workflow_input cannot be encoded"),
        (("Echo", "c", None, -1), "InvalidInputError", "workflow_timeout must be above zero"),
        (("Echo", "c", None, "1h"), "InvalidInputError", "workflow_timeout must be a timedelta"),
    ],
)
async def test_a_child_that_cannot_be_started(call, arguments, type_, message, make_rig):
    rig, error, kinds = await error_of(make_rig, lambda ctx: getattr(ctx, call)(*arguments))
    assert error.type == type_
    assert message in error.message
    assert "child.started" not in kinds
    assert len(rig.engine._runs.all()) == 1


async def test_too_many_runs(make_rig):
    _, error, _ = await error_of(make_rig, lambda ctx: ctx.start_child("Echo", "c"), limits=EngineLimits(active_runs=1))
    assert error.type == "ServerError"
    assert "1 active runs already" in error.message


@pytest.mark.parametrize("step", ["nope", len, 5])
async def test_a_callback_that_is_no_step(step, make_rig):
    _, error, _ = await error_of(make_rig, lambda ctx: ctx.start_child("Echo", "c", on_completed_step=step))
    assert error.type == "InvalidInputError"
    assert "on_completed_step=...): workflow 'Parent' has no step" in error.message


@pytest.mark.parametrize(
    ("arguments", "type_", "message"),
    [
        (("nope",), "InvalidInputError", "the parent's workflow type 'Parent' has no event 'nope': it has 'says'"),
        ((5,), "InvalidInputError", "event_name must be a string"),
        (("says", object()), "InvalidInputError", "payload of event 'says' cannot be encoded"),
    ],
)
async def test_what_cannot_be_sent_to_a_parent(arguments, type_, message, make_rig):
    wf = Workflow(workflow_type="Child")

    @wf.start()
    async def start(ctx: Context) -> Directive:
        await ctx.send_to_parent(*arguments)
        return ctx.next.complete(None)

    async def body(ctx):
        await ctx.start_child("Child", "child")
        return ctx.next.wait()

    rig = make_rig(parent(body), wf)
    rig.start("Parent")
    await rig.settle()
    outcome = await rig.outcome(rig.describe("child").ref)
    assert outcome.error.type == type_
    assert message in outcome.error.message
    assert rig.describe("w").status is RunStatus.RUNNING


async def test_no_parent_to_send_to(make_rig):
    _, error, kinds = await error_of(make_rig, lambda ctx: ctx.send_to_parent("says"))
    assert error.type == "NoParentError"
    assert "workflow 'w' (run " in error.message
    assert "parent.event_sent" not in kinds


async def test_a_parent_that_has_ended_meanwhile(make_rig):
    async def body(ctx):
        await ctx.start_child("Talks", "child", {"what": [1]})
        return "ended first"

    rig = make_rig(parent(body), talks, limits=EngineLimits(running_steps=1))
    rig.start("Parent")
    await rig.settle()
    outcome = await rig.outcome(rig.describe("child").ref)
    assert outcome.error.type == "WorkflowFinishedError"
    assert "the parent, workflow 'w' (run " in outcome.error.message


async def test_the_inbox_of_a_parent_is_bounded(make_rig):
    async def body(ctx):
        await ctx.start_child("Talks", "child", {"what": [1, 2, 3]})
        await asyncio.Event().wait()

    rig = make_rig(parent(body), talks, limits=EngineLimits(inbox=2))
    rig.start("Parent")
    await rig.settle()
    outcome = await rig.outcome(rig.describe("child").ref)
    assert outcome.error.type == "ServerError"
    assert "2 events wait" in outcome.error.message


def test_outcomes():
    assert ChildOutcome(RunStatus.COMPLETED, 5).unwrap() == 5
    with pytest.raises(WorkflowError, match="E: m"):
        ChildOutcome(RunStatus.FAILED, None, ErrorDetails("E", "m")).unwrap()
    with pytest.raises(WorkflowError, match="did not complete"):
        ChildOutcome(RunStatus.CANCELLED).unwrap()


def test_the_error_survives_pickle_and_copy():
    import copy
    import pickle

    from grctl_core.run import RunRef

    outcome = ChildOutcome(RunStatus.FAILED, None, ErrorDetails("E", "m", "trace"))
    error = ChildFailedError(outcome, RunRef("c", "R"))
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is ChildFailedError
        assert (str(other), other.type, other.run, other.outcome) == (str(error), "E", error.run, outcome)
    assert str(ChildFailedError(ChildOutcome(RunStatus("paused")), RunRef("c", "R"))).endswith("ended as paused")


async def test_a_context_that_has_ended_starts_nothing(make_rig):
    kept = []

    async def body(ctx):
        kept.append(ctx)

    rig = make_rig(parent(body), echo)
    await rig.result("Parent")
    for call in (kept[0].start_child("Echo", "c"), kept[0].run_child("Echo", "c"), kept[0].send_to_parent("says")):
        with pytest.raises(Exception, match="has ended") as caught:
            await call
        assert not isinstance(caught.value, InvalidInputError)
