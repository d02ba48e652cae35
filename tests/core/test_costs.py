"""What a call costs, counted: nothing here measures time. What takes more than it did fails, and is looked at."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any, Self

import pytest

from grctl_core.client import WorkflowClient
from grctl_core.commands import Command, Reply
from grctl_core.hooks import Plugin

from .scripted import OK, ScriptedConnection, run_info, settle


class Stack(ScriptedConnection):
    """Answers at once, and keeps the functions that each command came through, the innermost first."""

    def __init__(self) -> None:
        super().__init__()
        self.stacks: list[list[str]] = []

    async def request(self, command: Command, *, timeout: float) -> Reply:
        frame, names = sys._getframe(1), []
        while frame.f_code.co_name not in ("start_workflow", "send"):
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        self.stacks.append(names)
        self.commands.append(command)
        return OK


class Instant(ScriptedConnection):
    """Answers at once, in one call."""

    async def request(self, command: Command, *, timeout: float) -> Reply:
        return OK


class Empty(Plugin):
    name = "empty"

    async def grctl_operation(self, call: Any, proceed: Any) -> Any:
        return await proceed(call)


class EmptyAttempt(Plugin):
    name = "empty-attempt"

    async def grctl_attempt(self, attempt: Any, proceed: Any) -> Any:
        return await proceed(attempt)


class Tasks:
    """Counts the tasks that are made."""

    def __init__(self) -> None:
        self.made = 0

    def __enter__(self) -> Self:
        def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
            self.made += 1
            return asyncio.Task(coroutine, loop=loop, **options)

        asyncio.get_running_loop().set_task_factory(make)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().set_task_factory(None)


async def python_calls(do: Callable[[], Any]) -> int:
    """Count the calls of Python functions; one that goes on after an await counts again."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    for _ in range(5):  # whatever is made at the first time is made
        await do()
    gc.collect()
    gc.disable()  # or somebody else's __del__ counts
    sys.setprofile(note)
    try:
        await do()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


async def test_a_start_is_one_command_without_headers_and_no_task() -> None:
    connection = ScriptedConnection()
    client = WorkflowClient(connection, plugins=[])
    with Tasks() as tasks:
        await client.start_workflow("Order", "order-1", {"n": 1})
    assert [command.kind for command in connection.commands] == ["run.start"]
    assert connection.commands[0].headers is None
    assert tasks.made == 0


async def test_no_plugin_means_no_frame() -> None:
    """Between the caller and the connection stands what an operation takes, and nothing that could be a layer."""
    connection = Stack()
    await WorkflowClient(connection, plugins=[]).start_workflow("Order", "order-1")
    assert connection.stacks == [["_send", "proceed", "resolve_once", "_attempts", "_start"]]


@pytest.mark.parametrize(("plugin", "more"), [(Empty(), 2), (EmptyAttempt(), 3)])
async def test_a_layer_is_two_frames_and_one_for_all_of_the_attempt(plugin: Plugin, more: int) -> None:
    """The hook's own, and one that checks what it does. Below those of the attempt one notes what was really sent."""
    connection = Stack()
    for plugins in ([], [plugin]):
        await WorkflowClient(connection, plugins=plugins).start_workflow("Order", "order-1")
    without, layered = connection.stacks
    assert len(layered) - len(without) == more


async def test_a_send_has_the_same_frames() -> None:
    connection = Stack()
    handle = await WorkflowClient(connection, plugins=[]).start_workflow("Order", "order-1")
    await handle.send("note", {"n": 1})
    assert connection.stacks[1] == ["_send", "proceed", "_attempts", "_send", "_change"]


async def test_calls_of_a_start_do_not_grow() -> None:
    """As many as there are now: one more is worth a look at scripts/bench."""
    client = WorkflowClient(Instant(), plugins=[])
    assert await python_calls(lambda: client.start_workflow("Order", "order-1", {"n": 1})) <= 35


async def test_calls_of_a_send_do_not_grow() -> None:
    handle = await WorkflowClient(Instant(), plugins=[]).start_workflow("Order", "order-1")
    assert await python_calls(lambda: handle.send("note", {"n": 1})) <= 35


async def test_a_wait_makes_no_task(connection: ScriptedConnection, client: WorkflowClient) -> None:
    connection.record(run_info("R1"))
    handle = await client.get_handle("order-1")
    with Tasks() as tasks:
        futures = [handle.future for _ in range(100)]
        for future in futures:
            future.add_done_callback(lambda _: None)
        await settle()
    assert tasks.made == 0
    assert len(connection.watches) == 1
    connection.end("R1", result=7)
    await settle()
    assert {future.result() for future in futures} == {7}


async def test_a_handle_and_its_wait_stay_small() -> None:
    """Bytes, all in all; there may be a hundred thousand of them."""
    connection = ScriptedConnection()
    client = WorkflowClient(connection, plugins=[])
    count = 500
    handles = [await client.start_workflow("Order", f"order-{n}") for n in range(count)]
    connection.commands.clear()
    del handles
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        handles = [await client.start_workflow("Order", f"order-{n}") for n in range(count)]
        connection.commands.clear()
        gc.collect()
        of_handles = (tracemalloc.get_traced_memory()[0] - before) / count
        futures = [handle.future for handle in handles]
        for future in futures:
            future.add_done_callback(id)
        await settle()
        gc.collect()
        of_waits = (tracemalloc.get_traced_memory()[0] - before) / count - of_handles
    finally:
        tracemalloc.stop()
    # What the scripted connection itself keeps of each is in both.
    assert of_handles <= 1_400
    assert of_waits <= 1_000
