"""How a run ended is raised in the calling thread, with its class and fields, whichever way one waits."""

from __future__ import annotations

import asyncio
import concurrent.futures

import pytest

from grctl import (
    ConnectionClosedError,
    DecodeError,
    RunStatus,
    WorkflowCancelledError,
    WorkflowError,
    WorkflowTerminatedError,
    WorkflowTimeoutError,
)

from .conftest import until


def in_another_thread(handle):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(handle.result, 60).result()


WAYS = {
    "result": lambda handle: handle.result(timeout=60),
    "future": lambda handle: handle.future.result(timeout=60),
    "as_completed": lambda handle: next(concurrent.futures.as_completed([handle.future], timeout=60)).result(),
    "another thread": in_another_thread,
    "unwrap": lambda handle: handle.outcome(timeout=60).unwrap(),
}
way = pytest.mark.parametrize("wait", WAYS.values(), ids=WAYS)


@way
def test_failed(client, unique_id, wait):
    handle = client.start_workflow("FailsByDecision", unique_id())
    with pytest.raises(WorkflowError) as caught:
        wait(handle)
    error = caught.value
    assert (error.type, error.message, error.stack_trace) == ("Refused", "not today", "line 1\nline 2")
    assert error.run == handle.run_info.ref


@way
def test_cancelled(client, unique_id, wait):
    handle = client.start_workflow("WaitsForApproval", unique_id())
    handle.cancel("no longer needed")
    with pytest.raises(WorkflowCancelledError) as caught:
        wait(handle)
    assert type(caught.value) is WorkflowCancelledError
    assert isinstance(caught.value, asyncio.CancelledError)
    assert (caught.value.reason, caught.value.run) == ("no longer needed", handle.run_info.ref)
    assert handle.outcome().status is RunStatus.CANCELLED


@way
def test_terminated(client, unique_id, wait):
    handle = client.start_workflow("WaitsForApproval", unique_id())
    handle.terminate("it hung")
    with pytest.raises(WorkflowTerminatedError) as caught:
        wait(handle)
    assert (caught.value.reason, caught.value.run) == ("it hung", handle.run_info.ref)


@way
def test_timed_out(memory, wait):
    handle = memory.start_workflow("WaitsForApproval", "late", workflow_timeout=0.05)
    with pytest.raises(WorkflowTimeoutError, match="exceeded its workflow_timeout") as caught:
        wait(handle)
    assert caught.value.run == handle.run_info.ref


@pytest.mark.parametrize(
    ("workflow_type", "kind"), [("FailsByException", WorkflowError), ("ReturnsItsInput", DecodeError)]
)
def test_run_workflow(client, unique_id, workflow_type, kind):
    with pytest.raises(kind):
        client.run_workflow(workflow_type, unique_id(), None if kind is WorkflowError else "text", result_type=int)


def test_the_errors_of_two_waiters_are_two(memory):
    handle = memory.start_workflow("FailsByException", "twice")
    errors = []
    for _ in range(2):
        with pytest.raises(WorkflowError) as caught:
            handle.result()
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_one_future_for_all_who_look(memory):
    handle = memory.start_workflow("WaitsForApproval", "watched")
    future = handle.future
    called = []
    future.add_done_callback(called.append)
    assert handle.future is future
    assert not future.cancel()
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(timeout=0.01)
    handle.send("approve")
    assert future.result(timeout=60)["approved"]
    assert handle.future is future
    until(lambda: called == [future])
    memory.connection.close()
    assert handle.future is future, "what is known needs no connection"


def test_a_future_outlives_its_handle_and_client(memory):
    future = memory.start_workflow("WaitsForApproval", "kept").future
    memory.get_handle("kept").send("approve")
    assert future.result(timeout=60)["approved"]


def test_a_future_whose_connection_is_closed(memory):
    handle = memory.start_workflow("WaitsForApproval", "cut-off")
    future = handle.future
    memory.connection.close()
    with pytest.raises(ConnectionClosedError):
        future.result(timeout=60)
    with pytest.raises(ConnectionClosedError):
        _ = handle.future
