from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from grctl_core.errors import (
    InvalidInputError,
    WorkflowNotFoundError,
)
from grctl_core.run import RunFilter, RunStatus
from grctl_engine.limits import EngineLimits, LimitCode

from .flows import Gate, approval, echo
from .rig import nothing

# --- limits


async def test_a_full_inbox_refuses_and_says_which_limit(make_rig):
    gate = Gate()
    rig = make_rig(gate.workflow, limits=EngineLimits(inbox=3))
    ref = rig.start("Gated", "wait")
    await rig.settle()
    assert [rig.send("go", {"value": n}).success for n in range(4)] == [True, True, True, False]
    reply = rig.send("go")
    assert reply.error.code == LimitCode.INBOX == 4290
    assert "3 events" in reply.error.message
    assert "EngineLimits.inbox" in reply.error.detail
    gate.opened.set()
    await rig.settle()
    assert gate.log == ["go 0", "go 1", "go 2"]
    assert [rig.send("go", {"value": "end"}).success for _ in range(4)] == [True, True, True, True]
    assert (await rig.outcome(ref)).status is RunStatus.COMPLETED


async def test_too_many_active_runs_are_refused_until_one_ends(make_rig):
    rig = make_rig(approval, limits=EngineLimits(active_runs=2))
    rig.start("OrderApproval", wf_id="a")
    rig.start("OrderApproval", wf_id="b")
    reply, _ = rig.try_start("OrderApproval", wf_id="c")
    assert reply.error.code == LimitCode.ACTIVE_RUNS == 4291
    rig.terminate(wf_id="a")
    rig.start("OrderApproval", wf_id="c")


async def test_steps_beyond_the_limit_wait_for_their_turn(make_rig):
    gate = Gate()
    rig = make_rig(gate.workflow, limits=EngineLimits(running_steps=2))
    refs = [rig.start("Gated", number, wf_id=f"w{number}") for number in range(5)]
    await rig.settle()
    assert gate.inside == 2
    assert rig.describe("w2").started_at is None
    rig.cancel("not yet taken", wf_id="w2")
    assert (await rig.outcome(refs[2])).status is RunStatus.CANCELLED
    await rig.advance(299)  # a queued step's timer does not run
    gate.opened.set()
    await rig.settle()
    assert [rig.engine.find_run(ref).status for ref in refs].count(RunStatus.COMPLETED) == 4
    assert gate.inside == 4
    assert nothing(rig.held())


@pytest.mark.parametrize("name", ["finished_runs", "inbox", "running_steps", "active_runs"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1", None])
def test_limits_are_whole_numbers_above_zero(name, value):
    with pytest.raises(InvalidInputError, match=rf"EngineLimits\.{name} must be a whole number"):
        EngineLimits(**{name: value})


@pytest.mark.parametrize("value", [0, timedelta(0), timedelta(-1), None])
def test_the_retention_is_a_timedelta_above_zero(value):
    with pytest.raises(InvalidInputError, match="finished_retention"):
        EngineLimits(finished_retention=value)


# --- retention


async def test_the_oldest_end_goes_first(make_rig):
    rig = make_rig(echo, approval, limits=EngineLimits(finished_runs=2))
    active = rig.start("OrderApproval", wf_id="active")
    refs = []
    for number in range(4):
        refs.append(rig.start("Echo", number, wf_id=f"w{number}"))
        await rig.settle()
    assert [rig.engine.find_run(ref) is not None for ref in refs] == [False, False, True, True]
    assert rig.engine.find_run(active) is not None
    watched = rig.engine.watch(refs[0])
    with pytest.raises(WorkflowNotFoundError, match=r"the last 2 ended runs are kept, each for 1 day.*EngineLimits"):
        await watched
    assert rig.send("x", wf_id="w0").error.code == 4002
    assert len(rig.engine._runs) == 3


async def test_forgetting_an_old_run_does_not_forget_the_latest_of_its_id(make_rig):
    rig = make_rig(echo, limits=EngineLimits(finished_runs=1))
    rig.start("Echo", 1)
    await rig.settle()
    second = rig.start("Echo", 2)
    await rig.settle()
    assert rig.describe().id == second.run_id
    assert len(rig.engine._runs) == 1


async def test_the_retention_is_kept_at_every_look(make_rig):
    rig = make_rig(echo, limits=EngineLimits(finished_retention=timedelta(hours=1)))
    looks = [
        lambda ref: rig.engine.find_run(ref) is None,
        lambda ref: not rig.engine.has_begun(ref),
        lambda ref: isinstance(rig.engine.watch(ref).exception(), WorkflowNotFoundError),
        lambda _: rig.cancel().error.code == 4002,
    ]
    for look in looks:
        ref = rig.start("Echo")
        await rig.advance(3600)
        assert rig.engine.find_run(ref) is not None
        await rig.advance(0.001)
        assert look(ref)
        assert len(rig.engine._runs) == 0
    rig.start("Echo")
    await rig.advance(3601)
    assert [run async for run in rig.engine.list_runs(RunFilter())] == []


async def test_who_watches_gets_the_end_even_when_the_run_is_forgotten_at_once(make_rig):
    rig = make_rig(echo, limits=EngineLimits(finished_runs=1))
    futures = [rig.engine.watch(rig.start("Echo", number, wf_id=f"w{number}")) for number in range(5)]
    outcomes = await asyncio.gather(*futures)
    assert [outcome.run.status for outcome in outcomes] == [RunStatus.COMPLETED] * 5
    assert len(rig.engine._runs) == 1
