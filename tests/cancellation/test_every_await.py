"""Every public coroutine is interrupted at each of its suspensions: nothing is left, nothing is stuck, all goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any

import pytest

import grctl

from .operations import OPERATIONS, Operation
from .places import PATIENCE, Place
from .stepping import Moment, Stepped

WAITS_FOR_EVER = {"result", "outcome with a timeout", "future", "history, following", "history, following, closed"}
"""Those that end in no other way here than by being interrupted."""
AT_ONCE = {"history", "list_workflows"}
"""Those that wait for nothing on the embedded engine."""


async def interrupted(place: Place, operation: Operation, at: int, moment: Moment, patience: float = PATIENCE) -> bool:
    """Cancel at the nth suspension; return whether there was one.

    Args:
        place: where.
        operation: what is called.
        at: which suspension.
        moment: before, or as what is waited for comes.
        patience: after how many seconds without that it is cancelled all the same.

    """

    async def call() -> Any:
        return await operation(place)

    stepped = Stepped(call(), at, moment, lambda: task.cancel())  # noqa: PLW0108 - it is made below

    async def run() -> Any:
        return await stepped

    task: asyncio.Task[Any] = asyncio.create_task(run())
    await asyncio.wait([task], timeout=patience)
    if not task.done():  # what it waits for does not come, so the interruption does not either
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
    assert task.done(), "a cancellation did not end it"
    if stepped.interrupted:
        assert task.cancelled() or (task.exception() is None and stepped.suspensions == at), (
            f"a cancellation became {task.exception()!r}"
        )
    elif not task.cancelled():
        await task
    return stepped.interrupted


@pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.name.lower())
@pytest.mark.parametrize("name", OPERATIONS)
async def test_cancelled(place: Place, name: str, moment: Moment) -> None:
    if name == "query" and place.is_nats:
        pytest.skip("a Ground Control server answers no queries")
    for at in range(1, 200):
        patience = 0.1 if name in WAITS_FOR_EVER else PATIENCE
        was = await interrupted(place, OPERATIONS[name], at, moment, patience)
        await place.assert_as_before()
        if not was:
            break
        if at % 4 == 1:
            await place.assert_it_works()
            await place.assert_as_before()
    else:
        pytest.fail("it does not come to an end")
    assert at > 1 or name in AT_ONCE, "there was nothing to interrupt"
    await place.assert_it_works()


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_timeout_around_it(place: Place, name: str) -> None:
    """What ``asyncio.timeout`` makes of its own cancellation stays a TimeoutError, and the task is not cancelled."""
    if name == "query" and place.is_nats:
        pytest.skip("a Ground Control server answers no queries")
    for at in range(1, 200, 2):
        if not await timed_out(place, OPERATIONS[name], at, 0.1 if name in WAITS_FOR_EVER else PATIENCE):
            break
        await place.assert_as_before()
    await place.assert_as_before()
    await place.assert_it_works()


async def timed_out(place: Place, operation: Operation, at: int, patience: float) -> bool:
    """Let a timeout be over at the nth suspension; return whether there was one."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    limit = asyncio.timeout(patience)

    async def call() -> Any:
        return await operation(place)

    stepped = Stepped(call(), at, Moment.WAITING, lambda: limit.reschedule(loop.time()))
    try:
        async with limit:
            await stepped
    except TimeoutError:
        assert limit.expired()
    else:
        assert not limit.expired()
    assert not task.cancelling()
    return stepped.interrupted


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_task_group_in_which_another_task_fails(place: Place, name: str) -> None:
    if name == "query" and place.is_nats:
        pytest.skip("a Ground Control server answers no queries")
    for turns in (0, 1, 2, 3, 5, 8):

        async def fail() -> None:
            for _ in range(turns):  # noqa: B023
                await asyncio.sleep(0)
            raise ZeroDivisionError

        async with asyncio.timeout(PATIENCE):
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    group.create_task(as_coroutine(OPERATIONS[name](place)))
                    group.create_task(fail())
        assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
        await place.assert_as_before()
    await place.assert_it_works()


async def as_coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


@pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.name.lower())
async def test_a_cancelled_start_has_started_one_run_or_none(place: Place, moment: Moment) -> None:
    """And the same id can be started again, unless it has."""
    for at in range(1, 50):
        wf_id = place.new_id()
        was = await interrupted(
            place, lambda place, wf_id=wf_id: place.client.start_workflow("Order", wf_id), at, moment
        )
        found = [info async for info in place.client.list_workflows(workflow_id_prefix=wf_id)]
        assert len([info for info in found if info.wf_id == wf_id]) <= 1
        handle = await place.client.start_workflow("Order", wf_id, on_conflict="attach")
        assert [handle.run_info.id] == [info.id for info in found if info.wf_id == wf_id] or not found
        await handle.terminate()
        if not was:
            break


async def test_a_cancelled_cancel_lets_another_one_through(place: Place) -> None:
    for at in range(1, 50):
        handle = await place.client.start_workflow("Order", place.new_id())
        was = await interrupted(place, lambda _, handle=handle: handle.cancel(), at, Moment.WAITING)
        with contextlib.suppress(grctl.WorkflowFinishedError):
            await handle.cancel()
        assert (await asyncio.wait_for(handle.outcome(), PATIENCE)).status is grctl.RunStatus.CANCELLED
        if not was:
            break
