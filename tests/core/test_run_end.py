"""grctl_core.run_end: the end of one run, for any number of waiters."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from grctl_core import run_end
from grctl_core.client import WorkflowClient
from grctl_core.errors import (
    ConnectionClosedError,
    DecodeError,
    EventLoopError,
    WorkflowCancelledError,
    WorkflowError,
    WorkflowNotFoundError,
    WorkflowTimeoutError,
)
from grctl_core.handle import WorkflowHandle
from grctl_core.outcome import decode_outcome
from grctl_core.run_end import RunEnd

from .scripted import ScriptedConnection, handle_to, run_info, settle


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


async def test_each_look_gives_a_future_of_its_own_until_the_end(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    one, two = handle.future, handle.future
    assert one is not two
    assert isinstance(one, asyncio.Future)
    connection.end("R1", result={"total": 3})
    assert await one == await two == {"total": 3}
    assert handle.future is handle.future
    assert handle.future.result() == {"total": 3}
    assert len(connection.watches) == 1


async def test_a_known_end_needs_no_connection(connection: ScriptedConnection, handle: WorkflowHandle[Any]) -> None:
    waiting = asyncio.create_task(handle.outcome())
    await settle()
    connection.end("R1", result=7)
    await waiting
    connection.ends.clear()
    connection.records.clear()
    assert handle.future.result() == await handle.future == await handle.result() == 7
    assert len(connection.watches) == 1


async def test_giving_up_on_one_harms_nobody_else(connection: ScriptedConnection, handle: WorkflowHandle[Any]) -> None:
    others = [asyncio.ensure_future(handle.future), asyncio.create_task(handle.result())]
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.future, 0.001)
    handle.future.cancel()
    await settle()
    connection.end("R1", result="done")
    assert await asyncio.gather(*others) == ["done", "done"]
    assert await handle.result() == "done"
    assert len(connection.watches) == 1


async def test_all_of_asyncio_takes_it(connection: ScriptedConnection, handle: WorkflowHandle[Any]) -> None:
    waits = [
        asyncio.create_task(asyncio.wait_for(handle.future, 60)),
        asyncio.create_task(asyncio.wait_for(asyncio.shield(handle.future), 60)),
        asyncio.ensure_future(asyncio.gather(handle.future, handle.future)),
        asyncio.create_task(asyncio.wait([handle.future])),
    ]
    seen: list[object] = []
    future = handle.future
    future.add_done_callback(seen.append)
    future.add_done_callback(print)
    assert future.remove_done_callback(print) == 1
    await settle()
    assert not any(task.done() for task in waits)
    connection.end("R1", result=1)
    results = await asyncio.gather(*waits)
    assert results[:3] == [1, 1, [1, 1]]
    assert seen == [future]


@pytest.mark.parametrize("status", ["failed", "cancelled", "terminated", "timed_out"])
async def test_the_settled_one_raises_the_same_each_time(
    connection: ScriptedConnection, handle: WorkflowHandle[Any], status: str, logged: list[Any]
) -> None:
    waiting = asyncio.ensure_future(handle.future)
    await settle()
    connection.end("R1", status)
    for future in (waiting, handle.future, handle.future):
        with pytest.raises((WorkflowError, WorkflowCancelledError, WorkflowTimeoutError)):
            await future
        assert not future.cancelled()


@pytest.mark.parametrize(
    "error", [WorkflowNotFoundError("records gone"), ConnectionClosedError("closed"), OSError("a transport's mistake")]
)
async def test_a_watch_that_fails_reaches_all_and_the_next_look_tries_again(
    connection: ScriptedConnection, handle: WorkflowHandle[Any], error: Exception, logged: list[Any]
) -> None:
    looked_at = handle.future
    waiting = [asyncio.ensure_future(handle.future), *(asyncio.create_task(handle.outcome()) for _ in range(2))]
    await settle()
    connection.fail_watches(error)
    raised = await asyncio.gather(looked_at, *waiting, return_exceptions=True)
    assert {type(each) for each in raised} == {type(error)}
    again = handle.future
    assert not again.done()
    connection.end("R1", result="back")
    assert await again == await handle.result() == "back"
    assert len(connection.watches) == 2


async def test_a_watch_that_is_cancelled_from_below_is_no_cancellation(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    waiting = [asyncio.ensure_future(handle.future), asyncio.create_task(handle.result())]
    await settle()
    connection.watches[0][1].cancel()
    raised = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(error) for error in raised} == {ConnectionClosedError}


async def test_a_run_that_is_not_there_says_so_at_once(
    connection: ScriptedConnection, handle: WorkflowHandle[Any], logged: list[Any]
) -> None:
    connection.records.clear()
    future = handle.future
    assert future.done()
    for failing in (future, handle.result()):
        with pytest.raises(WorkflowNotFoundError):
            await failing
    assert handle.future is not future


async def test_a_result_of_another_type(connection: ScriptedConnection, client: WorkflowClient) -> None:
    connection.record(run_info("R1"))
    handle = await client.get_handle("order-1", result_type=int)
    waiting = asyncio.create_task(handle.outcome())
    future = handle.future
    connection.end("R1", result="seven")
    for failing in (waiting, future, handle.future, handle.result()):
        with pytest.raises(DecodeError, match="Expected `int`, got `str`"):
            await failing


@pytest.mark.parametrize("status", ["completed", "cancelled", "failed"])
@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_real_cancel_in_the_iteration_of_the_end_is_not_swallowed(
    connection: ScriptedConnection, handle: WorkflowHandle[Any], status: str, cancel_first: bool
) -> None:
    for wait in (handle.result, handle.outcome):
        end = RunEnd(connection, handle._run, Any)
        handle._end = end
        connection.ends.clear()
        task = asyncio.create_task(wait())
        await settle()
        steps = [task.cancel, lambda: connection.end("R1", status)]
        for step in steps if cancel_first else reversed(steps):
            step()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert type(caught.value) is asyncio.CancelledError
        await settle()
        assert handle._end.outcome is not None


async def test_the_workflows_cancellation_is_not_the_tasks(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    async def consume() -> str:
        try:
            await handle.result()
        except WorkflowCancelledError as error:
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            return error.reason
        return "?"

    task = asyncio.create_task(consume())
    await settle()
    connection.end("R1", "cancelled", reason="no stock")
    assert await task == "no stock"


async def test_another_event_loop_is_told_so(connection: ScriptedConnection, handle: WorkflowHandle[Any]) -> None:
    _ = handle.future

    async def elsewhere() -> None:
        with pytest.raises(EventLoopError, match="another event loop"):
            _ = handle.future
        with pytest.raises(EventLoopError):
            await handle.result()

    await asyncio.to_thread(asyncio.run, elsewhere())
    with pytest.raises(EventLoopError, match="no event loop is running here"):
        await asyncio.to_thread(lambda: handle.future)


async def test_ends_in_several_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the end of one run is being taken, that of another is, in another thread's event loop."""
    results: list[object] = []

    async def wait_for_an_end(result: object) -> None:
        connection = ScriptedConnection()
        handle = handle_to(connection)
        waiting = asyncio.create_task(handle.result())
        await settle()
        connection.end("R1", result=result)
        async with asyncio.timeout(10):
            results.append(await waiting)

    def decode_meanwhile(*args: Any) -> Any:
        monkeypatch.undo()
        thread = threading.Thread(target=asyncio.run, args=(wait_for_an_end("there"),))
        thread.start()
        thread.join()
        return decode_outcome(*args)

    monkeypatch.setattr(run_end, "decode_outcome", decode_meanwhile)
    await wait_for_an_end("here")
    assert results == ["there", "here"]
