"""handle.describe and handle.run_info."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from grctl import RunStatus

from .helpers import in_step, waiting

CLOCKS_AGREE = timedelta(minutes=1)


async def test_describe_tells_the_runs_present_state(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    found = await handle.describe()
    assert found.status is RunStatus.RUNNING
    assert not found.is_finished
    assert found.completed_at is None
    await handle.send("approve")
    await handle.result()
    found = await handle.describe()
    assert found.status is RunStatus.COMPLETED
    assert found.is_finished
    assert found.completed_at is not None


async def test_describe_names_the_run(client, unique_id):
    wf_id = unique_id()
    handle = await client.start_workflow("WaitsForApproval", wf_id, workflow_timeout=300)
    found = await handle.describe()
    assert (found.id, found.wf_id, found.wf_type) == (handle.run_info.id, wf_id, "WaitsForApproval")
    assert found.timeout == timedelta(minutes=5)
    assert found.ref == handle.run_info.ref
    await handle.terminate()


async def test_describe_has_the_times_in_order_and_aware(client, unique_id):
    handle = await client.start_workflow("ReturnsItsInput", unique_id())
    await handle.result()
    found = await handle.describe()
    now = datetime.now(UTC)
    assert found.started_at <= found.completed_at <= now + CLOCKS_AGREE
    assert found.created_at <= now
    assert {found.created_at.utcoffset(), found.started_at.utcoffset(), found.completed_at.utcoffset()} == {
        timedelta(0)
    }


async def test_created_at_is_what_the_client_sent(client, unique_id):
    handle = await client.start_workflow("ReturnsItsInput", unique_id())
    sent = handle.run_info.created_at
    assert (await handle.describe()).created_at == sent
    await handle.result()


async def test_started_at_is_there_once_a_step_runs(client, unique_id):
    handle = await client.start_workflow("IsInAStep", unique_id(), {"seconds": 250.0})
    await in_step(handle)
    assert (await handle.describe()).started_at is not None
    await handle.terminate()


async def test_run_info_has_what_describe_found(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    found = await handle.describe()
    assert handle.run_info == found
    await handle.terminate()


@pytest.mark.parametrize(
    ("workflow_type", "status"),
    [
        ("ReturnsItsInput", RunStatus.COMPLETED),
        ("FailsByException", RunStatus.FAILED),
        ("FailsByDecision", RunStatus.FAILED),
        ("StartStepTimesOut", RunStatus.FAILED),
    ],
)
async def test_the_status_says_how_the_run_ended(client, unique_id, workflow_type, status):
    handle = await client.start_workflow(workflow_type, unique_id())
    await handle.outcome()
    assert (await handle.describe()).status is status


async def test_describe_of_an_older_run(client, unique_id):
    wf_id = unique_id()
    older = await client.start_workflow("ReturnsItsInput", wf_id)
    await older.result()
    newer = await client.start_workflow("WaitsForApproval", wf_id)
    assert (await older.describe()).id == older.run_info.id
    assert (await newer.describe()).id == newer.run_info.id
    await newer.terminate()


async def test_a_status_that_is_not_terminal_counts_as_going_on():
    assert not RunStatus("paused").is_terminal
    assert RunStatus("paused").value == "paused"
