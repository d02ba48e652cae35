"""What cases wait with: conditions, never amounts of time."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from grctl import HistoryEvent, WorkflowHandle

T = TypeVar("T")

DEADLINE = float(os.environ.get("GRCTL_TEST_DEADLINE", "60"))
"""Seconds after which a case counts as hanging. Nothing is to be read into it: cases take milliseconds."""


async def until(handle: WorkflowHandle[Any], kind: str, *, times: int = 1, **data: Any) -> list[HistoryEvent]:
    """Follow the run until an event of this kind, with these data, has come ``times`` times; return what came."""
    seen: list[HistoryEvent] = []
    count = 0
    async for event in handle.history(follow=True):
        seen.append(event)
        if event.kind == kind and data.items() <= event.data.items():
            count += 1
            if count == times:
                return seen
    raise AssertionError(f"the run ended without {times} times {kind} {data or ''}: {[event.kind for event in seen]}")


async def in_step(handle: WorkflowHandle[Any], name: str = "start") -> None:
    """Wait until the run is in the step."""
    await until(handle, "step.started", step_name=name)


async def waiting(handle: WorkflowHandle[Any], *, times: int = 1) -> None:
    """Wait until the run waits for an event, for the first or a later time."""
    await until(handle, "wait.started", times=times)


async def kinds(handle: WorkflowHandle[Any]) -> list[str]:
    """Return the kinds of what has happened."""
    return [event.kind async for event in handle.history()]


async def event_of(handle: WorkflowHandle[Any], kind: str) -> HistoryEvent:
    """Return the only event of a kind."""
    (event,) = [event async for event in handle.history() if event.kind == kind]
    return event


async def collect(iterator: AsyncIterator[T]) -> list[T]:
    """Return all that an iterator yields."""
    return [item async for item in iterator]
