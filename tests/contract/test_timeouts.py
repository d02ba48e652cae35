"""workflow_timeout, and the timeouts of steps and waits."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from grctl import GrctlError, RunStatus, WorkflowCancelledError, WorkflowError, WorkflowTimeoutError

from .helpers import event_of, in_step, kinds, waiting

SHORT = [0.2, timedelta(milliseconds=200)]


@pytest.mark.parametrize("timeout", SHORT)
async def test_a_run_that_exceeds_its_workflow_timeout_raises_workflow_timeout_error(client, unique_id, timeout):
    with pytest.raises(WorkflowTimeoutError, match="workflow_timeout") as caught:
        await client.run_workflow("WaitsForApproval", unique_id(), workflow_timeout=timeout)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, GrctlError)
    assert not isinstance(caught.value, WorkflowError | WorkflowCancelledError)
    assert caught.value.run.wf_type == "WaitsForApproval"


async def test_every_way_of_waiting_says_so(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id(), workflow_timeout=0.2)
    outcome = await handle.outcome()
    assert outcome.status is RunStatus.TIMED_OUT
    assert outcome.error is None
    with pytest.raises(WorkflowTimeoutError):
        await handle.result()
    with pytest.raises(WorkflowTimeoutError):
        await handle.future
    with pytest.raises(WorkflowTimeoutError):
        await asyncio.wait_for(handle.future, 60)


async def test_every_client_reads_the_end_as_a_timeout(client, unique_id):
    wf_id = unique_id()
    handle = await client.start_workflow("WaitsForApproval", wf_id, workflow_timeout=0.2)
    await handle.outcome()
    assert (await (await client.get_handle(wf_id)).outcome()).status is RunStatus.TIMED_OUT


async def test_the_server_enforces_it_or_the_client_upholds_it(connection, client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id(), workflow_timeout=0.2)
    await handle.outcome()
    seen = await kinds(handle)
    if connection.capabilities.workflow_timeout:
        assert seen[-1] == "run.timeout"
        assert (await event_of(handle, "run.timeout")).data["duration_ms"] >= 199  # uvloop counts whole ms
        assert (await handle.describe()).status is RunStatus.TIMED_OUT
    else:
        assert "run.terminated" in seen


async def test_it_is_upheld_during_a_step_too(client, unique_id):
    handle = await client.start_workflow("IsInAStep", unique_id(), {"seconds": 250.0}, workflow_timeout=0.3)
    await in_step(handle)
    assert (await handle.outcome()).status is RunStatus.TIMED_OUT
    assert "step.completed" not in await kinds(handle)


async def test_it_is_upheld_when_nobody_waits(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id(), workflow_timeout=0.2)
    while not (await handle.describe()).is_finished:
        await asyncio.sleep(0.01)
    assert (await handle.outcome()).status is RunStatus.TIMED_OUT


async def test_a_run_that_ends_in_time_is_not_touched(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id(), workflow_timeout=30)
    await handle.send("approve")
    assert (await handle.outcome()).completed


async def test_the_timeout_of_ones_own_waiting_is_no_workflow_timeout(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id(), workflow_timeout=60)
    for wait in (handle.result(timeout=0.05), asyncio.wait_for(handle.future, 0.05)):
        with pytest.raises(TimeoutError) as caught:
            await wait
        assert not isinstance(caught.value, WorkflowTimeoutError)
    await waiting(handle)
    await handle.terminate()


async def test_an_id_is_free_after_a_timeout(client, unique_id):
    wf_id = unique_id()
    await (await client.start_workflow("WaitsForApproval", wf_id, workflow_timeout=0.2)).outcome()
    assert await client.run_workflow("ReturnsItsInput", wf_id, "again") == "again"


# --- steps and waits: PROTOCOL.md section 6


async def test_a_start_step_that_takes_too_long(client, unique_id):
    with pytest.raises(WorkflowError) as caught:
        await client.run_workflow("StartStepTimesOut", unique_id())
    assert (caught.value.type, caught.value.message) == ("StepTimeout", "step start timed out")


async def test_a_later_step_that_takes_too_long(client, unique_id):
    outcome = await (await client.start_workflow("LaterStepTimesOut", unique_id())).outcome()
    assert (outcome.error.type, outcome.error.message) == ("StepTimeout", "step dawdle timed out")


async def test_an_event_handler_that_takes_too_long(client, unique_id):
    handle = await client.start_workflow("EventStepTimesOut", unique_id())
    await handle.send("linger")
    outcome = await handle.outcome()
    assert (outcome.error.type, outcome.error.message) == ("StepTimeout", "step linger timed out")


async def test_a_wait_without_timeout_step_fails_the_run(client, unique_id):
    with pytest.raises(WorkflowError) as caught:
        await client.run_workflow("WaitTimesOut", unique_id())
    assert (caught.value.type, caught.value.message) == ("WaitTimeout", "wait timed out without a timeout step")


async def test_a_wait_with_timeout_step_goes_on_there(client, unique_id):
    assert await client.run_workflow("WaitFallsBack", unique_id()) == "fallback"


async def test_an_event_in_time_ends_the_wait_and_its_timer(client, unique_id):
    """The step that the event leads to takes longer than the wait would have."""
    handle = await client.start_workflow("EventInTime", unique_id())
    await handle.send("proceed", {"seconds": 1.3})
    assert await handle.result() == "in time"
    assert "wait.timed_out" not in await kinds(handle)


async def test_a_step_timeout_is_a_failure_and_no_timeout_of_the_workflow(client, unique_id):
    handle = await client.start_workflow("StartStepTimesOut", unique_id())
    assert (await handle.outcome()).status is RunStatus.FAILED
    with pytest.raises(WorkflowError) as caught:
        await handle.result()
    assert not isinstance(caught.value, TimeoutError)
