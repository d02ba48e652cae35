"""grctl_core.type_cache: an event that the workflow type does not have is refused before it does harm."""

from __future__ import annotations

from typing import Any

import pytest

from grctl_core.client import WorkflowClient
from grctl_core.errors import ConnectionClosedError, InvalidInputError, NotSentError
from grctl_core.handle import WorkflowHandle
from grctl_core.workflow_type import TypeInfo

from .scripted import NEVER, ScriptedConnection, handle_to, lost, run_info


@pytest.fixture
def handle(connection: ScriptedConnection) -> WorkflowHandle[Any]:
    return handle_to(connection)


async def test_one_read_for_each_type(connection: ScriptedConnection, client: WorkflowClient) -> None:
    connection.record(run_info("R1"))
    one, other = [await client.get_handle("order-1") for _ in range(2)]
    for _ in range(3):
        await one.send("approve")
        await other.send("note", 1)
    assert connection.looks["find_type"] == 1


async def test_an_unknown_event_is_refused_with_those_that_exist(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    for _ in range(2):
        with pytest.raises(InvalidInputError, match=r"has no event 'aprove': it has 'approve', 'note'. .*check_event"):
            await handle.send("aprove")
    assert connection.looks["find_type"] == 2  # looked for again each time, as a worker may have been replaced
    connection.types["Order"] = TypeInfo(name="Order")
    with pytest.raises(InvalidInputError, match="it has none at all"):
        await handle.send("")
    assert not connection.commands


async def test_a_steps_name_is_no_event(connection: ScriptedConnection, handle: WorkflowHandle[Any]) -> None:
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="has no event 'ship': it has 'approve', 'note'"):
            await handle.send("ship")
    assert not connection.commands


async def test_an_event_that_came_with_a_newer_worker_is_found(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    await handle.send("approve")
    connection.types["Order"] = TypeInfo(name="Order", events=("reject",))
    await handle.send("reject")
    with pytest.raises(InvalidInputError, match="it has 'reject'"):
        await handle.send("approve")
    assert connection.looks["find_type"] == 3


async def test_a_type_that_is_not_registered_is_let_through(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    del connection.types["Order"]
    await handle.send("anything")
    assert connection.kinds == ["event"]


async def test_check_event_false_asks_nobody(connection: ScriptedConnection, handle: WorkflowHandle[Any]) -> None:
    await handle.send("anything", check_event=False)
    assert not connection.looks["find_type"]
    assert connection.kinds == ["event"]


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (lost(), NotSentError),
        (NEVER, NotSentError),
        (ConnectionClosedError("closed"), ConnectionClosedError),
    ],
)
async def test_a_read_that_fails_sends_nothing_and_says_so(
    connection: ScriptedConnection, handle: WorkflowHandle[Any], failure: Any, error: type[Exception]
) -> None:
    connection.failing["find_type"] = failure
    with pytest.raises(error):
        await handle.send("approve", request_timeout=0.01)
    assert not connection.commands
    connection.failing.clear()
    await handle.send("approve")
