"""Tasks: what a client sees of them."""

from __future__ import annotations

import asyncio
import re

import pytest

from grctl import RunStatus, WorkflowError, WorkflowTerminatedError

from .helpers import kinds, until


async def of_kind(handle, *wanted):
    return [event async for event in handle.history() if event.kind in wanted]


async def test_calls_and_results_are_recorded(client, unique_id):
    handle = await client.start_workflow("CallsTasks", unique_id(), {"n": 5})
    assert await handle.result() == [15, 6]
    started = await of_kind(handle, "task.started")
    assert sorted(event.data["args"]["second"] for event in started) == [1, 10]
    completed = await of_kind(handle, "task.completed")
    assert sorted(event.data["output"]["result"] for event in completed) == [6, 15]
    for event in [*started, *completed]:
        assert event.data["task_name"] == "add_up"
        assert event.data["step_name"] == "start"
        assert event.operation_id == event.data["task_id"]
        assert re.fullmatch(r"add_up:[0-9a-f]{16}", event.data["task_id"])


async def test_a_task_is_tried_again(client, unique_id):
    handle = await client.start_workflow("RetriesATask", unique_id(), {"attempt": 3})
    assert await handle.result() == "attempt 3"
    failed = await of_kind(handle, "task.attempt_failed")
    assert [event.data["attempt"] for event in failed] == [1, 2]
    assert [event.data["next_retry_delay_ms"] for event in failed] == [10, 20]
    assert {event.data["max_attempts"] for event in failed} == {3}
    error = failed[0].data["error"]
    assert (error["type"], error["message"]) == ("ConnectionError", "try again")
    assert error["qualified_type"] == "builtins.ConnectionError"


@pytest.mark.parametrize(("attempt", "error", "attempts"), [(9, "ConnectionError", 3), (0, "KeyError", 1)])
async def test_a_task_that_gives_up_fails_the_run(attempt, error, attempts, client, unique_id):
    handle = await client.start_workflow("RetriesATask", unique_id(), {"attempt": attempt})
    with pytest.raises(WorkflowError) as caught:
        await handle.result()
    assert caught.value.type == error
    assert len(await of_kind(handle, "task.attempt_failed")) == attempts - 1
    (failed,) = await of_kind(handle, "task.failed")
    assert failed.data["error"]["type"] == error


async def test_a_task_is_cancelled_when_its_run_is_terminated(client, unique_id):
    handle = await client.start_workflow("IsInATask", unique_id(), {"seconds": 60})
    await until(handle, "task.started")
    await handle.terminate("stop")
    with pytest.raises(WorkflowTerminatedError):
        await handle.result()
    assert (await handle.describe()).status is RunStatus.TERMINATED
    # It may come after the end, which ends every following: so look again.
    while (seen := await kinds(handle))[-1] != "task.cancelled":
        await asyncio.sleep(0.001)
    assert "task.completed" not in seen
