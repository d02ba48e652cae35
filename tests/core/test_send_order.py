"""grctl_core.send_order: the events of one handle leave in the order of the calls."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grctl_core.client import WorkflowClient
from grctl_core.errors import DeliveryUnknownError, InvalidInputError, NotSentError
from grctl_core.handle import WorkflowHandle

from .scripted import OK, ScriptedConnection, client_on, handle_to, lost, other_tasks, refused, run_info, settle

Gate = asyncio.Future[Any]


@pytest.fixture
def handle(connection: ScriptedConnection) -> WorkflowHandle[Any]:
    return handle_to(connection)


def gates(connection: ScriptedConnection, count: int) -> list[Gate]:
    made: list[Gate] = [asyncio.get_running_loop().create_future() for _ in range(count)]
    connection.script("run.event", *made)
    return made


def sending(handle: WorkflowHandle[Any], *payloads: object) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(handle.send("note", payload, check_event=False)) for payload in payloads]


def sent(connection: ScriptedConnection) -> list[int]:
    return [command.payload[0] for command in connection.sent("run.event")]  # small ints are one byte


async def test_first_come_first_served_one_at_a_time(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    held = gates(connection, 5)
    tasks = sending(handle, *range(5))
    for number, gate in enumerate(held):
        await settle()
        assert sent(connection) == list(range(number + 1))
        gate.set_result(OK)
    await asyncio.gather(*tasks)
    assert not handle._order._busy


@pytest.mark.parametrize("answer", [lost(), refused(4005), NotSentError("x"), "cancelled"])
async def test_what_ends_badly_spoils_those_behind_it(
    connection: ScriptedConnection, handle: WorkflowHandle[Any], answer: Any
) -> None:
    (gate,) = gates(connection, 1)
    first, *behind = sending(handle, 0, 1, 2)
    await settle()
    if answer == "cancelled":
        first.cancel()
    else:
        gate.set_result(answer)
    await asyncio.wait([first])
    fresh = sending(handle, 7)  # asked after the failure: a fresh start
    for task in behind:
        with pytest.raises(NotSentError, match="an earlier event of this handle did not get through"):
            await task
    await fresh[0]
    assert sent(connection) == [0, 7]
    with pytest.raises(asyncio.CancelledError if answer == "cancelled" else Exception):
        await first


async def test_a_bad_payload_spoils_those_behind_it_too(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    gate = gates(connection, 1)[0]
    good, bad, behind = sending(handle, 0, object(), 2)
    await settle()
    gate.set_result(OK)
    await good
    with pytest.raises(InvalidInputError):
        await bad
    with pytest.raises(NotSentError, match=r"InvalidInputError: payload of event 'note' cannot be encoded"):
        await behind
    assert sent(connection) == [0]


@pytest.mark.parametrize("together", [False, True], ids=["before", "in the same loop iteration as the first one's end"])
async def test_one_cancelled_in_the_queue_spoils_those_behind_it(
    connection: ScriptedConnection, handle: WorkflowHandle[Any], together: bool
) -> None:
    gate = gates(connection, 1)[0]
    first, second, third, fourth = sending(handle, 0, 1, 2, 3)
    await settle()
    third.cancel()
    if not together:
        await settle()
    gate.set_result(OK)
    await first
    await second
    with pytest.raises(asyncio.CancelledError):
        await third
    with pytest.raises(NotSentError, match="CancelledError"):
        await fourth
    assert sent(connection) == [0, 1]
    await handle.send("note", 9)


async def test_next_in_line_cancelled_as_its_turn_comes(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    """For each distance between the cancel and the turn: nothing is sent over the hole, and the order goes on."""
    for turns_between in range(6):
        for cancel_first in (True, False):
            connection.commands.clear()
            gate = gates(connection, 1)[0]
            first, second, third = sending(handle, 0, 1, 2)
            await settle()
            steps = [second.cancel, lambda gate=gate: gate.set_result(OK)]
            for step in steps if cancel_first else reversed(steps):
                step()
                await settle(turns_between)
            await asyncio.wait([first, second, third])
            assert first.exception() is None
            if second.cancelled():
                assert isinstance(third.exception(), NotSentError)
                assert sent(connection) in ([0], [0, 1])
            else:
                assert sent(connection) == [0, 1, 2]
            assert not handle._order._busy
            assert not handle._order._queue


async def test_a_spoiled_one_that_is_cancelled_at_once_leaves_nothing(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    logged: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    gate = gates(connection, 1)[0]
    first, second, third = sending(handle, 0, 1, 2)
    await settle()
    gate.set_result(lost())
    with pytest.raises(DeliveryUnknownError):
        await first
    second.cancel()
    await asyncio.wait([second, third])
    assert isinstance(third.exception(), NotSentError)
    del first, second, third, gate
    gc.collect()
    await settle()
    assert logged == []


async def test_a_coroutine_that_is_thrown_away_in_the_queue_blocks_nobody(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    gate = gates(connection, 1)[0]
    (first,) = sending(handle, 0)
    await settle()
    abandoned = handle.send("note", 1)
    abandoned.send(None)
    abandoned.close()
    gate.set_result(OK)
    await first
    await handle.send("note", 2)
    assert sent(connection) == [0, 2]


async def test_handles_do_not_wait_for_each_other(
    connection: ScriptedConnection, client: WorkflowClient, handle: WorkflowHandle[Any]
) -> None:
    gate = gates(connection, 1)[0]
    (first,) = sending(handle, 0)
    await settle()
    await (await client.get_handle("order-1", run_id="R1")).send("note", 5)
    gate.set_result(OK)
    await first


@given(
    st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["ok", "lost", "cancel", "nothing"])), max_size=25),
    st.integers(0, 3),
)
def test_what_is_sent_is_in_order_and_has_no_holes(steps: list[tuple[int, str]], pace: int) -> None:
    async def play() -> None:
        connection = ScriptedConnection()
        connection.record(run_info("R1"))
        handle = await client_on(connection).get_handle("order-1", run_id="R1")
        held = gates(connection, 8)
        tasks = sending(handle, *range(8))
        await settle(1 + pace)  # all have made their call
        for number, what in steps:
            if what == "cancel":
                tasks[number].cancel()
            elif what != "nothing":
                on_the_wire = len(sent(connection)) - 1
                if on_the_wire >= 0 and not held[on_the_wire].done():
                    held[on_the_wire].set_result(OK if what == "ok" else lost())
            await settle(pace)
        for gate in held:
            if not gate.done():
                gate.set_result(OK)
            await settle()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sent(connection) == sorted(sent(connection))
        failed = [n for n, result in enumerate(results) if result is not None]
        assert not failed or all(n not in sent(connection) for n in range(failed[0] + 1, 8))
        assert not handle._order._busy
        assert not handle._order._queue
        assert not other_tasks()

    asyncio.run(play())
