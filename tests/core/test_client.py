"""grctl_core.client: what is wrong in a call is said at once, and nothing is sent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from grctl_core.client import WorkflowClient
from grctl_core.errors import DeliveryUnknownError, EventLoopError, InvalidInputError, WorkflowNotFoundError
from grctl_core.pipeline import Pipeline
from grctl_core.run import RunStatus

from .scripted import NEVER, ScriptedConnection, client_on, handle_to, layer, run_info

BAD_IDS = ["", None, 7, b"order", "a b", "a.b", "*", "a>", "a\nb", "a\x00", "a\ud800", "a" * 2000, "a\u2028b"]
BAD_DURATIONS = [0, -1, 0.0, timedelta(0), timedelta(seconds=-5), math.nan, math.inf, "5", True, [5], 10**400]
NAIVE = datetime(2026, 1, 2)  # noqa: DTZ001


class Unsendable:
    def __repr__(self) -> str:
        return "Unsendable()"


def start(**changed: Any) -> dict[str, Any]:
    return {"workflow_type": "Order", "workflow_id": "order-1", **changed}


BAD_STARTS: list[tuple[dict[str, Any], str]] = [
    *((start(workflow_id=bad), "workflow_id") for bad in BAD_IDS),
    *((start(workflow_type=bad), "workflow_type") for bad in BAD_IDS),
    *((start(workflow_timeout=bad), "workflow_timeout must be") for bad in BAD_DURATIONS),
    *((start(request_timeout=bad), "request_timeout must be") for bad in BAD_DURATIONS),
    (start(workflow_input={"a": [Unsendable()]}), "workflow_input['a'][0] cannot be encoded (Unsendable)"),
    (start(workflow_input={"a": NAIVE}), "workflow_input['a'] is a datetime without a time zone"),
    (start(workflow_input="x\ud800"), "workflow_input cannot be encoded (str)"),
    (start(workflow_input=2**64), "workflow_input cannot be encoded (int)"),
    (start(on_conflict="replace"), "on_conflict must be one of 'raise', 'attach', 'terminate', not 'replace'"),
    (start(on_conflict=None), "on_conflict must be one of"),
    (start(result_type=Unsendable), "is no type that values can be decoded to"),
    (start(result_type=5), "is no type that values can be decoded to"),
]


@pytest.mark.parametrize(("arguments", "says"), BAD_STARTS, ids=lambda value: ascii(value)[:60])
async def test_a_bad_start(
    connection: ScriptedConnection, client: WorkflowClient, arguments: dict[str, Any], says: str
) -> None:
    for call in (client.start_workflow, client.run_workflow):
        with pytest.raises(InvalidInputError) as caught:
            await call(**arguments)
        assert says in str(caught.value)
        assert str(caught.value).isascii()
    assert not connection.commands


BAD_CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    *(("send", (bad,), {}, "event_name") for bad in [None, 7, b"approve", "a\ud800", "a" * 2000]),
    ("send", ("aprove",), {}, "has no event 'aprove': it has 'approve', 'note'"),
    ("send", ("note", {"x": Unsendable()}), {}, "payload of event 'note'['x'] cannot be encoded"),
    ("send", ("note", [NAIVE]), {}, "payload of event 'note'[0] is a datetime without a time zone"),
    *(("send", ("note",), {"request_timeout": bad}, "request_timeout must be") for bad in BAD_DURATIONS),
    *((call, (), {"request_timeout": 0}, "request_timeout must be") for call in ("cancel", "terminate", "describe")),
    *((call, (bad,), {}, "reason") for call in ("cancel", "terminate") for bad in (None, 5, "x\ud800")),
    ("query", ("",), {}, "query_name must be"),
    ("query", (5,), {}, "query_name must be"),
    ("query", ("status",), {"since": NAIVE}, "arguments of query 'status'['since'] is a datetime"),
    ("query", ("status",), {"request_timeout": -1}, "request_timeout must be"),
    *((call, (bad,), {}, "timeout must be") for call in ("result", "outcome") for bad in BAD_DURATIONS),
]


@pytest.mark.parametrize(("name", "arguments", "options", "says"), BAD_CALLS, ids=lambda value: ascii(value)[:60])
async def test_a_bad_call_of_a_handle(
    connection: ScriptedConnection,
    *,
    name: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    says: str,
) -> None:
    handle = handle_to(connection)
    with pytest.raises(InvalidInputError) as caught:
        await getattr(handle, name)(*arguments, **options)
    assert says in str(caught.value)
    assert str(caught.value).isascii()
    assert not connection.commands
    assert not connection.watches
    assert not handle._order._busy


@pytest.mark.parametrize("bad", BAD_IDS, ids=lambda value: ascii(value)[:20])
async def test_a_bad_id_for_get_handle(connection: ScriptedConnection, client: WorkflowClient, bad: Any) -> None:
    with pytest.raises(InvalidInputError, match="workflow_id"):
        await client.get_handle(bad)
    if bad is not None:
        with pytest.raises(InvalidInputError, match="run_id"):
            await client.get_handle("order-1", run_id=bad)
    assert not connection.commands
    assert not connection.looks


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"workflow_type": ""}, "workflow_type is empty"),
        ({"workflow_id_prefix": "a.b"}, "workflow_id_prefix"),
        ({"status": 5}, "status must be a RunStatus or a string"),
        ({"created_after": NAIVE}, "created_after has no time zone"),
        ({"created_before": "2026-01-02"}, "created_before must be a datetime"),
    ],
)
def test_a_bad_filter(client: WorkflowClient, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        client.list_workflows(**options)


@pytest.mark.parametrize("bad", [None, "nats://localhost", Unsendable(), ScriptedConnection], ids=ascii)
def test_what_is_no_connection(bad: Any) -> None:
    with pytest.raises(InvalidInputError, match="connection must be an open Connection, not "):
        WorkflowClient(connection=bad)


def test_a_connection_that_was_not_awaited() -> None:
    async def connect() -> ScriptedConnection:
        return ScriptedConnection()

    connecting = connect()
    with pytest.raises(InvalidInputError, match="not coroutine: pass what 'await"):
        WorkflowClient(connection=connecting)  # type: ignore[arg-type]
    connecting.close()


@pytest.mark.parametrize("bad", BAD_DURATIONS, ids=lambda value: ascii(value)[:20])
def test_a_bad_request_timeout(connection: ScriptedConnection, bad: Any) -> None:
    with pytest.raises(InvalidInputError, match="request_timeout must be"):
        WorkflowClient(connection=connection, request_timeout=bad)


async def test_a_start_carries_what_was_asked_for(connection: ScriptedConnection, client: WorkflowClient) -> None:
    handle = await client.start_workflow("Order", "order-1", {"n": 1}, timedelta(minutes=1))
    (command,) = connection.sent("run.start")
    assert command.run == handle.run_info
    assert command.run.timeout == timedelta(minutes=1)
    assert (command.wf_id, command.input) == ("order-1", b"\x81\xa1n\x01")
    assert command.created_at == command.run.created_at
    await client.start_workflow("Order", "order-2", workflow_timeout=0.5)
    assert connection.sent("run.start")[1].input is None
    assert connection.sent("run.start")[1].run.timeout == timedelta(seconds=0.5)


async def test_the_timeout_of_the_call_goes_before_the_clients() -> None:
    seen: list[float] = []

    class Noting(ScriptedConnection):
        async def request(self, command: Any, *, timeout: float) -> Any:
            seen.append(timeout)
            return await super().request(command, timeout=timeout)

    client = WorkflowClient(connection=Noting(), request_timeout=timedelta(seconds=2))
    handle = await client.start_workflow("Order", "order-1")
    await handle.describe(request_timeout=7)
    await handle.cancel(request_timeout=timedelta(seconds=3))
    assert seen == [2, 7, 3, 3]


async def test_get_handle_is_bound_to_the_run_of_that_moment(
    connection: ScriptedConnection, client: WorkflowClient
) -> None:
    with pytest.raises(WorkflowNotFoundError, match="no run of this id"):
        await client.get_handle("order-1")
    with pytest.raises(WorkflowNotFoundError, match="run R1 of workflow 'order-1' is not known"):
        await client.get_handle("order-1", run_id="R1")
    connection.record(run_info("R1"))
    handle = await client.get_handle("order-1")
    connection.record(run_info("R2"))
    connection.end("R1", result="one")
    assert (handle.run_info.id, await handle.result()) == ("R1", "one")
    assert (await client.get_handle("order-1")).run_info.id == "R2"
    assert (await client.get_handle("order-1", run_id="R1")).run_info.is_finished


async def test_get_handle_to_a_certain_run_is_a_describe_with_its_layers(connection: ScriptedConnection) -> None:
    seen: list[Any] = []

    async def around(call: Any, proceed: Any) -> Any:
        seen.append((call.operation, call.run.run_id))
        return await proceed(call)

    client = client_on(connection, Pipeline(operations={"describe": [layer(around)]}))
    for run_id in ("R1", "R2"):
        connection.record(run_info(run_id))
    await client.get_handle("order-1")
    assert (connection.kinds, dict(connection.looks)) == (["describe"], {})
    await client.get_handle("order-1", run_id="R2")
    assert (connection.kinds, dict(connection.looks)) == (["describe"] * 2, {})
    assert (await client.get_handle("order-1", run_id="R1")).run_info is connection.records["R1"]
    assert (connection.kinds, dict(connection.looks)) == (["describe"] * 3, {"find_run": 1})
    assert seen == [("describe", ""), ("describe", "R2"), ("describe", "R1")]


async def test_get_handle_to_a_certain_run_does_not_wait_for_ever(
    connection: ScriptedConnection, client: WorkflowClient
) -> None:
    connection.failing["find_run"] = NEVER
    with pytest.raises(DeliveryUnknownError, match=r"could not be read within 0.01 s") as caught:
        await client.get_handle("order-1", run_id="R1", request_timeout=0.01)
    assert caught.value.operation == "describe"


@pytest.mark.parametrize(
    "iterate",
    [lambda client, _: client.list_workflows(), lambda _, handle: handle.history(follow=True)],
    ids=["list_workflows", "history"],
)
def test_iterating_outside_an_event_loop_says_so_at_the_call(iterate: Callable[..., AsyncIterator[Any]]) -> None:
    connection = ScriptedConnection()
    client, handle = client_on(connection), handle_to(connection)
    with pytest.raises(EventLoopError, match=r"no event loop is running here: use (client|handle)\."):
        iterate(client, handle)

    async def inside() -> list[Any]:
        return [item async for item in iterate(client, handle)]

    asyncio.run(inside())


async def test_list_workflows_asks_for_what_fits(connection: ScriptedConnection, client: WorkflowClient) -> None:
    for number in range(4):
        connection.record(run_info(f"R{number}", f"order-{number}", status="running" if number % 2 else "failed"))
    listed = [run.id async for run in client.list_workflows(status="failed", created_before=datetime.now(UTC))]
    assert listed == ["R0", "R2"]
    assert [run.id async for run in client.list_workflows(workflow_id_prefix="order-3")] == ["R3"]
    assert [run async for run in client.list_workflows(status=RunStatus("paused"))] == []


async def test_clients_share_a_connection_and_never_close_it(connection: ScriptedConnection) -> None:
    clients = [client_on(connection) for _ in range(3)]
    await asyncio.gather(*(client.start_workflow("Order", f"order-{n}") for n, client in enumerate(clients)))
    assert all(client.connection is connection for client in clients)
    assert len(connection.commands) == 3
    assert not hasattr(WorkflowClient, "close")
    assert "ScriptedConnection" in repr(clients[0])
