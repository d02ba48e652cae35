"""handle.send: events."""

from __future__ import annotations

import asyncio

import pytest

from grctl import InvalidInputError, NotSentError, RefusedError, WorkflowFinishedError, WorkflowNotFoundError

from .helpers import event_of, in_step, kinds, until, waiting


async def test_the_documented_greeting_session(client, unique_id):
    handle = await client.start_workflow("GreetEvents", unique_id(), {"name": "Cem"})
    await handle.send("greet")
    await handle.send("farewell")
    assert await handle.future == "Hello, Cem! Goodbye, Cem!"


async def test_events_with_and_without_payload(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id(), {"order_id": "9", "qty": 1})
    await handle.send("update_quantity", {"item_id": "sku-1", "qty": 3})
    await handle.send("approve")
    assert await handle.result() == {"approved": True, "qty": 3}


async def test_send_takes_the_documented_keywords(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await handle.send(event_name="update_quantity", payload={"qty": 5})
    await handle.send(event_name="approve")
    assert await handle.result() == {"approved": True, "qty": 5}


@pytest.mark.parametrize(
    ("payload", "arrives_as"),
    [
        ("text", "text"),
        (7, 7),
        ([1, 2], [1, 2]),
        ((1, 2), [1, 2]),
        (False, False),
        ("", ""),
        ({"value": "spread"}, "spread"),
        ({}, "nothing was passed"),
        (None, "nothing was passed"),
    ],
)
async def test_a_map_is_spread_another_value_is_the_argument_and_none_passes_nothing(
    client, unique_id, payload, arrives_as
):
    handle = await client.start_workflow("CollectsEvents", unique_id())
    await handle.send("add", payload)
    await handle.send("done")
    assert await handle.result() == [arrives_as]


async def test_an_idempotent_event_that_gets_through_arrives_once(client, unique_id):
    handle = await client.start_workflow("CollectsEvents", unique_id())
    await handle.send("add", 1, idempotent=True)
    await handle.send("done", idempotent=True, request_timeout=5)
    assert await handle.result() == [1]


async def test_an_event_name_may_have_dots(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await handle.send("order.rejected", {"reason": "out of stock"})
    outcome = await handle.outcome()
    assert (outcome.error.type, outcome.error.message) == ("OrderRejected", "out of stock")


async def test_defaults_of_an_event_handler_are_honoured(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await handle.send("order.rejected")
    assert (await handle.outcome()).error.message == "no reason given"


async def test_events_of_one_handle_arrive_in_the_order_of_the_calls(client, unique_id):
    handle = await client.start_workflow("CollectsEvents", unique_id())
    await asyncio.gather(*(handle.send("add", n) for n in range(50)))
    await handle.send("done")
    assert await handle.result() == list(range(50))


async def test_events_that_are_awaited_one_by_one_arrive_in_order(client, unique_id):
    handle = await client.start_workflow("CollectsEvents", unique_id())
    for n in range(20):
        await handle.send("add", n)
    await handle.send("done")
    assert await handle.result() == list(range(20))


async def test_events_during_a_step_wait_in_the_inbox(client, unique_id):
    handle = await client.start_workflow("CollectsEvents", unique_id(), {"busy_for": 0.3})
    await in_step(handle)
    for n in range(5):
        await handle.send("add", n)
    await handle.send("done")
    assert await handle.result() == [0, 1, 2, 3, 4]
    seen = await kinds(handle)
    assert seen.count("event.received") == 6
    assert seen.count("step.started") == 7


async def test_an_event_is_recorded_with_name_and_payload(client, unique_id):
    handle = await client.start_workflow("CollectsEvents", unique_id())
    await waiting(handle)
    await handle.send("add", {"value": 1})
    await waiting(handle, times=2)
    received = await event_of(handle, "event.received")
    assert received.data == {"event_name": "add", "payload": {"value": 1}}
    await handle.terminate()


async def test_an_event_handler_runs_as_a_step_of_the_events_name(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    await handle.send("approve")
    events = await until(handle, "step.completed", step_name="approve")
    assert events[-1].data["step_name"] == "approve"
    await handle.result()


async def test_each_run_gets_its_own_events(client, unique_id):
    handles = [await client.start_workflow("CollectsEvents", unique_id()) for _ in range(20)]
    await asyncio.gather(*(handle.send("add", n) for n, handle in enumerate(handles)))
    await asyncio.gather(*(handle.send("done") for handle in handles))
    assert [await handle.result() for handle in handles] == [[n] for n in range(20)]


# --- what is refused


async def test_an_event_that_the_type_has_not_is_refused_with_those_that_it_has(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    with pytest.raises(InvalidInputError, match="aprove") as caught:
        await handle.send("aprove")
    assert "'approve'" in str(caught.value)
    assert "'order.rejected'" in str(caught.value)
    assert "'update_quantity'" in str(caught.value)
    await waiting(handle)
    assert "event.received" not in await kinds(handle)
    await handle.send("approve")
    assert (await handle.outcome()).completed


async def test_an_event_to_a_type_without_events_is_refused(client, unique_id):
    handle = await client.start_workflow("IsInAStep", unique_id(), {"seconds": 60.0})
    with pytest.raises(InvalidInputError, match="none at all"):
        await handle.send("anything")
    await in_step(handle)
    await handle.terminate()


async def test_an_unknown_event_sent_nevertheless_blocks_the_inbox(client, unique_id):
    """PROTOCOL.md section 2: it is accepted, and later events are received but not dispatched."""
    handle = await client.start_workflow("CollectsEvents", unique_id())
    await waiting(handle)
    await handle.send("unheard_of", check_event=False)
    await handle.send("add", 1)
    await until(handle, "event.received", times=2)
    assert not (await handle.describe()).is_finished
    assert (await kinds(handle)).count("step.started") == 1
    await handle.terminate("blocked")
    assert (await handle.outcome()).reason == "blocked"


async def test_an_event_to_a_run_that_is_known_to_have_ended(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await handle.send("approve")
    await handle.result()
    with pytest.raises(WorkflowFinishedError, match="has ended"):
        await handle.send("approve")


async def test_an_event_to_a_run_that_has_ended_without_our_knowing(client, unique_id):
    wf_id = unique_id()
    handle = await client.start_workflow("WaitsForApproval", wf_id)
    other = await client.get_handle(wf_id)
    await other.terminate()
    await other.outcome()
    with pytest.raises(WorkflowFinishedError) as caught:
        await handle.send("approve")
    assert isinstance(caught.value, RefusedError)


async def test_an_event_to_an_older_run_never_reaches_the_newer_one(client, unique_id):
    wf_id = unique_id()
    older = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(older)
    await older.terminate()
    await older.outcome()
    newer = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(newer)
    with pytest.raises(WorkflowFinishedError):
        await older.send("approve")
    assert "event.received" not in await kinds(newer)
    await newer.terminate()


@pytest.mark.parametrize("name", [None, 7, b"approve"])
async def test_an_event_name_must_be_a_string(client, unique_id, name):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    with pytest.raises(InvalidInputError, match="event_name must be a string"):
        await handle.send(name)
    await waiting(handle)
    await handle.terminate()


async def test_a_lone_surrogate_in_an_event_name(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    with pytest.raises(InvalidInputError, match="surrogate"):
        await handle.send("approve\ud800")
    await waiting(handle)
    await handle.terminate()


async def test_a_payload_that_cannot_be_encoded_names_the_path_and_sends_nothing(client, unique_id):
    handle = await client.start_workflow("CollectsEvents", unique_id())
    with pytest.raises(InvalidInputError, match=r"payload of event 'add'\['value'\]\[1\]"):
        await handle.send("add", {"value": [1, object()]})
    await handle.send("done")
    assert await handle.result() == []


async def test_events_queued_behind_one_that_fails_are_not_sent(client, unique_id):
    """They keep their order: none is delivered over a hole. Who sends afterwards starts afresh."""
    handle = await client.start_workflow("CollectsEvents", unique_id())
    sends = [handle.send("add", 1), handle.send("unheard_of"), handle.send("add", 2), handle.send("add", 3)]
    first, second, *behind = await asyncio.gather(*sends, return_exceptions=True)
    assert first is None
    assert isinstance(second, InvalidInputError)
    assert [type(error) for error in behind] == [NotSentError, NotSentError]
    await handle.send("add", 4)
    await handle.send("done")
    assert await handle.result() == [1, 4]


async def test_a_wrong_payload_fails_the_run_with_a_readable_error(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await handle.send("update_quantity", {"nope": 1})
    error = (await handle.outcome()).error
    assert "qty" in error.message


async def test_a_payload_of_the_wrong_type_fails_the_run(client, unique_id, ours):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await handle.send("update_quantity", {"qty": "many"})
    error = (await handle.outcome()).error
    assert "'qty'" in error.message
    assert "int" in error.message


async def test_send_to_a_run_whose_id_never_ran_is_not_possible(client, unique_id):
    with pytest.raises(WorkflowNotFoundError):
        await (await client.get_handle(unique_id())).send("approve")


async def test_no_event_goes_to_a_newer_run_of_the_id_by_a_handle_that_knows_better(client, unique_id):
    wf_id = unique_id()
    first = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(first)
    await first.terminate("over")
    old = await client.get_handle(wf_id, first.run_info.id)
    await old.outcome()
    newer = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(newer)
    for handle in (first, old):
        await handle.describe()
        with pytest.raises(WorkflowFinishedError, match="has ended"):
            await handle.send("approve")
    assert "event.received" not in await kinds(newer)
    await newer.terminate("over")


async def test_a_steps_name_is_no_event(client, unique_id):
    handle = await client.start_workflow("EventInTime", unique_id())
    with pytest.raises(InvalidInputError, match="has no event"):
        await handle.send("too_late")
    await handle.terminate("over")
