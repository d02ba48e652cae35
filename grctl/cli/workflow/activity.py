"""Activity: what a run is doing now, as its history tells."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from grctl.cli.text import span
from grctl_core.errors import DecodeError, WorkflowNotFoundError
from grctl_core.handle import WorkflowHandle
from grctl_core.history import HistoryEvent

__all__ = ["Activity", "read_activity"]


class Activity(NamedTuple):
    """What a run is doing.

    Attributes:
        what: in words.
        since: since when.
    """

    what: str
    since: datetime


async def read_activity(handle: WorkflowHandle[Any]) -> Activity | None:
    """Read the history of a run that goes on; None where it says nothing."""
    found: Activity | None = None
    tasks: dict[str | None, HistoryEvent] = {}
    try:
        async for event in handle.history():
            found = _after(event, tasks) or found
    except (WorkflowNotFoundError, DecodeError):
        return found
    if found is not None and tasks:
        last = [*tasks.values()][-1]
        name = _data(last).get("task_name", "?")
        others = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
        found = Activity(f"{found.what}, in task {name!r}{others}", last.timestamp)
    return found


def _after(event: HistoryEvent, tasks: dict[str | None, HistoryEvent]) -> Activity | None:
    """Return what a run does after an event, None where the event does not change that."""
    data = _data(event)
    if event.is_terminal:  # and the record does not say so
        tasks.clear()
        return Activity(f"ended ({event.kind}), which its record hides: see 'grctl-client doctor'", event.timestamp)
    match event.kind:
        case "task.started":
            tasks[data.get("task_id")] = event
        case "task.completed" | "task.failed" | "task.cancelled":
            tasks.pop(data.get("task_id"), None)
        case "run.scheduled" | "run.started":
            return Activity("no worker has taken its first step yet", event.timestamp)
        case "step.started":
            tasks.clear()
            worker = f" on worker {event.worker_id or data.get('worker_id')}"
            return Activity(f"in step {data.get('step_name')!r}{worker}", event.timestamp)
        case "step.completed":
            return Activity("waiting for a worker to take the next step", event.timestamp)
        case "wait.started":
            return Activity(_waiting(data), event.timestamp)
        case "run.cancel_received":
            return Activity("asked to cancel; ends when its present step does", event.timestamp)
    return None


def _waiting(data: dict[str, Any]) -> str:
    limit = data.get("timeout_ms")
    if not isinstance(limit, int) or limit <= 0:
        return "waiting for an event"
    then = data.get("timeout_step_name")
    return f"waiting for an event, {span(timedelta(milliseconds=limit).total_seconds())} at most" + (
        f", then step {then!r}" if then else ", then it fails"
    )


def _data(event: HistoryEvent) -> dict[str, Any]:
    try:
        return event.data
    except DecodeError:
        return {}
