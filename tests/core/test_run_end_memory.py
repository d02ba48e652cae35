"""grctl_core.run_end: what it holds on to, and what it lets go."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from grctl_core.client import WorkflowClient
from grctl_core.errors import (
    ConnectionClosedError,
    WorkflowError,
)
from grctl_core.handle import WorkflowHandle

from .scripted import ScriptedConnection, handle_to, other_tasks, run_info, settle


@pytest.fixture
def handle(connection: ScriptedConnection) -> WorkflowHandle[Any]:
    return handle_to(connection)


@pytest.fixture
async def logged() -> AsyncIterator[list[dict[str, Any]]]:
    """What the loop complains about. Nothing may, in any test that asks for this."""
    contexts: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
    yield contexts
    gc.collect()
    await settle()
    assert contexts == []


def futures_alive() -> int:
    gc.collect()
    return sum(type(thing).__name__ == "_EndFuture" for thing in gc.get_objects())


async def test_an_end_that_nobody_asks_for_logs_nothing(
    connection: ScriptedConnection, client: WorkflowClient, logged: list[Any]
) -> None:
    connection.record(run_info("R1"))
    handle = await client.get_handle("order-1")
    looked_at = [handle.future for _ in range(5)]
    connection.end("R1", "failed")
    await settle()
    assert all(isinstance(future.exception(), WorkflowError) for future in looked_at)
    del looked_at, handle


async def test_a_watch_that_fails_for_nobody_logs_nothing(
    connection: ScriptedConnection, client: WorkflowClient, logged: list[Any]
) -> None:
    connection.record(run_info("R1"))
    handle = await client.get_handle("order-1")
    _ = handle.future
    connection.fail_watches(ConnectionClosedError("closed"))
    del _, handle
    connection.watches.clear()


async def test_looking_often_piles_up_nothing(connection: ScriptedConnection, handle: WorkflowHandle[Any]) -> None:
    before = futures_alive()
    for _ in range(10_000):
        _ = handle.future
    del _
    assert futures_alive() == before
    assert not handle._end._looked_at
    for _ in range(100):
        waiting = asyncio.create_task(asyncio.wait_for(handle.future, 60))
        await settle(2)
        waiting.cancel()
        await asyncio.wait([waiting])
    del waiting
    await settle()
    assert not handle._end._waiting
    assert not handle._end._looked_at
    assert len(connection.watches) == 1
    assert len(connection.watches[0][1]._callbacks) == 1


async def test_a_future_that_only_a_task_awaits_survives_a_collection(
    connection: ScriptedConnection, client: WorkflowClient
) -> None:
    connection.record(run_info("R1"))
    handle = await client.get_handle("order-1")  # not the fixture, which pytest holds on to
    results: list[object] = []

    async def wait_for(handle: WorkflowHandle[Any]) -> None:
        results.append(await handle.future)

    async def wait_by_result(handle: WorkflowHandle[Any]) -> None:
        results.append(await handle.result())

    tasks = weakref.WeakSet([asyncio.create_task(wait_for(handle)), asyncio.create_task(wait_by_result(handle))])
    await settle()
    end = weakref.ref(handle._end)
    del handle
    for _ in range(3):
        gc.collect()
    assert len(tasks) == 2
    connection.end("R1", result=7)
    await settle()
    assert results == [7, 7]
    gc.collect()
    assert end() is None


class Span:
    """What a tracer keeps in a context variable."""


current_span: contextvars.ContextVar[Span] = contextvars.ContextVar("current_span")


@pytest.mark.parametrize("wait", ["result", "outcome", "look", "future", "one future for both"])
async def test_the_context_of_the_first_who_waited_is_let_go(
    connection: ScriptedConnection, handle: WorkflowHandle[Any], wait: str
) -> None:
    shared = handle.future if wait == "one future for both" else None
    spans: list[weakref.ref[Span]] = []

    async def first() -> None:
        span = Span()
        spans.append(weakref.ref(span))
        current_span.set(span)
        if wait == "look":
            _ = handle.future
        elif wait in ("result", "outcome"):
            await getattr(handle, wait)()
        else:
            await asyncio.wait([shared or handle.future])

    waiting = asyncio.create_task(first())
    await settle()
    behind = asyncio.create_task(asyncio.wait([shared or handle.future]))
    await settle()
    waiting.cancel()
    await asyncio.wait([waiting])
    del waiting
    gc.collect()
    assert not behind.done()
    assert spans[0]() is None
    connection.end("R1", result=7)
    await behind


async def test_dropping_the_handle_ends_the_watch(connection: ScriptedConnection, client: WorkflowClient) -> None:
    connection.record(run_info("R1"))
    handle = await client.get_handle("order-1", run_id="R1")
    future = handle.future
    assert connection.live_watches == 1
    del handle
    gc.collect()
    await settle()
    assert connection.live_watches == 1  # the future still wants to know
    del future
    gc.collect()
    await settle()
    assert connection.live_watches == 0


async def test_ten_thousand_waits_leave_nothing(connection: ScriptedConnection, client: WorkflowClient) -> None:
    before = futures_alive()
    handles = [await client.start_workflow("Order", f"order-{n}") for n in range(10_000)]
    waiting = [handle.future for handle in handles]
    assert len(connection.watches) == 10_000
    assert not other_tasks()
    for number, (run, _) in enumerate(list(connection.watches)):
        if number % 1000 == 0:
            connection.end(run.run_id, "failed")
    del handles, waiting
    gc.collect()
    await settle()
    assert connection.live_watches == 0
    assert futures_alive() == before
