"""Inputs: what can happen to a run. The state machine takes them one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from grctl_core.outcome import ErrorDetails
from grctl_engine.directive import Directive

__all__ = [
    "Cancel",
    "Event",
    "Input",
    "RunTimedOut",
    "Start",
    "StepRaised",
    "StepReturned",
    "StepTaken",
    "StepTimedOut",
    "Terminate",
    "WaitTimedOut",
]


class Start(msgspec.Struct, frozen=True):
    """The start was accepted."""

    input: bytes | None


class StepTaken(msgspec.Struct, frozen=True):
    """A worker has taken the step, and is about to run its handler. ``number`` is that of the dispatch."""

    number: int
    worker_id: str


class StepReturned(msgspec.Struct, frozen=True):
    """The handler has decided. ``updates`` are the encoded values that it put into the store."""

    number: int
    directive: Directive
    updates: Mapping[str, bytes] | None = None


class StepRaised(msgspec.Struct, frozen=True):
    """The handler has raised an exception."""

    number: int
    error: ErrorDetails


class StepTimedOut(msgspec.Struct, frozen=True):
    """The step's timer fired."""

    number: int


class Event(msgspec.Struct, frozen=True):
    """An event arrived."""

    name: str
    payload: bytes | None


class Cancel(msgspec.Struct, frozen=True):
    """The run is to end after its step."""

    reason: str


class Terminate(msgspec.Struct, frozen=True):
    """The run is to end at once."""

    reason: str


class WaitTimedOut(msgspec.Struct, frozen=True):
    """The timer of the wait with this id fired."""

    directive_id: str


class RunTimedOut(msgspec.Struct, frozen=True):
    """The run's timer fired."""


Input: TypeAlias = (
    Start
    | StepTaken
    | StepReturned
    | StepRaised
    | StepTimedOut
    | Event
    | Cancel
    | Terminate
    | WaitTimedOut
    | RunTimedOut
)
