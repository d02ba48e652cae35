"""Hangs: where a live server has left a run lying, by what the run's history shows (PROTOCOL.md section 8, 6 and 8)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum

from grctl import HistoryEvent

__all__ = ["Hang", "find_hang"]


class Hang(Enum):
    """How a run hangs. The numbers are those of PROTOCOL.md, section 8."""

    EVENT_STUCK = "6: an event is in the inbox of a run that waits, and does not wake it"
    STEP_DROPPED = "8: a step that came right after another was never begun"


class _At(Enum):
    """Where a run is, as far as its history has been read."""

    STEP = "a step is under way, or the first one is to be begun"
    BETWEEN = "a step has completed, and another one is to be begun"
    WAIT = "the run waits"


_TELL_NOTHING = frozenset({"run.scheduled", "run.started", "run.cancel_received", "task.cancelled"})
"""They say nothing about whether a step was begun: a ``task.cancelled`` may come late, of a step that is over."""


def find_hang(history: Iterable[HistoryEvent], known: Collection[str]) -> Hang | None:
    """Return how a run hangs, or hung until the timeout of a step; None where its history does not show that.

    A run that is between two things for a moment looks the same, so ask for a run that has stood still. In doubt the
    answer is None: ``step.started`` may be missing (section 8, 12), so whatever a step does shows that it was begun.

    Args:
        history: of the run, from its beginning.
        known: names of the events and steps of its type. Another event blocks the inbox of a server that is well.
    """
    at = _At.STEP
    inbox: list[str] = []
    dropped = False
    for event in history:
        if event.is_terminal:
            return Hang.STEP_DROPPED if dropped else None
        name = event.data.get("step_name")
        if event.kind == "event.received":
            inbox.append(event.data["event_name"])
        elif event.kind == "wait.started":
            at = _At.WAIT
        elif event.kind == "step.timeout":
            dropped = name in known and (at is _At.BETWEEN or (at is _At.WAIT and inbox[:1] == [name]))
        elif event.kind not in _TELL_NOTHING:
            if at is _At.WAIT and name in inbox:
                inbox.remove(name)
            at = _At.BETWEEN if event.kind == "step.completed" else _At.STEP
    if at is _At.BETWEEN:
        return Hang.STEP_DROPPED
    return Hang.EVENT_STUCK if at is _At.WAIT and inbox and inbox[0] in known else None
