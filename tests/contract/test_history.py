"""handle.history: what happened in a run, as PROTOCOL.md section 3 has it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from grctl import HistoryEvent

from .helpers import collect, event_of, in_step, kinds, until, waiting

CLOCKS_AGREE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("workflow_type", "expected"),
    [
        ("ReturnsItsInput", ["run.started", "step.started", "step.completed", "run.completed"]),
        (
            "ThreeSteps",
            ["run.started", *["step.started", "step.completed"] * 3, "run.completed"],
        ),
        ("FailsByException", ["run.started", "step.started", "step.failed", "run.failed"]),
        ("FailsByDecision", ["run.started", "step.started", "step.completed", "run.failed"]),
        ("StartStepTimesOut", ["run.started", "step.started", "step.timeout", "run.failed"]),
        (
            "LaterStepTimesOut",
            ["run.started", *["step.started", "step.completed", "step.started"], "step.timeout", "run.failed"],
        ),
        (
            "WaitTimesOut",
            ["run.started", "step.started", "step.completed", "wait.started", "wait.timed_out", "run.failed"],
        ),
        (
            "WaitFallsBack",
            [
                *["run.started", "step.started", "step.completed", "wait.started", "wait.timed_out"],
                *["step.started", "step.completed", "run.completed"],
            ],
        ),
    ],
)
async def test_each_way_through_leaves_its_events(client, unique_id, workflow_type, expected):
    workflow_input = {"first": "first"} if workflow_type == "ThreeSteps" else None
    handle = await client.start_workflow(workflow_type, unique_id(), workflow_input)
    await handle.outcome()
    assert await kinds(handle) == expected


async def test_the_greeting_session_leaves_the_events_of_its_fixture(client, unique_id):
    """In the order in which they come when each event is sent to a run that waits (fixture events)."""
    handle = await client.start_workflow("GreetEvents", unique_id(), {"name": "Cem"})
    await waiting(handle)
    await handle.send("greet")
    await waiting(handle, times=2)
    await handle.send("farewell")
    await handle.result()
    assert await kinds(handle) == [
        *["run.started", "step.started", "step.completed", "wait.started"],
        *["event.received", "step.started", "step.completed", "wait.started"],
        *["event.received", "step.started", "step.completed", "run.completed"],
    ]


async def test_events_name_their_run_and_are_in_order(client, unique_id):
    wf_id = unique_id()
    handle = await client.start_workflow("ThreeSteps", wf_id, {"first": "1"})
    await handle.result()
    events = await collect(handle.history())
    assert all(isinstance(event, HistoryEvent) for event in events)
    assert {(event.wf_id, event.run_id) for event in events} == {(wf_id, handle.run_info.id)}
    numbers = [event.seq for event in events]
    assert numbers == sorted(set(numbers))
    now = datetime.now(UTC)
    assert all(abs(event.timestamp - now) < CLOCKS_AGREE for event in events)
    assert [event.is_terminal for event in events] == [False] * (len(events) - 1) + [True]


async def test_the_input_is_in_the_history(client, unique_id):
    handle = await client.start_workflow("SpreadsAMap", unique_id(), {"order_id": "1", "qty": 2})
    await handle.result()
    assert (await event_of(handle, "run.started")).data == {"input": {"order_id": "1", "qty": 2}}


async def test_no_input_is_nil_in_the_history(client, unique_id):
    handle = await client.start_workflow("ReturnsItsInput", unique_id())
    await handle.result()
    assert (await event_of(handle, "run.started")).data == {"input": None}


async def test_the_result_is_in_the_history(client, unique_id):
    handle = await client.start_workflow("SpreadsAMap", unique_id(), {"order_id": "1"})
    await handle.result()
    completed = await event_of(handle, "run.completed")
    assert completed.data["result"] == {"order_id": "1", "qty": 1}
    assert isinstance(completed.data["duration_ms"], int)


async def test_steps_are_named_in_the_history_and_written_by_a_worker(client, unique_id):
    handle = await client.start_workflow("ThreeSteps", unique_id(), {"first": "1"})
    await handle.result()
    started = [event async for event in handle.history() if event.kind == "step.started"]
    completed = [event async for event in handle.history() if event.kind == "step.completed"]
    assert [event.data["step_name"] for event in started] == ["start", "second", "third"]
    assert [event.data["step_name"] for event in completed] == ["start", "second", "third"]
    for event in started:
        assert event.worker_id
        assert event.data["worker_id"] == event.worker_id
    assert all(event.data["duration_ms"] >= 0 for event in completed)


async def test_a_failure_is_in_the_history(client, unique_id):
    handle = await client.start_workflow("FailsByException", unique_id())
    await handle.outcome()
    step, run = await event_of(handle, "step.failed"), await event_of(handle, "run.failed")
    assert step.data["step_name"] == "start"
    for event in (step, run):
        assert (event.data["error"]["type"], event.data["error"]["message"]) == ("ValueError", "card declined")
        assert "ValueError: card declined" in event.data["error"]["stack_trace"]
        assert event.data["duration_ms"] >= 0


async def test_a_wait_is_in_the_history(client, unique_id):
    handle = await client.start_workflow("WaitFallsBack", unique_id())
    await handle.result()
    started, timed_out = await event_of(handle, "wait.started"), await event_of(handle, "wait.timed_out")
    assert started.data["timeout_ms"] == 200
    assert started.data["timeout_step_name"] == "fallback"
    assert timed_out.data["original_directive_id"] == started.data["directive_id"]
    assert timed_out.data["timeout_step_name"] == "fallback"


async def test_a_wait_without_timeout_is_in_the_history(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    started = await event_of(handle, "wait.started")
    assert started.data["directive_id"].startswith("next.")
    assert (started.data["timeout_ms"], started.data["timeout_step_name"]) == (0, "")
    await handle.terminate()


async def test_a_step_timeout_is_in_the_history(client, unique_id):
    handle = await client.start_workflow("StartStepTimesOut", unique_id())
    await handle.outcome()
    timeout = await event_of(handle, "step.timeout")
    assert timeout.data["step_name"] == "start"
    assert timeout.data["duration_ms"] >= 200
    failed = await event_of(handle, "run.failed")
    assert failed.data["error"] == {"type": "StepTimeout", "message": "step start timed out", "stack_trace": ""}


async def test_a_termination_is_in_the_history(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    await handle.terminate("stop")
    await handle.outcome()
    terminated = await event_of(handle, "run.terminated")
    assert terminated.data["reason"] == "stop"
    assert terminated.data["duration_ms"] >= 0


# --- follow


async def test_history_without_follow_ends_with_what_is_there(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    assert await kinds(handle) == ["run.started", "step.started", "step.completed", "wait.started"]
    await handle.terminate()


async def test_follow_goes_on_until_the_run_has_ended(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    followed = asyncio.create_task(collect(handle.history(follow=True)))
    await waiting(handle)
    await handle.send("approve")
    seen = await followed
    assert seen[-1].kind == "run.completed"
    assert seen == await collect(handle.history())


async def test_follow_of_a_run_that_has_ended_ends(client, unique_id):
    handle = await client.start_workflow("ReturnsItsInput", unique_id())
    await handle.result()
    assert await collect(handle.history(follow=True)) == await collect(handle.history())


async def test_follow_yields_an_event_while_the_run_goes_on(client, unique_id):
    handle = await client.start_workflow("CollectsEvents", unique_id())
    for n in range(1, 4):
        await waiting(handle, times=n)
        await handle.send("add", n)
        events = await until(handle, "event.received", payload=n)
        assert events[-1].data["payload"] == n
    await handle.terminate()


async def test_many_can_follow_one_run(client, unique_id):
    handle = await client.start_workflow("GreetEvents", unique_id(), {"name": "Cem"})
    followers = [asyncio.create_task(collect(handle.history(follow=True))) for _ in range(5)]
    await handle.send("greet")
    await handle.send("farewell")
    await handle.result()
    seen = [await follower for follower in followers]
    assert seen == [seen[0]] * 5
    assert seen[0][-1].kind == "run.completed"


async def test_one_who_stops_following_harms_nobody(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    staying = asyncio.create_task(collect(handle.history(follow=True)))
    leaving = asyncio.create_task(collect(handle.history(follow=True)))
    await waiting(handle)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await handle.send("approve")
    assert (await staying)[-1].kind == "run.completed"


async def test_breaking_out_of_a_history_is_harmless(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    async for event in handle.history(follow=True):
        assert event.kind == "run.started"
        break
    await in_step(handle)
    await handle.send("approve")
    assert (await handle.outcome()).completed


async def test_history_of_an_older_run(client, unique_id):
    wf_id = unique_id()
    older = await client.start_workflow("ReturnsItsInput", wf_id)
    await older.result()
    newer = await client.start_workflow("WaitsForApproval", wf_id)
    await waiting(newer)
    assert "run.completed" in await kinds(older)
    assert "run.completed" not in await kinds(newer)
    assert (await collect(older.history(follow=True)))[-1].kind == "run.completed"
    await newer.terminate()


async def test_a_long_history_comes_whole(client, unique_id):
    handle = await client.start_workflow("CollectsEvents", unique_id())
    await asyncio.gather(*(handle.send("add", n) for n in range(100)))
    await handle.send("done")
    await handle.result()
    events = await collect(handle.history())
    assert [event.data["payload"] for event in events if event.kind == "event.received"] == [*range(100), None]
    assert len({event.seq for event in events}) == len(events)
