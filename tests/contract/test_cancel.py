"""handle.cancel: at once while the run waits, else when its present step has ended."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from grctl import InvalidInputError, RunStatus, WorkflowCancelledError, WorkflowFinishedError, WorkflowTerminatedError

from .helpers import event_of, in_step, kinds, until, waiting


async def test_cancel_while_waiting_ends_the_run(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    await handle.cancel("enough")
    with pytest.raises(WorkflowCancelledError) as caught:
        await handle.result()
    assert caught.value.reason == "enough"
    assert caught.value.run == handle.run_info.ref
    assert not isinstance(caught.value, WorkflowTerminatedError)
    assert (await handle.describe()).status is RunStatus.CANCELLED


async def test_cancel_while_waiting_leaves_its_trace_in_the_history(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    await handle.cancel("enough")
    await handle.outcome()
    assert (await kinds(handle))[-2:] == ["wait.started", "run.cancelled"]
    assert (await event_of(handle, "run.cancelled")).data["reason"] == "enough"


async def test_cancel_without_a_reason(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    await handle.cancel()
    assert (await handle.outcome()).reason == ""


async def test_cancel_during_a_step_waits_for_the_step_and_ignores_its_decision(client, unique_id):
    handle = await client.start_workflow("IsInAStep", unique_id(), {"seconds": 1.0})
    await in_step(handle)
    await handle.cancel("enough")
    await until(handle, "run.cancel_received")
    outcome = await handle.outcome()
    assert (outcome.status, outcome.reason, outcome.result) == (RunStatus.CANCELLED, "enough", None)
    seen = await kinds(handle)
    assert seen.index("run.cancel_received") < seen.index("step.completed") < seen.index("run.cancelled")
    assert "run.completed" not in seen


async def test_cancel_returns_when_it_is_accepted_not_when_the_run_has_ended(client, unique_id):
    handle = await client.start_workflow("IsInAStep", unique_id(), {"seconds": 1.0})
    await in_step(handle)
    await handle.cancel()
    assert "run.cancelled" not in await kinds(handle)
    await handle.outcome()


async def test_a_run_that_is_cancelled_while_its_step_fails_ends_cancelled(client, unique_id, ours):
    """grctld ends it as failed: PROTOCOL.md section 8, 9."""
    handle = await client.start_workflow("FailsAfter", unique_id(), {"seconds": 0.5})
    await in_step(handle)
    await handle.cancel("enough")
    assert (await handle.outcome()).status is RunStatus.CANCELLED
    seen = await kinds(handle)
    assert seen.index("step.failed") < seen.index("run.cancelled")


async def test_concurrent_cancels_of_one_run_share_one_and_all_succeed(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    assert await asyncio.gather(*(handle.cancel(f"reason {n}") for n in range(5))) == [None] * 5
    assert (await handle.outcome()).reason == "reason 0"
    assert (await kinds(handle)).count("run.cancelled") == 1


async def test_a_second_cancel_during_the_step_changes_nothing(client, unique_id):
    handle = await client.start_workflow("IsInAStep", unique_id(), {"seconds": 1.0})
    await in_step(handle)
    await handle.cancel("first")
    await handle.cancel("second")
    assert (await handle.outcome()).status is RunStatus.CANCELLED
    assert (await kinds(handle)).count("run.cancelled") == 1


async def test_cancel_of_a_run_that_has_ended(client, unique_id):
    handle = await client.start_workflow("ReturnsItsInput", unique_id(), "out")
    await handle.result()
    with pytest.raises(WorkflowFinishedError, match="has ended"):
        await handle.cancel()
    assert await handle.result() == "out"


async def test_cancel_of_an_older_run_never_hits_the_newer_one(client, unique_id):
    wf_id = unique_id()
    older = await client.start_workflow("ReturnsItsInput", wf_id)
    await older.result()
    newer = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(newer)
    with pytest.raises(WorkflowFinishedError):
        await older.cancel()
    assert not (await newer.describe()).is_finished
    await newer.terminate()


async def test_cancel_of_an_older_run_that_we_do_not_know_to_have_ended(client, unique_id):
    wf_id = unique_id()
    older = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(older)
    other = await client.get_handle(wf_id)
    await other.terminate()
    await other.outcome()
    newer = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(newer)
    with pytest.raises(WorkflowFinishedError):
        await older.cancel()
    assert not (await newer.describe()).is_finished
    await newer.terminate()


async def test_cancelling_the_task_that_cancels_leaves_the_others_to_it(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    first, second = (asyncio.create_task(handle.cancel("enough")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert (await handle.outcome()).status is RunStatus.CANCELLED


async def test_events_to_a_run_that_is_being_cancelled_do_not_save_it(client, unique_id):
    handle = await client.start_workflow("CollectsEvents", unique_id(), {"busy_for": 1.0})
    await in_step(handle)
    await handle.cancel("enough")
    with contextlib.suppress(WorkflowFinishedError):  # a transport may hold the event back until the step has ended
        await handle.send("done")
    assert (await handle.outcome()).status is RunStatus.CANCELLED


@pytest.mark.parametrize("reason", [None, 7, b"enough"])
async def test_a_reason_must_be_a_string(client, unique_id, reason):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    with pytest.raises(InvalidInputError, match="reason must be a string"):
        await handle.cancel(reason)
    with pytest.raises(InvalidInputError, match="reason must be a string"):
        await handle.terminate(reason)
    assert not (await handle.describe()).is_finished
    await handle.terminate()


async def test_a_lone_surrogate_in_a_reason(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    with pytest.raises(InvalidInputError, match="surrogate"):
        await handle.cancel("\ud800")
    await handle.terminate()
