from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest

from grctl_core.commands import QueryCommand
from grctl_core.errors import (
    InvalidInputError,
    UnsupportedOperationError,
)
from grctl_core.run import RunRef, RunStatus
from grctl_engine.definition import Workflow
from grctl_engine.engine import Engine

from .flows import ALL, Gate, approval, echo
from .rig import Rig, nothing, run_info, start_command

# --- registering


@pytest.mark.parametrize("given", [asyncio, "Echo", Workflow, None, start_command])
def test_what_is_no_workflow_is_refused(given):
    with pytest.raises(InvalidInputError, match=r"workflows\[1\] is no Workflow but"):
        Engine([echo, given])


@pytest.mark.parametrize(("given", "message"), [(echo, r"workflows=\[Echo\]"), (7, "must be a list"), (None, "list")])
def test_what_is_no_list_is_refused(given, message):
    with pytest.raises(InvalidInputError, match=message):
        Engine(given)


def test_one_type_twice_is_refused():
    with pytest.raises(InvalidInputError, match="'Echo' is in workflows twice"):
        Engine([echo, Workflow(workflow_type="Other").start and echo])


def test_limits_of_another_type_are_refused():
    with pytest.raises(InvalidInputError, match="EngineLimits"):
        Engine(limits={"inbox": 1})


async def test_find_type(make_rig):
    rig = make_rig(*ALL)
    assert rig.engine.find_type("OrderApproval") == approval.type_info()
    assert rig.engine.find_type("Nope") is None
    assert rig.engine.workflow_types[:2] == ("Echo", "OrderApproval")


async def test_registering_later(make_rig):
    rig = make_rig(echo)
    with pytest.raises(InvalidInputError, match="registered already: workflow type 'Echo'"):
        rig.engine.register([approval, echo])
    assert rig.engine.find_type("OrderApproval") is None
    rig.engine.register([approval])
    rig.start("OrderApproval")
    assert rig.engine.workflow_types == ("Echo", "OrderApproval")


async def test_what_is_at_hand_without_waiting(make_rig):
    rig = make_rig(*ALL)
    assert rig.engine.runs() == []
    ref, other = rig.start("OrderApproval"), rig.start("Echo", 1, wf_id="e")
    await rig.settle()
    assert [info.id for info in rig.engine.runs()] == [ref.run_id, other.run_id]
    assert rig.engine.events(other) == await rig.history(other)
    assert rig.engine.events(RunRef("w", other.run_id)) == []
    assert rig.engine.event_loop is asyncio.get_running_loop()
    assert rig.engine.activity
    assert not rig.engine.is_busy


# --- a run's record


async def test_the_record_follows_the_run(make_rig):
    rig = make_rig(approval)
    ref = rig.start("OrderApproval", timeout=timedelta(hours=2))
    accepted = rig.describe()
    assert accepted.status is RunStatus.RUNNING
    assert (accepted.started_at, accepted.completed_at, accepted.worker_name) == (None, None, None)
    assert accepted.history_seq_id == 1
    assert accepted.timeout == timedelta(hours=2)
    begun_at = rig.clock.now()
    await rig.settle()
    begun = rig.describe()
    assert (begun.started_at, begun.worker_name) == (begun_at, rig.engine.worker_id)
    assert begun.history_seq_id == 4
    await rig.advance(60)
    rig.send("approve")
    outcome = await rig.outcome(ref)
    ended = rig.describe()
    assert ended == outcome.run == rig.engine.find_run(ref)
    assert ended.status is RunStatus.COMPLETED
    assert ended.completed_at == begun_at + timedelta(seconds=60)
    assert ended.created_at == accepted.created_at


async def test_what_only_a_server_knows_is_not_the_clients_to_say(make_rig):
    rig = make_rig(echo)
    info = msgspec.structs.replace(
        run_info("Echo"), status=RunStatus.COMPLETED, started_at=rig.clock.now(), completed_at=rig.clock.now()
    )
    assert rig.engine.execute(start_command(info)).success
    assert rig.describe().status is RunStatus.RUNNING
    assert rig.describe().started_at is None


async def test_find_run_and_has_begun_take_exactly_this_run(make_rig):
    rig = make_rig(echo)
    first = rig.start("Echo", 1)
    await rig.settle()
    second = rig.start("Echo", 2)
    assert rig.engine.find_run(first).status is RunStatus.COMPLETED
    assert rig.engine.find_run(second).status is RunStatus.RUNNING
    assert rig.engine.has_begun(first)
    assert rig.engine.has_begun(second)
    for wrong in (RunRef("w", "nope"), RunRef("other", first.run_id)):
        assert rig.engine.find_run(wrong) is None
        assert not rig.engine.has_begun(wrong)


# --- commands


async def test_a_start_that_repeats_an_active_run_names_it(make_rig):
    rig = make_rig(approval)
    ref = rig.start("OrderApproval")
    reply, _ = rig.try_start("OrderApproval", run_id=ref.run_id)
    assert reply.error.code == 4001
    assert reply.error.detail.endswith(ref.run_id)


async def test_a_start_that_repeats_a_finished_run_overwrites_nothing(make_rig):
    rig = make_rig(echo)
    ref = rig.start("Echo", 1)
    outcome = await rig.outcome(ref)
    reply, _ = rig.try_start("Echo", 2, run_id=ref.run_id)
    assert reply.error.code == 4003
    assert rig.describe() == outcome.run
    other = rig.start("Echo", 3)  # and the id is not blocked
    reply, _ = rig.try_start("Echo", 4, run_id=ref.run_id)
    assert reply.error.code == 4001
    assert reply.error.detail.endswith(other.run_id)
    assert (await rig.outcome(other)).result == 3
    reply, _ = rig.try_start("Echo", 4, run_id=ref.run_id)
    assert reply.error.code == 4003


async def test_a_start_that_contradicts_itself(make_rig):
    rig = make_rig(echo)
    command = msgspec.structs.replace(start_command(run_info("Echo", "a")), wf_id="b")
    reply = rig.engine.execute(command)
    assert reply.error.code == 4005


async def test_commands_go_to_the_latest_run(make_rig):
    rig = make_rig(approval)
    first = rig.start("OrderApproval")
    rig.terminate()
    second = rig.start("OrderApproval")
    assert rig.cancel("second").success
    assert (await rig.outcome(second)).reason == "second"
    assert (await rig.outcome(first)).status is RunStatus.TERMINATED


async def test_queries_are_not_there_yet(make_rig):
    rig = make_rig(echo)
    with pytest.raises(UnsupportedOperationError):
        rig.engine.execute(QueryCommand(wf_id="w", run_id="r", query_name="q"))


async def test_workflow_timeout(make_rig):
    rig = make_rig(approval)
    ref = rig.start("OrderApproval", timeout=timedelta(seconds=5))
    await rig.advance(4.999)
    assert rig.describe().status is RunStatus.RUNNING
    await rig.advance(0.001)
    outcome = await rig.outcome(ref)
    assert outcome.status is RunStatus.TIMED_OUT
    assert (await rig.kinds(ref))[-1] == "run.timeout"
    assert outcome.run.completed_at - outcome.run.started_at == timedelta(seconds=5)
    assert nothing(rig.held())


async def test_a_workflow_timeout_during_a_step_abandons_it(make_rig):
    gate = Gate()
    rig = make_rig(gate.workflow)
    ref = rig.start("Gated", timeout=timedelta(seconds=5))
    await rig.advance(5)
    assert (await rig.outcome(ref)).status is RunStatus.TIMED_OUT
    assert gate.log == ["abandoned"]
    assert nothing(rig.held())


async def test_an_unknown_event_blocks_and_fails_after_five_minutes(make_rig):
    rig = make_rig(approval)
    ref = rig.start("OrderApproval")
    await rig.settle()
    assert rig.send("unknown").success
    assert rig.send("approve").success
    await rig.advance(299)
    assert rig.describe().status is RunStatus.RUNNING
    await rig.advance(1)
    outcome = await rig.outcome(ref)
    assert (outcome.error.type, outcome.error.message) == ("StepTimeout", "step unknown timed out")
    assert nothing(rig.held())


async def test_a_wait_lasts_an_hour(make_rig):
    rig = make_rig(approval)
    ref = rig.start("OrderApproval")
    await rig.advance(3599)
    assert rig.describe().status is RunStatus.RUNNING
    await rig.advance(1)
    assert (await rig.outcome(ref)).error.type == "WaitTimeout"


def test_repr_of_an_engine():
    assert repr(Rig(echo).engine) == "<Engine: Echo; 0 active runs>"


async def test_the_end_in_an_unknown_event_abandons_no_step_that_is_over(make_rig):
    rig = make_rig(approval)
    ref = rig.start("OrderApproval")
    await rig.settle()
    assert rig.send("unknown").success
    await rig.settle()
    rig.terminate()
    await rig.settle()
    assert (await rig.kinds(ref))[-1] == "run.terminated"
    assert rig.engine._host.executor.queued == 0
    assert nothing(rig.held())
