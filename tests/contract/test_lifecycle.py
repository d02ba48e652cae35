"""Connections and clients: opened, shared, closed; one event loop each."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

import grctl
from grctl import Client, ConnectionClosedError, ConnectionFailedError, EventLoopError, WorkflowHandle
from grctl.protocols import Connection, ConnectionEvent

from .helpers import collect, in_step, waiting


async def test_a_connection_is_a_connection(connection):
    assert isinstance(connection, Connection)


async def test_async_with_closes_the_connection(host, unique_id):
    async with await host.open() as connection:
        client = Client(connection=connection)
        assert await client.run_workflow("ReturnsItsInput", unique_id(), 1) == 1
    with pytest.raises(ConnectionClosedError):
        await client.start_workflow("ReturnsItsInput", unique_id())


async def test_async_with_closes_the_connection_on_an_error_too(host, unique_id):
    with pytest.raises(ZeroDivisionError):
        async with await host.open() as connection:
            raise ZeroDivisionError
    with pytest.raises(ConnectionClosedError):
        await Client(connection=connection).start_workflow("ReturnsItsInput", unique_id())


async def test_two_clients_share_a_connection(connection, unique_id):
    first, second = Client(connection=connection), Client(connection=connection)
    wf_id = unique_id()
    handle = await first.start_workflow("WaitsForApproval", wf_id)
    found = await second.get_handle(wf_id)
    await waiting(found)
    await found.send("approve")
    assert await handle.result() == {"approved": True, "qty": 1}
    assert first.connection is second.connection is connection


async def test_a_client_never_closes_its_connection(connection, unique_id):
    client = Client(connection=connection)
    await client.run_workflow("ReturnsItsInput", unique_id())
    del client
    other = Client(connection=connection)
    assert await other.run_workflow("ReturnsItsInput", unique_id(), "still open") == "still open"


async def test_several_connections_do_not_disturb_each_other(host, unique_id):
    first, second = await host.open(), await host.open()
    await first.close()
    assert await Client(connection=second).run_workflow("ReturnsItsInput", unique_id(), "open") == "open"
    await second.close()


async def test_connections_to_one_server_reach_the_same_runs(host, connection, client, unique_id):
    async with await host.open_beside(connection) as second:
        other = Client(connection=second)
        wf_id = unique_id()
        handle = await client.start_workflow("WaitsForApproval", wf_id)
        await waiting(handle)
        found = await other.get_handle(wf_id)
        ends = asyncio.gather(handle.outcome(), found.outcome())
        await found.send("approve")
        assert [outcome.result for outcome in await ends] == [{"approved": True, "qty": 1}] * 2


async def test_closing_one_connection_leaves_the_others_open(host, connection, client, unique_id):
    second = await host.open_beside(connection)
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    mine = asyncio.create_task(handle.outcome())
    theirs = asyncio.create_task((await Client(connection=second).get_handle(handle.run_info.wf_id)).outcome())
    await asyncio.sleep(0)
    await second.close()
    with pytest.raises(ConnectionClosedError):
        await theirs
    assert not mine.done()
    await handle.send("approve")
    assert (await mine).completed


# --- close


async def closed(host, unique_id) -> tuple[Client, WorkflowHandle, WorkflowHandle]:
    """Return a client whose connection was closed, a handle to a run that had not ended, and one to a run that had."""
    connection = await host.open()
    client = Client(connection=connection)
    ended = await client.start_workflow("ReturnsItsInput", unique_id(), "out")
    await ended.result()
    active = await client.start_workflow("WaitsForApproval", unique_id(), workflow_timeout=60)
    await waiting(active)
    await connection.close()
    return client, active, ended


async def test_use_of_a_client_after_close(host, unique_id):
    client, _, _ = await closed(host, unique_id)
    calls = [
        lambda: client.start_workflow("ReturnsItsInput", unique_id()),
        lambda: client.run_workflow("ReturnsItsInput", unique_id()),
        lambda: client.get_handle(unique_id()),
        lambda: client.get_handle(unique_id(), run_id="01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        lambda: collect(client.list_workflows()),
    ]
    for call in calls:
        with pytest.raises(ConnectionClosedError, match="open a new one") as caught:
            await call()
        assert isinstance(caught.value, ConnectionFailedError)
        assert isinstance(caught.value, ConnectionError)


async def test_use_of_a_handle_after_close(host, unique_id):
    _, active, _ = await closed(host, unique_id)
    calls = [
        active.result,
        active.outcome,
        active.describe,
        active.cancel,
        active.terminate,
        lambda: active.send("approve"),
        lambda: active.send("approve", check_event=False),
        lambda: collect(active.history()),
        lambda: collect(active.history(follow=True)),
        lambda: active.future,
    ]
    for call in calls:
        with pytest.raises(ConnectionClosedError):
            await call()


async def test_what_a_handle_knows_it_knows_after_close_too(host, unique_id):
    _, active, ended = await closed(host, unique_id)
    assert await ended.result() == "out"
    assert (await ended.outcome()).completed
    assert ended.future.result() == "out"
    assert ended.run_info.is_finished
    assert not active.run_info.is_finished


async def test_close_twice_and_at_once(host):
    connection = await host.open()
    await asyncio.gather(connection.close(), connection.close())
    await connection.close()


async def test_close_with_waits_pending_ends_them(host, unique_id):
    connection = await host.open()
    handle = await Client(connection=connection).start_workflow("WaitsForApproval", unique_id(), workflow_timeout=60)
    await waiting(handle)
    future = handle.future
    waits = [
        asyncio.create_task(handle.result()),
        asyncio.create_task(handle.outcome()),
        asyncio.create_task(collect(handle.history(follow=True))),
        asyncio.ensure_future(future),
    ]
    await asyncio.sleep(0)
    await connection.close()
    ends = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(end) for end in ends] == [ConnectionClosedError] * 4
    assert future.done()


async def test_close_with_waits_pending_logs_nothing(host, unique_id, caplog):
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    connection = await host.open()
    handle = await Client(connection=connection).start_workflow("WaitsForApproval", unique_id(), workflow_timeout=60)
    await waiting(handle)
    looked_at = handle.future
    await connection.close()
    del handle, looked_at
    await asyncio.sleep(0)
    assert complaints == []
    assert caplog.records == []


async def test_close_during_a_step_waits_no_longer_than_its_grace(host, unique_id):
    connection = await host.open()
    handle = await Client(connection=connection).start_workflow(
        "IsInAStep", unique_id(), {"seconds": 250.0}, workflow_timeout=60
    )
    await in_step(handle)
    await asyncio.wait_for(connection.close(grace=0.05), 30)


async def test_calls_in_flight_at_close_end_one_way_or_the_other(host, unique_id):
    connection = await host.open()
    client = Client(connection=connection)
    starts = [
        asyncio.create_task(client.start_workflow("ReturnsItsInput", unique_id(), workflow_timeout=60))
        for _ in range(20)
    ]
    await asyncio.sleep(0)
    await connection.close()
    for end in await asyncio.gather(*starts, return_exceptions=True):
        assert isinstance(end, WorkflowHandle | ConnectionClosedError | grctl.DeliveryUnknownError), repr(end)


async def test_listeners_hear_of_the_close_once(host):
    connection = await host.open()
    heard: list[ConnectionEvent] = []
    removed: list[ConnectionEvent] = []
    connection.add_listener(heard.append)
    remove = connection.add_listener(removed.append)
    remove()
    remove()
    await connection.close()
    await connection.close()
    assert heard == [ConnectionEvent.CLOSED]
    assert removed == []


async def test_a_listener_that_raises_keeps_nobody_from_closing(host, caplog):
    connection = await host.open()
    heard: list[ConnectionEvent] = []

    def fail(event: ConnectionEvent) -> None:
        raise ZeroDivisionError

    connection.add_listener(fail)
    connection.add_listener(heard.append)
    await connection.close()
    assert heard == [ConnectionEvent.CLOSED]
    assert "ZeroDivisionError" in caplog.text


# --- event loops


async def test_use_from_another_event_loop(client, connection, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)

    async def send():
        await handle.send("approve")

    async def look_at_future():
        await handle.future

    calls = [
        lambda: client.start_workflow("ReturnsItsInput", unique_id()),
        lambda: client.get_handle(handle.run_info.wf_id),
        lambda: client.get_handle(handle.run_info.wf_id, run_id=handle.run_info.id),
        lambda: collect(client.list_workflows()),
        lambda: collect(handle.history()),
        handle.result,
        handle.outcome,
        handle.describe,
        handle.cancel,
        handle.terminate,
        send,
        look_at_future,
        connection.close,
    ]
    for call in calls:
        with pytest.raises(EventLoopError, match="event loop") as caught:
            await asyncio.to_thread(lambda call=call: asyncio.run(_run(call)))
        assert isinstance(caught.value, RuntimeError)
    assert not (await handle.describe()).is_finished
    await handle.send("approve")
    assert (await handle.outcome()).completed


async def _run(call):
    return await call()


async def test_a_look_at_future_outside_of_any_event_loop(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    with pytest.raises(EventLoopError):
        await asyncio.to_thread(lambda: handle.future)
    await handle.terminate()


async def test_run_coroutine_threadsafe_is_the_way_in_from_threads(client, unique_id):
    loop = asyncio.get_running_loop()

    def in_a_thread():
        run = client.run_workflow("ReturnsItsInput", unique_id(), "from a thread")
        return asyncio.run_coroutine_threadsafe(run, loop).result(60)

    assert await asyncio.to_thread(in_a_thread) == "from a thread"


# --- imports


@pytest.mark.parametrize(
    "statement",
    [
        "from grctl.nats.connection import Connection",
        "from grctl.client.client import Client",
        "from grctl.models.errors import WorkflowError",
        "from grctl.workflow import Workflow, Directive",
        "from grctl.worker import Context",
        "from grctl.worker.context import Context",
        "from grctl.models.directive import Directive",
        "from grctl.models.common import ErrorDetails",
        "from grctl.protocols import Client, Handle, Connection",
        "import grctl; [getattr(grctl, name) for name in grctl.__all__]",
    ],
)
def test_documented_imports(statement):
    subprocess.run([sys.executable, "-W", "error", "-c", statement], check=True)


def test_import_grctl_is_light():
    heavy = "asyncio, nats, msgspec, grctl_engine, pydantic, opentelemetry"
    program = f"import grctl, sys; print([name for name in '{heavy}'.split(', ') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
