"""The synchronous client: methods that are made of the asynchronous ones keep their types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from grctl import HistoryEvent, Outcome, RunInfo
from grctl.plugins import PluginList
from grctl.protocols import Capabilities, ConnectionEvent
from grctl.sync import Client, Connection, Handle, connect
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_engine import ManualClock


@dataclass
class Receipt:
    approved_by: str


wf = Workflow(workflow_type="Approval")


@wf.start()
async def start(ctx: Context, order_id: str) -> Directive:
    return ctx.next.wait()


@wf.event()
async def approve(ctx: Context, by: str = "nobody") -> Directive:
    return ctx.next.complete({"approved_by": by})


def one_run(client: Client) -> Receipt:
    handle = client.start_workflow("Approval", "order-1", {"order_id": "1"}, timedelta(days=1), result_type=Receipt)
    assert_type(handle, Handle[Receipt])
    assert_type(handle.run_info, RunInfo)
    assert_type(handle.describe(request_timeout=5), RunInfo)
    assert_type(handle.future, Future[Receipt])
    assert_type(handle.log_context(), AbstractContextManager[None])
    with handle.log_context():
        handle.send("approve", {"by": "Mia"}, check_event=True, idempotent=True)
    assert_type(handle.outcome(timeout=5), Outcome[Receipt])
    assert_type(handle.future.result(timeout=5), Receipt)
    return handle.result(timeout=timedelta(seconds=5))


def other_calls(client: Client) -> None:
    handle = client.start_workflow("Approval", "order-2", {"order_id": "2"})
    assert_type(handle, Handle[Any])
    assert_type(handle.query("status", item=7), Any)
    handle.cancel("no longer needed", retry=None)
    handle.terminate(reason="at once")
    assert_type(client.get_handle("order-1", result_type=Receipt), Handle[Receipt])
    assert_type(client.get_handle("order-1"), Handle[Any])
    assert_type(client.run_workflow("Approval", "order-1", result_type=Receipt), Receipt)


def loops(client: Client, handle: Handle[Any]) -> list[str]:
    events = handle.history(follow=True)
    assert_type(events, Iterator[HistoryEvent])
    runs = client.list_workflows(workflow_type="Approval", created_before=datetime.now(UTC))
    assert_type(runs, Iterator[RunInfo])
    return [event.kind for event in events] + [run.wf_id for run in runs]


def connections(connection: Connection) -> None:
    assert_type(connection.capabilities, Capabilities)
    heard: list[ConnectionEvent] = []
    assert_type(connection.add_listener(heard.append), Callable[[], None])
    assert_type(Client(connection=connection, plugins=["retry"]).plugins, PluginList)
    assert_type(connection.run(ManualClock().advance, days=30), None)
    connection.close(grace=timedelta(seconds=1))


def over_nats() -> Connection:
    with Connection.open("nats://localhost:4225", token="secret") as connection:
        assert_type(connection, Connection)
    return Connection.connect(["nats://localhost:4225"], max_in_flight=10)


def main() -> None:
    with connect("memory://", workflows=[wf]) as connection:
        assert_type(connection, Connection)
        client = Client(connection=connection, request_timeout=timedelta(seconds=5))
        print(one_run(client), loops(client, client.get_handle("order-1")))


if __name__ == "__main__":
    main()
