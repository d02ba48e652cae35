"""start_workflow, run_workflow and get_handle."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from grctl import (
    InvalidInputError,
    RunStatus,
    WorkflowAlreadyRunningError,
    WorkflowHandle,
    WorkflowNotFoundError,
    WorkflowTypeNotRegisteredError,
)

from .helpers import collect, in_step, kinds, until, waiting


async def test_run_workflow_returns_the_result(client, unique_id):
    result = await client.run_workflow("SpreadsAMap", unique_id(), {"order_id": "abc-123", "qty": 2})
    assert result == {"order_id": "abc-123", "qty": 2}


async def test_run_workflow_takes_the_documented_keywords(client, unique_id):
    result = await client.run_workflow(
        workflow_type="ReturnsItsInput",
        workflow_id=unique_id(),
        workflow_input={"value": "in"},
        workflow_timeout=timedelta(minutes=5),
    )
    assert result == "in"


async def test_start_workflow_takes_the_same_parameters_in_the_same_order(client, unique_id):
    handle = await client.start_workflow("ReturnsItsInput", unique_id(), "in", timedelta(minutes=5))
    assert await handle.result() == "in"


async def test_start_workflow_returns_a_handle_before_the_run_has_ended(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    assert isinstance(handle, WorkflowHandle)
    assert not handle.future.done()
    await handle.terminate()


async def test_run_info_names_the_run(client, unique_id):
    wf_id = unique_id()
    before = datetime.now(UTC)
    handle = await client.start_workflow("WaitsForApproval", wf_id, workflow_timeout=timedelta(minutes=5))
    info = handle.run_info
    assert info.wf_id == wf_id
    assert info.wf_type == "WaitsForApproval"
    assert len(info.id) == 26
    assert info.timeout == timedelta(minutes=5)
    assert before <= info.created_at <= datetime.now(UTC)
    await handle.terminate()


async def test_each_start_makes_a_run_with_an_id_of_its_own(client, unique_id):
    handles = await asyncio.gather(*(client.start_workflow("ReturnsItsInput", unique_id(), n) for n in range(20)))
    assert len({handle.run_info.id for handle in handles}) == 20
    assert [await handle.result() for handle in handles] == list(range(20))


async def test_a_workflow_can_be_started_without_input(client, unique_id):
    assert await client.run_workflow("ReturnsItsInput", unique_id()) == "nothing was passed"


async def test_the_workflow_knows_its_run(client, unique_id):
    wf_id = unique_id()
    handle = await client.start_workflow("KnowsItsRun", wf_id)
    assert await handle.result() == {"id": handle.run_info.id, "wf_id": wf_id, "wf_type": "KnowsItsRun"}


async def test_steps_follow_each_other_and_share_the_store(client, unique_id):
    assert await client.run_workflow("ThreeSteps", unique_id(), "first") == ["first", "second", "third"]


# --- ids that are in use


async def test_a_running_id_is_refused_and_the_error_names_the_active_run(client, unique_id):
    wf_id = unique_id()
    first = await client.start_workflow("WaitsForApproval", wf_id)
    with pytest.raises(WorkflowAlreadyRunningError) as caught:
        await client.start_workflow("WaitsForApproval", wf_id)
    assert caught.value.run_id == first.run_info.id
    assert "on_conflict" in str(caught.value)
    assert not (await first.describe()).is_finished
    await first.terminate()


async def test_an_id_can_be_used_again_after_the_run_has_ended(client, unique_id):
    wf_id = unique_id()
    first = await client.start_workflow("ReturnsItsInput", wf_id, 1)
    assert await first.result() == 1
    second = await client.start_workflow("ReturnsItsInput", wf_id, 2)
    assert await second.result() == 2
    assert first.run_info.id != second.run_info.id
    assert await first.result() == 1


async def test_of_concurrent_starts_of_one_id_one_wins(client, unique_id):
    wf_id = unique_id()
    started = await asyncio.gather(
        *(client.start_workflow("WaitsForApproval", wf_id) for _ in range(10)), return_exceptions=True
    )
    (winner,) = [handle for handle in started if isinstance(handle, WorkflowHandle)]
    refusals = [error for error in started if isinstance(error, WorkflowAlreadyRunningError)]
    assert [error.run_id for error in refusals] == [winner.run_info.id] * 9
    await winner.terminate()


async def test_on_conflict_attach_gives_a_handle_to_the_active_run(client, unique_id):
    wf_id = unique_id()
    first = await client.start_workflow("WaitsForApproval", wf_id)
    attached = await client.start_workflow("WaitsForApproval", wf_id, on_conflict="attach")
    assert attached.run_info.id == first.run_info.id
    await waiting(attached)
    await attached.send("approve")
    assert await first.result() == await attached.result()


async def test_of_concurrent_starts_with_attach_all_get_the_one_run(client, unique_id):
    wf_id = unique_id()
    handles = await asyncio.gather(
        *(client.start_workflow("WaitsForApproval", wf_id, on_conflict="attach") for _ in range(10))
    )
    assert len({handle.run_info.id for handle in handles}) == 1
    await waiting(handles[0])
    assert (await kinds(handles[0])).count("run.started") == 1
    await handles[0].terminate()


async def test_on_conflict_attach_starts_where_nothing_runs(client, unique_id):
    assert await client.run_workflow("ReturnsItsInput", unique_id(), "in", on_conflict="attach") == "in"


async def test_on_conflict_attach_refuses_a_run_of_another_type(client, unique_id):
    wf_id = unique_id()
    first = await client.start_workflow("WaitsForApproval", wf_id)
    with pytest.raises(WorkflowAlreadyRunningError, match="WaitsForApproval") as caught:
        await client.start_workflow("ReturnsItsInput", wf_id, on_conflict="attach")
    assert caught.value.run_id == first.run_info.id
    await first.terminate()


async def test_run_workflow_with_attach_waits_for_the_active_run(client, unique_id):
    wf_id = unique_id()
    first = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(first)
    joined = asyncio.create_task(client.run_workflow("WaitsForApproval", wf_id, on_conflict="attach"))
    await first.send("approve")
    assert await first.result() == {"approved": True, "qty": 1}
    assert await joined == {"approved": True, "qty": 1}


async def test_on_conflict_terminate_ends_the_active_run_and_starts(client, unique_id):
    wf_id = unique_id()
    first = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(first)
    second = await client.start_workflow("ReturnsItsInput", wf_id, "second", on_conflict="terminate")
    assert await second.result() == "second"
    ended = await first.outcome()
    assert ended.status is RunStatus.TERMINATED
    assert second.run_info.id in ended.reason


async def test_on_conflict_terminate_starts_where_nothing_runs(client, unique_id):
    assert await client.run_workflow("ReturnsItsInput", unique_id(), "in", on_conflict="terminate") == "in"


async def test_on_conflict_is_one_of_three(client, unique_id):
    with pytest.raises(InvalidInputError, match=r"'raise', 'attach', 'terminate'"):
        await client.start_workflow("ReturnsItsInput", unique_id(), on_conflict="ignore")


# --- what the server does not know


async def test_a_type_that_nobody_has_registered_is_refused(client, unique_id):
    with pytest.raises(WorkflowTypeNotRegisteredError, match="NobodyHasThis") as caught:
        await client.start_workflow("NobodyHasThis", unique_id())
    assert caught.value.code == 4004


async def test_nothing_is_recorded_of_a_start_that_was_refused(client, unique_id):
    wf_id = unique_id()
    with pytest.raises(WorkflowTypeNotRegisteredError):
        await client.start_workflow("NobodyHasThis", wf_id)
    with pytest.raises(WorkflowNotFoundError):
        await client.get_handle(wf_id)


# --- get_handle


async def test_get_handle_of_a_run_that_goes_on(client, unique_id):
    wf_id = unique_id()
    started = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(started)
    found = await client.get_handle(wf_id)
    assert found.run_info.id == started.run_info.id
    assert found.run_info.wf_type == "WaitsForApproval"
    await found.send("approve")
    assert await found.result() == {"approved": True, "qty": 1}


@pytest.mark.parametrize(
    ("workflow_type", "status"),
    [
        ("ReturnsItsInput", RunStatus.COMPLETED),
        ("FailsByException", RunStatus.FAILED),
    ],
)
async def test_get_handle_of_a_run_that_has_ended(client, unique_id, workflow_type, status):
    wf_id = unique_id()
    first = await (await client.start_workflow(workflow_type, wf_id)).outcome()
    found = await client.get_handle(wf_id)
    assert found.run_info.is_finished
    outcome = await found.outcome()
    assert (outcome.status, outcome.result, outcome.error) == (status, first.result, first.error)


async def test_get_handle_of_an_id_that_never_ran(client, unique_id):
    wf_id = unique_id()
    with pytest.raises(WorkflowNotFoundError, match=wf_id):
        await client.get_handle(wf_id)


async def test_get_handle_gives_the_latest_run(client, unique_id):
    wf_id = unique_id()
    for n in range(3):
        handle = await client.start_workflow("ReturnsItsInput", wf_id, n)
        await handle.result()
    assert (await client.get_handle(wf_id)).run_info.id == handle.run_info.id


async def test_get_handle_with_run_id_gives_an_older_run(client, unique_id):
    wf_id = unique_id()
    first = await client.start_workflow("ReturnsItsInput", wf_id, 1)
    await first.result()
    second = await client.start_workflow("WaitsForApproval", wf_id)
    older = await client.get_handle(wf_id, run_id=first.run_info.id)
    assert await older.result() == 1
    assert older.run_info.wf_type == "ReturnsItsInput"
    await second.terminate()


async def test_get_handle_with_an_unknown_run_id(client, unique_id):
    wf_id = unique_id()
    await client.run_workflow("ReturnsItsInput", wf_id)
    with pytest.raises(WorkflowNotFoundError, match="01ARZ3NDEKTSV4RRFFQ69G5FAV"):
        await client.get_handle(wf_id, run_id="01ARZ3NDEKTSV4RRFFQ69G5FAV")


async def test_a_handle_stays_with_its_run_when_a_newer_one_begins(client, unique_id):
    wf_id = unique_id()
    started = await client.start_workflow("ReturnsItsInput", wf_id, 1)
    await started.result()
    found = await client.get_handle(wf_id)
    newer = await client.start_workflow("WaitsForApproval", wf_id)
    assert (await found.describe()).id == started.run_info.id
    assert await found.result() == 1
    assert "run.completed" in await kinds(found)
    await newer.terminate()


async def test_dropping_a_handle_does_nothing_to_the_run(client, unique_id):
    wf_id = unique_id()
    handle = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(handle)
    del handle
    found = await client.get_handle(wf_id)
    await found.send("approve")
    assert (await found.outcome()).completed


# --- cancelling the call


async def test_cancelling_run_workflow_leaves_the_run_alive(client, unique_id):
    wf_id = unique_id()
    task = asyncio.create_task(client.run_workflow("WaitsForApproval", wf_id))
    handle = await _started(client, wf_id)
    await waiting(handle)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    await handle.send("approve")
    assert await handle.result() == {"approved": True, "qty": 1}


async def test_wait_for_around_run_workflow_leaves_the_run_alive(client, unique_id):
    wf_id = unique_id()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.run_workflow("WaitsForApproval", wf_id), 0.2)
    handle = await client.get_handle(wf_id)
    await waiting(handle)
    await handle.send("approve")
    assert (await handle.outcome()).completed


async def test_a_start_that_is_accepted_begins(client, unique_id):
    handle = await client.start_workflow("IsInAStep", unique_id(), {"seconds": 60.0})
    await in_step(handle)
    events = await until(handle, "step.started")
    assert events[0].kind == "run.started"
    await handle.terminate()
    assert len(await collect(handle.history())) >= 3


async def _started(client, wf_id):
    while True:
        try:
            return await client.get_handle(wf_id)
        except WorkflowNotFoundError:
            await asyncio.sleep(0)
