"""handle.terminate: at once, whatever the run does."""

from __future__ import annotations

import asyncio

import pytest

from grctl import RunStatus, WorkflowCancelledError, WorkflowFinishedError, WorkflowTerminatedError

from .helpers import event_of, in_step, kinds, waiting


async def test_terminate_while_waiting(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    await handle.terminate("stop")
    with pytest.raises(WorkflowTerminatedError) as caught:
        await handle.result()
    assert isinstance(caught.value, WorkflowCancelledError)
    assert caught.value.reason == "stop"
    assert (await handle.describe()).status is RunStatus.TERMINATED
    assert (await event_of(handle, "run.terminated")).data["reason"] == "stop"


async def test_terminate_during_a_step_abandons_the_step(client, unique_id):
    handle = await client.start_workflow("IsInAStep", unique_id(), {"seconds": 250.0})
    await in_step(handle)
    await handle.terminate("stop")
    assert (await handle.outcome()).status is RunStatus.TERMINATED
    assert "step.completed" not in await kinds(handle)


async def test_terminate_right_after_the_start(client, unique_id):
    handle = await client.start_workflow("IsInAStep", unique_id(), {"seconds": 250.0})
    await handle.terminate()
    outcome = await handle.outcome()
    assert (outcome.status, outcome.reason) == (RunStatus.TERMINATED, "")


async def test_terminate_ends_a_run_whose_cancel_waits_for_a_step(client, unique_id):
    handle = await client.start_workflow("IsInAStep", unique_id(), {"seconds": 250.0})
    await in_step(handle)
    await handle.cancel("please")
    await handle.terminate("now")
    outcome = await handle.outcome()
    assert (outcome.status, outcome.reason) == (RunStatus.TERMINATED, "now")


async def test_terminate_of_a_run_that_has_ended(client, unique_id):
    handle = await client.start_workflow("ReturnsItsInput", unique_id())
    await handle.result()
    with pytest.raises(WorkflowFinishedError, match="has ended"):
        await handle.terminate()


async def test_terminate_twice(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    await handle.terminate("first")
    await handle.outcome()
    with pytest.raises(WorkflowFinishedError):
        await handle.terminate("second")
    assert (await handle.outcome()).reason == "first"


async def test_concurrent_terminates_share_one_and_all_succeed(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    assert await asyncio.gather(*(handle.terminate() for _ in range(5))) == [None] * 5
    await handle.outcome()
    assert (await kinds(handle)).count("run.terminated") == 1


async def test_terminate_of_an_older_run_never_hits_the_newer_one(client, unique_id):
    wf_id = unique_id()
    older = await client.start_workflow("ReturnsItsInput", wf_id)
    await older.result()
    newer = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(newer)
    with pytest.raises(WorkflowFinishedError):
        await older.terminate()
    await newer.send("approve")
    assert (await newer.outcome()).completed


async def test_an_id_is_free_after_a_terminate(client, unique_id):
    wf_id = unique_id()
    handle = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(handle)
    await handle.terminate()
    await handle.outcome()
    assert await client.run_workflow("ReturnsItsInput", wf_id, "again") == "again"
