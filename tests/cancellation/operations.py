"""Each public coroutine, as a function of a place."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from grctl import NotSentError, RunStatus

from .places import Place

__all__ = ["OPERATIONS", "Operation"]

Operation = Callable[[Place], Awaitable[Any]]
_numbers = itertools.count(1)


async def attach(place: Place) -> None:
    await place.client.start_workflow("Order", place.handle.run_info.wf_id, on_conflict="attach")


async def replace(place: Place) -> None:
    """Start over a run that is there."""
    wf_id = place.new_id()
    await place.client.start_workflow("Order", wf_id)
    handle = await place.client.start_workflow("Order", wf_id, on_conflict="terminate")
    assert await handle.describe()


async def run(place: Place) -> None:
    assert await place.client.run_workflow("Order", place.new_id(), {"at_once": True}) == "at once"


async def start_and(place: Place, how: str) -> None:
    """End a run of its own, and learn how it ended."""
    handle = await place.client.start_workflow("Order", place.new_id(), None, timedelta(hours=1))
    if how == "ship":
        await handle.send("ship")
    else:
        await getattr(handle, how)("because")
    outcome = await handle.outcome()
    assert outcome.status == {"ship": "completed", "cancel": "cancelled", "terminate": "terminated"}[how]


async def send_twice(place: Place) -> None:
    """One of them queues behind the other."""
    first = asyncio.ensure_future(place.handle.send("note", {"number": next(_numbers)}))
    try:
        await place.handle.send("note", {"number": next(_numbers)})
    finally:
        await asyncio.gather(first, return_exceptions=True)


async def send_before_others(place: Place) -> None:
    """Others queue behind it: where it is cancelled none of them is sent over the hole."""
    behind = [asyncio.ensure_future(place.handle.send("note", {"number": next(_numbers)})) for _ in range(2)]
    try:
        await place.handle.send("note", {"number": next(_numbers)})
    except asyncio.CancelledError:
        await asyncio.wait(behind)
        assert all(isinstance(task.exception(), NotSentError) for task in behind), behind
        raise
    await asyncio.gather(*behind)


async def follow(place: Place) -> None:
    """As most write it: the iterator is left to the garbage collector."""
    async for event in place.handle.history(follow=True):
        assert event.kind != "run.completed"


async def follow_and_close(place: Place) -> None:
    events = place.handle.history(follow=True)
    try:
        async for event in events:
            assert event.kind != "run.completed"
    finally:
        if place.is_nats:
            await events.aclose()  # type: ignore[attr-defined]


async def read_history(place: Place) -> None:
    assert [event async for event in place.handle.history()]


async def list_runs(place: Place) -> None:
    assert [info async for info in place.client.list_workflows(status=RunStatus.RUNNING)]


async def future(place: Place) -> None:
    await place.handle.future


async def send_unknown(place: Place) -> None:
    place.client._operations._types._types.clear()
    await place.handle.send("note", {"number": next(_numbers)})


OPERATIONS: dict[str, Operation] = {
    "start_workflow": lambda place: place.client.start_workflow("Order", place.new_id(), None, 3_600),
    "start_workflow, attach": attach,
    "start_workflow, terminate": replace,
    "run_workflow": run,
    "get_handle": lambda place: place.client.get_handle(place.handle.run_info.wf_id),
    "get_handle of a run": lambda place: place.client.get_handle(place.handle.run_info.wf_id, place.handle.run_info.id),
    "send": lambda place: place.handle.send("note", {"number": next(_numbers)}),
    "send behind another": send_twice,
    "send before others": send_before_others,
    "send, its type not yet known": send_unknown,
    "send and complete": lambda place: start_and(place, "ship"),
    "cancel": lambda place: start_and(place, "cancel"),
    "terminate": lambda place: start_and(place, "terminate"),
    "describe": lambda place: place.handle.describe(),
    "query": lambda place: place.handle.query("status"),
    "result": lambda place: place.handle.result(),
    "outcome with a timeout": lambda place: place.handle.outcome(timeout=600),
    "future": future,
    "history": read_history,
    "history, following": follow,
    "history, following, closed": follow_and_close,
    "list_workflows": list_runs,
}
