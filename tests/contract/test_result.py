"""handle.result and handle.outcome: how a run ended, as a value or as an error."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest

from grctl import (
    DecodeError,
    ErrorDetails,
    GrctlError,
    InvalidInputError,
    RunStatus,
    WorkflowCancelledError,
    WorkflowError,
    WorkflowTerminatedError,
)

from .helpers import waiting


@dataclass
class Order:
    order_id: str
    qty: int


@dataclass
class Receipt:
    number: str


async def test_result_returns_what_the_workflow_completed_with(client, unique_id):
    handle = await client.start_workflow("ReturnsItsInput", unique_id(), "out")
    assert await handle.result() == "out"


async def test_result_can_be_asked_for_again_and_by_many(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    waiters = [asyncio.create_task(handle.result()) for _ in range(10)]
    await handle.send("approve")
    assert [await waiter for waiter in waiters] == [{"approved": True, "qty": 1}] * 10
    assert await handle.result() == {"approved": True, "qty": 1}


async def test_many_handles_of_one_run_all_get_its_end(client, unique_id):
    wf_id = unique_id()
    handle = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(handle)
    handles = [await client.get_handle(wf_id) for _ in range(10)]
    waiters = [asyncio.create_task(each.result()) for each in handles]
    await handle.send("approve")
    assert [await waiter for waiter in waiters] == [{"approved": True, "qty": 1}] * 10


async def test_an_exception_in_a_step_raises_workflow_error(client, unique_id):
    handle = await client.start_workflow("FailsByException", unique_id())
    with pytest.raises(WorkflowError) as caught:
        await handle.result()
    error = caught.value
    assert (error.type, error.message) == ("ValueError", "card declined")
    assert "ValueError: card declined" in error.stack_trace
    assert error.run == handle.run_info.ref
    assert "card declined" in str(error)


async def test_the_fail_decision_raises_workflow_error(client, unique_id):
    with pytest.raises(WorkflowError) as caught:
        await client.run_workflow("FailsByDecision", unique_id())
    assert (caught.value.type, caught.value.message) == ("Refused", "not today")
    assert caught.value.stack_trace == "line 1\nline 2"


async def test_an_exception_in_an_event_handler_fails_the_run(client, unique_id):
    handle = await client.start_workflow("FailsInAnEvent", unique_id())
    await waiting(handle)
    await handle.send("explode")
    with pytest.raises(WorkflowError) as caught:
        await handle.result()
    assert (caught.value.type, caught.value.message) == ("KeyError", "'missing part'")


async def test_each_waiter_gets_an_error_of_its_own(client, unique_id):
    handle = await client.start_workflow("FailsByException", unique_id())
    errors = await asyncio.gather(handle.result(), handle.result(), return_exceptions=True)
    assert all(isinstance(error, WorkflowError) for error in errors)
    assert errors[0] is not errors[1]


# --- outcome


async def test_outcome_of_a_completed_run(client, unique_id):
    handle = await client.start_workflow("ReturnsItsInput", unique_id(), [1, 2])
    outcome = await handle.outcome()
    assert outcome.completed
    assert outcome.status is RunStatus.COMPLETED
    assert outcome.result == [1, 2]
    assert outcome.error is None
    assert outcome.unwrap() == [1, 2]
    assert outcome.run.id == handle.run_info.id
    assert outcome.run.is_finished


async def test_outcome_of_a_failed_run_does_not_raise(client, unique_id):
    outcome = await (await client.start_workflow("FailsByDecision", unique_id())).outcome()
    assert outcome.status is RunStatus.FAILED
    assert not outcome.completed
    assert outcome.result is None
    assert outcome.error == ErrorDetails("Refused", "not today", "line 1\nline 2")
    with pytest.raises(WorkflowError, match="not today"):
        outcome.unwrap()


async def test_outcome_of_a_cancelled_run_does_not_raise(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    await handle.cancel("changed my mind")
    outcome = await handle.outcome()
    assert outcome.status is RunStatus.CANCELLED
    assert outcome.reason == "changed my mind"
    assert outcome.error is None
    with pytest.raises(WorkflowCancelledError, match="changed my mind"):
        outcome.unwrap()


async def test_outcome_of_a_terminated_run_does_not_raise(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    await handle.terminate("stop")
    outcome = await handle.outcome()
    assert outcome.status is RunStatus.TERMINATED
    assert outcome.reason == "stop"
    with pytest.raises(WorkflowTerminatedError, match="stop"):
        outcome.unwrap()


async def test_run_info_knows_the_end_after_it_was_waited_for(client, unique_id):
    handle = await client.start_workflow("ReturnsItsInput", unique_id())
    await handle.result()
    assert handle.run_info.status is RunStatus.COMPLETED
    assert handle.run_info.completed_at is not None


async def test_repr_names_the_run_and_its_end(client, unique_id):
    wf_id = unique_id()
    handle = await client.start_workflow("ReturnsItsInput", wf_id)
    await handle.result()
    assert wf_id in repr(handle)
    assert "completed" in repr(handle)


# --- timeout=


@pytest.mark.parametrize("timeout", [0.05, timedelta(milliseconds=50)])
async def test_a_timeout_on_result_is_ours_and_the_run_goes_on(client, unique_id, timeout):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    with pytest.raises(TimeoutError, match="it goes on") as caught:
        await handle.result(timeout=timeout)
    assert not isinstance(caught.value, GrctlError)
    await waiting(handle)
    await handle.send("approve")
    assert await handle.result(timeout=60) == {"approved": True, "qty": 1}


async def test_a_timeout_on_outcome_harms_no_other_waiter(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    other = asyncio.create_task(handle.outcome())
    with pytest.raises(TimeoutError):
        await handle.outcome(timeout=0.05)
    assert not other.done()
    await waiting(handle)
    await handle.send("approve")
    assert (await other).completed


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5", True, timedelta(0)])
async def test_a_timeout_on_result_must_be_a_duration(client, unique_id, timeout):
    handle = await client.start_workflow("ReturnsItsInput", unique_id())
    with pytest.raises(InvalidInputError, match="timeout"):
        await handle.result(timeout=timeout)
    await handle.result()


# --- result_type=


async def test_result_type_decodes_the_result(client, unique_id):
    given = {"order_id": "1", "qty": 2}
    assert await client.run_workflow("SpreadsAMap", unique_id(), given, result_type=Order) == Order("1", 2)


async def test_result_type_on_start_and_on_get_handle(client, unique_id):
    wf_id = unique_id()
    handle = await client.start_workflow("SpreadsAMap", wf_id, {"order_id": "1"}, result_type=Order)
    assert await handle.result() == Order("1", 1)
    assert (await handle.outcome()).result == Order("1", 1)
    assert await handle.future == Order("1", 1)
    again = await client.get_handle(wf_id, result_type=Order)
    assert await again.result() == Order("1", 1)
    plain = await client.get_handle(wf_id)
    assert await plain.result() == {"order_id": "1", "qty": 1}


async def test_a_result_of_another_type_is_a_clear_error_and_the_run_is_unharmed(client, unique_id):
    wf_id = unique_id()
    with pytest.raises(DecodeError, match=r"completed, but its result is not.*number"):
        await client.run_workflow("SpreadsAMap", wf_id, {"order_id": "1"}, result_type=Receipt)
    assert await (await client.get_handle(wf_id)).result() == {"order_id": "1", "qty": 1}


async def test_a_result_type_that_nothing_decodes_to_is_refused_before_anything_is_sent(client, unique_id):
    with pytest.raises(InvalidInputError, match="result_type"):
        await client.start_workflow("ReturnsItsInput", unique_id(), result_type=42)
