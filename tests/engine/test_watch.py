from __future__ import annotations

import asyncio
import gc

from grctl_core.commands import CancelCommand, TerminateCommand
from grctl_core.run import RunFilter, RunRef, RunStatus
from grctl_engine.limits import EngineLimits

from .flows import ALL, approval, echo


def logs_nothing(caplog) -> bool:
    gc.collect()
    return not caplog.records


# --- watching


async def test_watching_early_and_late_gives_the_same(make_rig):
    rig = make_rig(*ALL)
    for wf_type, value in [("Echo", {"value": [1]}), ("Echo", None), ("FailByDecision", None), ("Boom", None)]:
        ref = rig.start(wf_type, value)
        early = rig.engine.watch(ref)
        await rig.settle()
        assert early.result() == rig.engine.watch(ref).result()
    for command in (CancelCommand, TerminateCommand):
        ref = rig.start("OrderApproval")
        early = rig.engine.watch(ref)
        rig.engine.execute(command(wf_id="w", reason="enough"))
        assert early.result() == rig.engine.watch(ref).result()
        assert early.result().reason == "enough"


async def test_the_result_none_is_none_on_both_ways(make_rig):
    rig = make_rig(echo)
    ref = rig.start("Echo")
    early = rig.engine.watch(ref)
    await rig.settle()
    assert early.result().result is None
    assert rig.engine.watch(ref).result().result is None


async def test_a_cancelled_watch_is_given_back_and_harms_nobody(make_rig):
    rig = make_rig(approval)
    ref = rig.start("OrderApproval")
    await rig.settle()
    kept = rig.engine.watch(ref)
    for _ in range(1000):
        rig.engine.watch(ref).cancel()
    await asyncio.sleep(0)
    assert rig.held()["watchers"] == 1
    rig.engine.watch(ref).cancel()  # in the very turn of the end
    rig.terminate()
    assert (await kept).run.status is RunStatus.TERMINATED


async def test_an_end_that_nobody_asks_for_logs_nothing(make_rig, caplog):
    rig = make_rig(*ALL)
    ref = rig.start("Boom")
    future = rig.engine.watch(ref)
    missing = rig.engine.watch(RunRef("w", "nope"))
    await rig.settle()
    del future, missing
    assert logs_nothing(caplog)


# --- listing


async def test_listing_each_run_once_whatever_happens_meanwhile(make_rig):
    rig = make_rig(echo, approval, limits=EngineLimits(finished_runs=5))
    refs = [rig.start("OrderApproval", wf_id=f"w{number}") for number in range(2500)]
    listed = []
    async for run in rig.engine.list_runs(RunFilter(status=RunStatus.RUNNING)):
        listed.append(run.id)
        if len(listed) % 100 == 0:
            rig.start("Echo", wf_id=f"new{len(listed)}")
            rig.terminate(wf_id=f"w{2499 - len(listed)}")
    assert len(listed) == len(set(listed))
    assert set(listed) <= {ref.run_id for ref in refs}
    assert len(listed) > 2400


async def test_listing_filters(make_rig):
    rig = make_rig(*ALL)
    rig.start("OrderApproval", wf_id="order-1")
    rig.start("Echo", wf_id="order-2")
    rig.start("Echo", wf_id="other")
    await rig.settle()

    async def listed(**criteria):
        return [run.wf_id async for run in rig.engine.list_runs(RunFilter(**criteria))]

    assert await listed() == ["order-1", "order-2", "other"]
    assert await listed(workflow_type="Echo") == ["order-2", "other"]
    assert await listed(status=RunStatus.RUNNING) == ["order-1"]
    assert await listed(workflow_id_prefix="order-") == ["order-1", "order-2"]
