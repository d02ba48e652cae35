"""Cancelled at any await point, an operation leaves nothing behind: no task, no watch, no flight, no queued turn."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from grctl_core.client import WorkflowClient
from grctl_core.handle import WorkflowHandle

from .scripted import (
    NEVER,
    OTHER_RUN,
    ScriptedConnection,
    already_running,
    client_on,
    lost,
    other_tasks,
    run_info,
    settle,
)

Operate = Callable[[WorkflowClient, WorkflowHandle[Any]], Awaitable[Any]]

OPERATIONS: dict[str, Operate] = {
    "start": lambda client, _: client.start_workflow("Order", "order-2", {"a": 1}),
    "replace": lambda client, _: client.start_workflow("Order", "order-1", on_conflict="terminate"),
    "attach": lambda client, _: client.start_workflow("Order", "order-1", on_conflict="attach"),
    "run": lambda client, _: client.run_workflow("Order", "order-2"),
    "get_handle": lambda client, _: client.get_handle("order-1"),
    "send": lambda _, handle: handle.send("approve"),
    "query": lambda _, handle: handle.query("status"),
    "describe": lambda _, handle: handle.describe(),
    "cancel": lambda _, handle: handle.cancel(),
    "terminate": lambda _, handle: handle.terminate(),
    "result": lambda _, handle: handle.result(),
    "outcome": lambda _, handle: handle.outcome(60),
    "future": lambda _, handle: handle.future,
}


def server(name: str, answers: str) -> ScriptedConnection:
    connection = ScriptedConnection()
    connection.record(run_info(OTHER_RUN))
    if name in {"replace", "attach"}:
        connection.script("run.start", already_running(OTHER_RUN))
    elif answers == "lost":
        connection.script("run.start", lost())
    for kind in ("event", "cancel", "terminate", "query"):
        if answers != "well":
            connection.script(f"run.{kind}", NEVER if answers == "never" else lost())
    return connection


@pytest.mark.parametrize("company", [0, 2], ids=["alone", "with others behind"])
@pytest.mark.parametrize("answers", ["well", "never", "lost"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_nothing_is_left_behind(name: str, answers: str, company: int) -> None:
    """Cancel at the nth turn of the loop, for each n until the operation is through, or waits for good."""
    for turns in range(25):
        connection = server(name, answers)
        client = client_on(connection)
        handle = await client.get_handle("order-1", run_id=OTHER_RUN)
        tasks = [asyncio.ensure_future(OPERATIONS[name](client, handle)) for _ in range(1 + company)]
        await settle(turns)
        over = tasks[0].done()
        tasks[0].cancel()
        await settle()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert over or any(isinstance(result, asyncio.CancelledError) for result in results)
        assert not other_tasks()
        assert not client._operations._flights._flying
        assert not handle._order._busy
        assert not handle._order._queue
        await settle()
        assert not handle._end._waiting
        del handle, task, tasks, results
        gc.collect(0)
        await settle()
        assert connection.live_watches == 0
        if over:
            break
