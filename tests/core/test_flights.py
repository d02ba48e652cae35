"""grctl_core.flights: one cancel or terminate on its way for each run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from grctl_core.errors import DeliveryUnknownError, NotSentError, RefusedError, ServerError
from grctl_core.flights import Flights
from grctl_core.handle import WorkflowHandle
from grctl_core.run import RunRef

from .scripted import OK, ScriptedConnection, client_on, handle_to, other_tasks, refused, run_info, settle

RUN = RunRef("order-1", "R1")


@pytest.fixture
def handle(connection: ScriptedConnection) -> WorkflowHandle[Any]:
    return handle_to(connection)


def callers(handle: WorkflowHandle[Any], operation: str, count: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(getattr(handle, operation)(f"reason {n}")) for n in range(count)]


def flying(handle: WorkflowHandle[Any]) -> object:
    return handle._operations._flights._flying


@pytest.mark.parametrize("operation", ["cancel", "terminate"])
async def test_concurrent_callers_share_one_command(
    connection: ScriptedConnection, handle: WorkflowHandle[Any], operation: str
) -> None:
    await asyncio.gather(*callers(handle, operation, 10))
    assert connection.kinds == ["describe", operation]
    assert connection.sent(f"run.{operation}")[0].reason == "reason 0"
    assert not flying(handle)


async def test_they_share_its_error_each_with_a_copy(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    connection.script("run.cancel", refused(4005, "does not fit"))
    errors = await asyncio.gather(*callers(handle, "cancel", 3), return_exceptions=True)
    assert {type(error) for error in errors} == {ServerError}
    assert {error.detail for error in errors if isinstance(error, RefusedError)} == {"refused (does not fit)"}
    assert len({id(error) for error in errors}) == 3
    assert connection.kinds == ["describe", "cancel"]


async def test_after_it_landed_the_next_one_flies_anew(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    await handle.cancel()
    await handle.cancel()
    assert connection.kinds == ["describe", "cancel"] * 2


async def test_a_cancelled_leader_hands_over_to_one_follower(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    gates = [asyncio.get_running_loop().create_future() for _ in range(2)]
    connection.script("run.cancel", *gates)
    leader, *followers = callers(handle, "cancel", 4)
    await settle()
    leader.cancel()
    await settle()
    assert leader.cancelled()
    assert not any(task.done() for task in followers)
    gates[1].set_result(OK)
    await asyncio.gather(*followers)
    assert connection.kinds == ["describe", "cancel"] * 2
    assert not flying(handle)


async def test_a_cancelled_follower_leaves_the_others_alone(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    gate = asyncio.get_running_loop().create_future()
    connection.script("run.cancel", gate)
    leader, follower, other = callers(handle, "cancel", 3)
    await settle()
    follower.cancel()
    await settle()
    assert follower.cancelled()
    gate.set_result(OK)
    await asyncio.gather(leader, other)
    assert connection.kinds == ["describe", "cancel"]


async def test_a_terminate_waits_for_a_cancel_in_flight(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    gate = asyncio.get_running_loop().create_future()
    connection.script("run.cancel", gate)
    (cancel,) = callers(handle, "cancel", 1)
    await settle()
    terminates = callers(handle, "terminate", 3)
    await settle()
    assert connection.kinds == ["describe", "cancel"]
    gate.set_result(refused(4005))
    await asyncio.gather(*terminates)
    with pytest.raises(ServerError):
        await cancel
    assert connection.kinds == ["describe", "cancel", "describe", "terminate"]


@pytest.mark.parametrize("operation", ["cancel", "terminate"])
async def test_joining_is_bounded_by_the_joiners_own_timeout(
    connection: ScriptedConnection, handle: WorkflowHandle[Any], operation: str
) -> None:
    """One of the same kind is in doubt then; one of another kind was not sent."""
    gate = asyncio.get_running_loop().create_future()
    connection.script("run.cancel", gate)
    (leader,) = callers(handle, "cancel", 1)
    await settle()
    with pytest.raises(DeliveryUnknownError if operation == "cancel" else NotSentError) as caught:
        await getattr(handle, operation)(request_timeout=0.01)
    assert "a cancel of run R1 is on its way and has not been answered within 0.01 s" in str(caught.value)
    if isinstance(caught.value, DeliveryUnknownError):
        assert (caught.value.operation, caught.value.run) == ("cancel", handle.run_info.ref)
    assert connection.kinds == ["describe", "cancel"]
    gate.set_result(OK)
    await leader


async def test_joining_one_after_the_other_is_bounded_by_one_timeout() -> None:
    """Each flight that is waited for is short; together they are long."""
    flights, patience, flown = Flights(), 0.05, 0

    async def fly() -> None:
        nonlocal flown
        flown += 1
        await asyncio.sleep(patience / 2)

    async def keep_flying() -> None:
        while True:
            await flights.join(RUN, "cancel", fly, 60)

    flying = asyncio.create_task(keep_flying())
    await settle()
    with pytest.raises(NotSentError):
        await flights.join(RUN, "terminate", fly, patience)
    assert flown < 10
    flying.cancel()
    await asyncio.wait([flying])


async def test_runs_do_not_wait_for_each_other(connection: ScriptedConnection, handle: WorkflowHandle[Any]) -> None:
    connection.script("run.cancel", asyncio.get_running_loop().create_future())
    (cancel,) = callers(handle, "cancel", 1)
    await settle()
    connection.record(run_info("R2", "order-2"))
    other = await client_on(connection).get_handle("order-2")
    other._operations = handle._operations
    await other.terminate()
    cancel.cancel()
    await asyncio.wait([cancel])
    assert not flying(handle)


@pytest.mark.parametrize("turns", range(12))
async def test_whoever_is_cancelled_whenever_the_rest_get_through(turns: int) -> None:
    flights, flown = Flights(), 0

    async def fly() -> None:
        nonlocal flown
        await settle(3)
        flown += 1

    tasks = [asyncio.create_task(flights.join(RUN, "cancel", fly, 60)) for _ in range(4)]
    for task in tasks[:3]:
        await settle(turns)
        task.cancel()
    await tasks[3]
    assert flown >= 1
    assert not flights._flying
    await asyncio.wait(tasks)
    assert not other_tasks()


async def test_an_error_that_cannot_be_copied_reaches_all() -> None:
    class OddError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("odd")

    async def fly() -> None:
        await settle()
        raise OddError(1, 2)

    flights = Flights()
    joined = [flights.join(RUN, "cancel", fly, 60) for _ in range(3)]
    errors = await asyncio.gather(*joined, return_exceptions=True)
    assert {type(error) for error in errors} == {OddError}
