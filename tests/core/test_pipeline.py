"""grctl_core.pipeline: layers around what an operation does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from grctl_core.calls import DescribeCall
from grctl_core.errors import DeliveryUnknownError, NotSentError, PluginError
from grctl_core.pipeline import Layer, Pipeline, compose, resolve_once

from .scripted import NEVER, ScriptedConnection, client_on, layer, lost, retrying, settle

Proceed = Any


def noting(name: str, seen: list[str]) -> Layer:
    async def note(call: Any, proceed: Proceed) -> Any:
        seen.append(f"{name} in")
        try:
            return await proceed(call)
        finally:
            seen.append(f"{name} out")

    return layer(note)


async def echo(call: Any) -> Any:
    return call


def test_without_layers_there_is_nothing_around_the_innermost() -> None:
    assert compose((), echo, "query") is echo
    assert Pipeline().around_operation("start", echo) is echo
    assert Pipeline().around_attempt(echo) is echo
    assert Pipeline(operations={"send": [noting("a", [])]}).around_operation("start", echo) is echo


async def test_the_first_listed_is_outermost() -> None:
    seen: list[str] = []
    composed = compose([noting("a", seen), noting("b", seen)], echo, "query")
    assert await composed(7) == await composed(7) == 7  # composed once, called often
    assert seen == ["a in", "b in", "b out", "a out"] * 2


async def test_layers_may_change_call_and_result() -> None:
    async def double(call: int, proceed: Proceed) -> int:
        return 2 * await proceed(call + 1)

    assert await compose([layer(double), layer(double)], echo, "query")(1) == 12


async def test_a_layer_may_answer_itself() -> None:
    async def cached(call: Any, proceed: Proceed) -> str:
        return "cached"

    seen: list[str] = []
    assert await compose([layer(cached), noting("b", seen)], echo, "query")(1) == "cached"
    assert seen == []


async def test_proceed_is_one_shot() -> None:
    async def twice(call: Any, proceed: Proceed) -> Any:
        await proceed(call)
        return await proceed(call)

    with pytest.raises(PluginError, match="only grctl_retry may do that"):
        await compose([layer(twice)], echo, "query")(1)


async def test_layers_run_in_the_callers_task() -> None:
    async def whose(call: Any, proceed: Proceed) -> Any:
        assert asyncio.current_task() is call
        return await proceed(call)

    task = asyncio.current_task()
    assert await compose([layer(whose), layer(whose)], echo, "query")(task) is task


async def test_an_empty_retry_slot_looks_once() -> None:
    calls: list[int] = []

    async def failing(call: int) -> None:
        calls.append(call)
        raise DeliveryUnknownError(f"lost {len(calls)}")

    with pytest.raises(DeliveryUnknownError, match="lost 2"):
        await resolve_once(1, failing)
    assert calls == [1, 1]


async def test_the_retry_slot_may_proceed_again_and_attempt_layers_run_once_per_command(
    connection: ScriptedConnection,
) -> None:
    seen: list[str] = []
    pipeline = Pipeline(
        operations={"send": [noting("operation", seen)]},
        retry=retrying(3).retry,
        attempts=[noting("attempt", seen)],
    )
    client = client_on(connection, pipeline)
    handle = await client.start_workflow("Order", "order-1")
    assert seen == ["attempt in", "attempt out"]
    seen.clear()
    connection.script("run.event", NotSentError("no connection"), NotSentError("no connection"))
    await handle.send("approve")
    assert connection.kinds == ["start", "event", "event", "event"]
    assert seen == ["operation in", *["attempt in", "attempt out"] * 3, "operation out"]


async def test_attempt_layers_see_every_command(connection: ScriptedConnection) -> None:
    kinds: list[str] = []

    async def note(attempt: Any, proceed: Proceed) -> Any:
        kinds.append(attempt.command.kind)
        return await proceed(attempt)

    client = client_on(connection, Pipeline(attempts=[layer(note)]))
    connection.script("run.start", lost())
    handle = await client.start_workflow("Order", "order-1")
    await handle.cancel()
    assert kinds == ["run.start", "run.describe", "run.start", "run.describe", "run.cancel"]
    assert kinds == [command.kind for command in connection.commands]


async def test_cancellation_passes_through_all_layers(connection: ScriptedConnection) -> None:
    seen: list[str] = []
    layers = [noting("a", seen), noting("b", seen)]
    client = client_on(connection, Pipeline(operations={"start": layers}, retry=retrying(5).retry, attempts=layers))
    connection.script("run.start", NEVER)
    task = asyncio.create_task(client.start_workflow("Order", "order-1"))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen[4:] == ["b out", "a out"] * 2
    assert connection.kinds == ["start"]


async def swallow(call: Any, proceed: Proceed) -> Any:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return await proceed(call)


async def cancelled_while_in(pipeline: Pipeline, connection: ScriptedConnection) -> None:
    handle = await client_on(connection).start_workflow("Order", "order-1")
    task = asyncio.create_task(client_on(connection, pipeline)._operations.describe(describe_of(handle)))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def describe_of(handle: Any) -> DescribeCall:
    return DescribeCall(run=handle.run_info.ref, request_timeout=5.0)


@pytest.mark.parametrize("depth", [0, 1])
async def test_a_cancellation_that_a_layer_swallowed_is_raised_again(
    connection: ScriptedConnection, depth: int
) -> None:
    layers = [noting("a", []), noting("b", [])]
    layers[depth] = layer(swallow)
    await cancelled_while_in(Pipeline(operations={"describe": layers}), connection)


async def test_a_cancellation_that_the_retry_slot_swallowed_is_raised_again(connection: ScriptedConnection) -> None:
    await cancelled_while_in(Pipeline(retry=layer(swallow)), connection)
    assert connection.kinds == ["start"]  # nothing was sent for it


async def test_a_task_that_was_cancelled_before_may_call(connection: ScriptedConnection) -> None:
    handle = await client_on(connection).start_workflow("Order", "order-1")
    pipeline = Pipeline(operations={"describe": [noting("a", [])]}, retry=retrying(2).retry)
    describe = client_on(connection, pipeline)._operations.describe

    async def clean_up() -> Any:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return await describe(describe_of(handle))

    task = asyncio.create_task(clean_up())
    await settle()
    task.cancel()
    assert (await task).id == handle.run_info.id


def test_what_was_composed_works_in_one_event_loop_after_another() -> None:
    composed = compose([layer(swallow)], echo, "query")

    async def cancelled() -> None:
        task = asyncio.create_task(composed(7))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    asyncio.run(cancelled())
