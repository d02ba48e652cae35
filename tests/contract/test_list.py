"""client.list_workflows. A live server holds other people's runs: each case looks at its own, by their prefix."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from grctl import InvalidInputError, RunInfo, RunStatus

from .helpers import collect, waiting


@pytest.fixture
async def runs(client, unique_id):
    """Three runs of different types and ends under one prefix, and the prefix."""
    prefix = unique_id("list") + "-"
    completed = await client.start_workflow("ReturnsItsInput", prefix + "completed")
    failed = await client.start_workflow("FailsByException", prefix + "failed")
    running = await client.start_workflow("WaitsForApproval", prefix + "running")
    await completed.outcome()
    await failed.outcome()
    await waiting(running)
    yield prefix
    await running.terminate()


async def ids(iterator) -> list[str]:
    return sorted([run.wf_id.rpartition("-")[2] async for run in iterator])


async def test_it_lists_runs_that_go_on_and_runs_that_have_ended(client, runs):
    found = await collect(client.list_workflows(workflow_id_prefix=runs))
    assert all(isinstance(run, RunInfo) for run in found)
    assert {run.wf_id.removeprefix(runs): run.status for run in found} == {
        "completed": RunStatus.COMPLETED,
        "failed": RunStatus.FAILED,
        "running": RunStatus.RUNNING,
    }


async def test_without_filters_it_lists_every_run_once(client, runs):
    listed = [run.id async for run in client.list_workflows()]
    assert len(listed) == len(set(listed))
    assert {run.id async for run in client.list_workflows(workflow_id_prefix=runs)} <= set(listed)


async def test_by_type(client, runs):
    assert await ids(client.list_workflows(workflow_id_prefix=runs, workflow_type="FailsByException")) == ["failed"]
    assert await ids(client.list_workflows(workflow_id_prefix=runs, workflow_type="NobodyHasThis")) == []


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, "completed"])
async def test_by_status(client, runs, status):
    assert await ids(client.list_workflows(workflow_id_prefix=runs, status=status)) == ["completed"]


async def test_by_status_running(client, runs):
    assert await ids(client.list_workflows(workflow_id_prefix=runs, status="running")) == ["running"]


async def test_by_a_status_that_nobody_knows(client, runs):
    assert await ids(client.list_workflows(workflow_id_prefix=runs, status="paused")) == []


async def test_by_prefix(client, runs):
    assert await ids(client.list_workflows(workflow_id_prefix=runs + "f")) == ["failed"]
    assert await ids(client.list_workflows(workflow_id_prefix=runs + "x")) == []


async def test_by_time_of_creation(client, unique_id):
    prefix = unique_id("list") + "-"
    first = await client.start_workflow("ReturnsItsInput", prefix + "first")
    between = first.run_info.created_at + timedelta(microseconds=1)
    while datetime.now(UTC) <= between:
        await asyncio.sleep(0)
    second = await client.start_workflow("ReturnsItsInput", prefix + "second")
    await asyncio.gather(first.result(), second.result())
    assert await ids(client.list_workflows(workflow_id_prefix=prefix, created_after=between)) == ["second"]
    assert await ids(client.list_workflows(workflow_id_prefix=prefix, created_before=between)) == ["first"]
    at_first = first.run_info.created_at
    assert await ids(client.list_workflows(workflow_id_prefix=prefix, created_after=at_first)) == ["first", "second"]
    assert await ids(client.list_workflows(workflow_id_prefix=prefix, created_before=at_first)) == []


async def test_each_run_of_an_id_is_listed(client, unique_id):
    wf_id = unique_id()
    run_ids = set()
    for n in range(3):
        handle = await client.start_workflow("ReturnsItsInput", wf_id, n)
        await handle.result()
        run_ids.add(handle.run_info.id)
    listed = [run.id async for run in client.list_workflows(workflow_id_prefix=wf_id)]
    assert sorted(listed) == sorted(run_ids)


async def test_a_run_that_was_listed_can_be_gone_on_with(client, runs):
    (info,) = await collect(client.list_workflows(workflow_id_prefix=runs, status="failed"))
    handle = await client.get_handle(info.wf_id, run_id=info.id)
    assert (await handle.outcome()).error.message == "card declined"


async def test_many_runs_are_listed_each_once_while_others_start_and_end(client, unique_id):
    prefix = unique_id("list") + "-"
    handles = [await client.start_workflow("ReturnsItsInput", f"{prefix}{n:03}") for n in range(200)]
    await asyncio.gather(*(handle.outcome() for handle in handles))
    seen = []
    async for run in client.list_workflows(workflow_id_prefix=prefix):
        seen.append(run.id)
        if len(seen) % 50 == 0:
            await client.run_workflow("ReturnsItsInput", unique_id())
    assert sorted(seen) == sorted(handle.run_info.id for handle in handles)


async def test_breaking_out_of_a_list_is_harmless(client, runs):
    async for _ in client.list_workflows(workflow_id_prefix=runs):
        break
    assert len(await collect(client.list_workflows(workflow_id_prefix=runs))) == 3


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"workflow_type": ""}, "workflow_type is empty"),
        ({"workflow_type": "a b"}, "workflow_type"),
        ({"workflow_id_prefix": "a*"}, "workflow_id_prefix"),
        ({"workflow_id_prefix": 7}, "workflow_id_prefix must be a string"),
        ({"status": 7}, "status must be a RunStatus or a string"),
        ({"created_after": datetime(2026, 1, 1)}, "created_after has no time zone"),  # noqa: DTZ001 - the case's point
        ({"created_before": "yesterday"}, "created_before must be a datetime"),
    ],
)
async def test_wrong_filters_are_refused_at_once(client, filters, message):
    with pytest.raises(InvalidInputError, match=message):
        client.list_workflows(**filters)
