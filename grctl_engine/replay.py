"""Replay: the state of a run that another engine began, from its history.

The state machine is deterministic, so the inputs that made a history make the same state again. What a step was doing
when it was cut off is not in a history: that step is run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from grctl_core.errors import GrctlError
from grctl_core.history import HistoryEvent
from grctl_engine.definition import Definition
from grctl_engine.directive import Directive, NextStep, Wait
from grctl_engine.inputs import Cancel, Event, Input, Start, StepReturned, StepTaken, WaitTimedOut
from grctl_engine.machine import transition
from grctl_engine.state import RunState

__all__ = ["ReplayError", "replay"]

_LOST_REASON = "cancelled before the server was started again"
"""A history does not hold why a run is to be cancelled until it is."""

_NIL = msgspec.Raw(b"\xc0")


class ReplayError(GrctlError):
    """The history is not one that this engine would have written."""


class _Body(msgspec.Struct):
    """What the bodies of those events hold that are inputs again."""

    input: msgspec.Raw = _NIL
    event_name: str = ""
    payload: msgspec.Raw = _NIL
    step_name: str = ""
    directive_id: str = ""
    original_directive_id: str = ""
    timeout_ms: int = 0
    timeout_step_name: str = ""


_decode = msgspec.msgpack.Decoder(_Body).decode


def replay(
    definition: Definition, history: Sequence[HistoryEvent], *, timeout: timedelta | None, next_step: str | None
) -> RunState:
    """Return the state that a history leads to.

    Args:
        definition: the run's workflow type.
        history: all of it.
        timeout: the workflow timeout that is to be enforced.
        next_step: name of the step that was dispatched last, for one that no worker took.

    Raises:
        ReplayError: it leads to none, or to an end.

    """
    if not history or history[0].kind != "run.started":
        raise ReplayError("its history does not begin with run.started")
    accepted_at = history[0].timestamp
    state = RunState(
        accepted_at=accepted_at, entered_at=accepted_at, timeout=timeout, step_timeouts=definition.step_timeouts
    )
    for index, event in enumerate(history):
        try:
            input_ = _input(state, history, index, next_step)
        except msgspec.MsgspecError as error:
            raise ReplayError(f"its event {event.kind} cannot be decoded: {error}") from error
        if input_ is not None:
            transition(state, input_, event.timestamp)
    if state.step is None and state.wait is None:
        raise ReplayError("its history leads to no step and to no wait")
    return state


def _input(state: RunState, history: Sequence[HistoryEvent], index: int, next_step: str | None) -> Input | None:
    """Return the input that wrote an event; None for what is no input: a consequence of one, or a worker's own."""
    event = history[index]
    body = _decode(event.encoded)
    match event.kind:
        case "run.started":
            return Start(bytes(body.input)) if index == 0 else None
        case "step.started":
            return StepTaken(_number(state, body.step_name), event.worker_id)
        case "step.completed":
            return StepReturned(_number(state, body.step_name), _decision(history, index, next_step))
        case "wait.timed_out":
            return WaitTimedOut(body.original_directive_id)
        case "event.received":
            return Event(body.event_name, bytes(body.payload))
        case "run.cancel_received":
            return Cancel(_LOST_REASON)
        case _:
            return None


def _number(state: RunState, step_name: str) -> int:
    if state.step is None or state.step.name != step_name:
        raise ReplayError(f"its history has step {step_name!r} where {state.step and state.step.name!r} was dispatched")
    return state.step.number


def _decision(history: Sequence[HistoryEvent], index: int, next_step: str | None) -> Directive:
    """Return what a step decided; what follows it shows that."""
    following = history[index + 1 :]
    if following and following[0].kind == "wait.started":
        wait = _decode(following[0].encoded)
        timeout = timedelta(milliseconds=wait.timeout_ms) if wait.timeout_ms else None
        return Wait(wait.directive_id, timeout, wait.timeout_step_name)
    for event in following:
        if event.kind == "step.started":
            return NextStep(_decode(event.encoded).step_name)
    if next_step is None:
        raise ReplayError("its history does not say which step was next")
    return NextStep(next_step)
