"""What of children goes wrong, and what the handler gets then."""

from __future__ import annotations

import asyncio
import copy
import pickle

import pytest

from grctl_core.errors import InvalidInputError, WorkflowError
from grctl_core.outcome import ErrorDetails
from grctl_core.run import RunRef, RunStatus
from grctl_engine import ChildFailedError, ChildOutcome, Context, Directive, EngineLimits, Workflow

from .families import parent, talks
from .flows import echo


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
