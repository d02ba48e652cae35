"""Effects: what the state machine wants done. The engine does it, in the given order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeAlias

import msgspec

from grctl_core.outcome import ErrorDetails
from grctl_core.run import RunStatus

__all__ = [
    "Abandon",
    "Begin",
    "ClearTimer",
    "Dispatch",
    "Effect",
    "End",
    "Record",
    "SetTimer",
    "Step",
    "StoreUpdates",
    "TimerName",
    "raw",
]

_NIL = msgspec.Raw(b"\xc0")


def raw(encoded: bytes | None) -> msgspec.Raw:
    """Return what puts an encoded value, None for nil, into another one without decoding it."""
    return _NIL if encoded is None else msgspec.Raw(encoded)


class TimerName(Enum):
    """The timers that a run can have. At most one of ``STEP`` and ``WAIT`` is set."""

    STEP = "step"
    WAIT = "wait"
    RUN = "run"


class Step(msgspec.Struct, eq=False):
    """A step under way.

    Attributes:
        name: its name.
        payload: what its handler gets, encoded: the run's input, or an event's payload.
        number: counts the steps of the run from 1. Tells a late report of an earlier step from one of this.
        since: when it was dispatched; once it is taken, when that was.
        taken: whether a worker runs it.
        worker_id: the worker.
    """

    name: str
    payload: bytes | None
    number: int
    since: datetime
    taken: bool = False
    worker_id: str = ""


class Record(msgspec.Struct, frozen=True):
    """Append to the history. The body is not yet encoded."""

    kind: str
    body: Mapping[str, Any]
    worker_id: str = ""


class Begin(msgspec.Struct, frozen=True):
    """The run has begun: note the time and the worker."""

    worker_id: str


class StoreUpdates(msgspec.Struct, frozen=True):
    """Put encoded values into the run's store."""

    updates: Mapping[str, bytes]


class Dispatch(msgspec.Struct, frozen=True):
    """Give a step to the worker."""

    step: Step


class Abandon(msgspec.Struct, frozen=True):
    """Tell the worker that nobody waits for the step any more."""


class SetTimer(msgspec.Struct, frozen=True):
    """Set a timer. ``subject`` is what it was set for: the step's number, or the wait's id."""

    timer: TimerName
    delay: timedelta
    subject: int | str = 0


class ClearTimer(msgspec.Struct, frozen=True):
    """Clear a timer."""

    timer: TimerName


class End(msgspec.Struct, frozen=True):
    """The run has ended: clear all its timers, tell all who wait."""

    status: RunStatus
    result: bytes | None = None
    error: ErrorDetails | None = None
    reason: str = ""


Effect: TypeAlias = Record | Begin | StoreUpdates | Dispatch | Abandon | SetTimer | ClearTimer | End
