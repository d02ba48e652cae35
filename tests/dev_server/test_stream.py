"""What the server writes: the stream, the records of a run, and that each transition is whole or not there."""

from __future__ import annotations

import asyncio

import pytest

from grctl_core.commands import DescribeCommand
from grctl_core.history import TERMINAL_KINDS
from grctl_core.run import RunStatus
from grctl_nats import subjects, wire

from .raw import PATIENCE, Raw, start_command, until, waits
from .workflows import more


async def test_the_stream_is_as_the_protocol_says(raw: Raw) -> None:
    config = (await raw.api(f"STREAM.INFO.{subjects.STREAM}"))["config"]
    assert config["retention"] == "limits"
    for switch in ("allow_direct", "allow_atomic", "allow_msg_schedules", "allow_rollup_hdrs"):
        assert config[switch] is True


async def test_a_step_that_is_out_has_a_record_until_it_is_done(raw: Raw, gate: asyncio.Event) -> None:
    run = await raw.start("Slow", "a", {"seconds": 1})
    assert await raw.get(subjects.worker_task(run)) is not None
    gate.set()
    await raw.end(run)

    async def gone() -> bool:
        return await raw.get(subjects.worker_task(run)) is None

    await until(gone)


async def test_the_state_says_which_event_was_taken_in(raw: Raw) -> None:
    run = await raw.start("OrderApproval", "a", {"order_id": "9", "qty": 1})
    await waits(raw, run)
    assert (await raw.event("a", "update_quantity", {"item_id": "x", "qty": 2})).success
    event = await raw.get(subjects.events("a"))
    assert event is not None

    async def taken_in() -> bool:
        state = await raw.state(run)
        return state is not None and state.kind == "wait" and state.last_event_seq_id == Raw.seq(event)

    await until(taken_in)
    assert (await raw.event("a", "approve")).success
    await raw.end(run)

    async def gone() -> bool:
        return await raw.get(subjects.events("a")) is None

    await until(gone)


async def test_events_that_wait_are_not_taken_in(raw: Raw, gate: asyncio.Event) -> None:
    run = await raw.start("GreetEvents", "a", {"name": "Cem"})
    assert (await raw.event("a", "greet")).success
    assert (await raw.event("a", "farewell")).success
    state = await raw.state(run)
    assert state is not None
    assert (state.kind, state.last_event_seq_id) == ("step", 0)
    gate.set()
    await raw.end(run)
    state = await raw.state(run)
    events = [event for event in await raw.history(run) if event.kind == "event.received"]
    assert state is not None
    assert state.last_event_seq_id == events[-1].seq - 1


async def test_the_terminal_event_stands_between_the_record_and_the_state(raw: Raw) -> None:
    runs = [await raw.start("Values", f"v{number}", {"kind": "int"}) for number in range(20)]
    for run in runs:
        await raw.end(run)
        state, info = await raw.get(subjects.run_state(run)), await raw.get(subjects.run_info(run))
        assert state is not None
        assert info is not None
        end = (await raw.history(run))[-1]
        assert end.kind in TERMINAL_KINDS
        assert (Raw.seq(info), end.seq, Raw.seq(state)) == (end.seq - 1, end.seq, end.seq + 1)


async def test_what_a_record_says_is_all_there(raw: Raw) -> None:
    """Whoever sees the state of the end can read the event, the record and the result at once: no looking twice."""
    seen = 0

    async def follow(number: int) -> None:
        nonlocal seen
        run = await raw.start("Values", f"v{number}", {"kind": "int"})
        while (state := await raw.state(run)) is None or state.kind != "complete":
            pass
        info, output, history = await raw.info(run), await raw.get(subjects.output(run)), await raw.history(run)
        assert info is not None
        assert info.status is RunStatus.COMPLETED
        assert output is not None
        assert history[-1].is_terminal
        seen += 1

    await asyncio.gather(*(follow(number) for number in range(30)))
    assert seen == 30


async def test_a_describe_is_a_barrier_for_what_was_sent_before_it(raw: Raw) -> None:
    for number in range(50):
        start = start_command("OrderApproval", f"a{number}", {"order_id": "9", "qty": 1})
        inbox = raw.client.new_inbox()
        await raw.client.publish(subjects.command(start.wf_id), wire.encode_command(start, "c"), reply=inbox)
        info = await raw.describe(start.wf_id)
        assert info is not None
        assert info.id == start.run.id


async def test_a_describe_says_what_the_stream_holds(raw: Raw) -> None:
    run = await raw.start("OrderApproval", "a", {"order_id": "9", "qty": 1})
    await waits(raw, run)
    assert await raw.describe("a") == await raw.info(run)


async def test_the_body_names_the_workflow_not_the_subject(raw: Raw) -> None:
    await raw.start("OrderApproval", "a", {"order_id": "9", "qty": 1})
    command = DescribeCommand(wf_id="a")
    answer = await raw.client.request("grctl_api.workflow.other", wire.encode_command(command, "c"), timeout=PATIENCE)
    assert wire.decode_reply(answer.data, command, 0).success


@pytest.mark.skipif(not more, reason="the engine knows no children yet")
async def test_a_childs_end_comes_before_the_event_that_tells_its_parent(raw: Raw) -> None:
    run = await raw.start("ParentCallback", "a", {"kind": "ok"})
    await raw.end(run)
    child = await raw.describe("a-child")
    assert child is not None
    told = next(event for event in await raw.history(run) if event.kind == "event.received")
    assert (await raw.history(child.ref))[-1].seq < told.seq
