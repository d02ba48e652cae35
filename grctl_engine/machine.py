"""The state machine of one run (docs/protocol.md, section 6): what happens to it, and what follows from that.

Deterministic: no I/O, no clock, no tasks. :func:`transition` takes the state, an input and the time, and returns the
effects, in the order in which they are to be applied. It changes the state in place, so that an event costs the same
whether ten or ten thousand wait in the inbox; whoever wants the former state copies it first.

Where grctld misbehaves (docs/protocol.md, section 8) this does not: a cancelled run ends as cancelled, however its
last step ends (9), no timer outlives what it was set for (8), and no event is forgotten (6).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from grctl_core.outcome import ErrorDetails
from grctl_core.run import RunStatus
from grctl_engine.directive import Complete, Fail, NextStep, Wait
from grctl_engine.effects import (
    Abandon,
    Begin,
    ClearTimer,
    Dispatch,
    Effect,
    End,
    Record,
    SetTimer,
    Step,
    StoreUpdates,
    TimerName,
    raw,
)
from grctl_engine.inputs import (
    Cancel,
    Event,
    Input,
    RunTimedOut,
    Start,
    StepRaised,
    StepReturned,
    StepTaken,
    StepTimedOut,
    Terminate,
    WaitTimedOut,
)
from grctl_engine.state import START_STEP, RunState, StateKind

__all__ = [
    "DEFAULT_WAIT_TIMEOUT",
    "UNKNOWN_STEP_TIMEOUT",
    "transition",
]

UNKNOWN_STEP_TIMEOUT = timedelta(minutes=5)
"""How long the step of an event blocks that no handler takes: the server's default for steps (section 6)."""

DEFAULT_WAIT_TIMEOUT = timedelta(hours=1)
"""How long a wait without a timeout lasts (docs/protocol.md, section 6)."""


def transition(state: RunState, input: Input, now: datetime) -> list[Effect]:
    """Bring the state on by one input; return what is to be done.

    An input that no longer concerns the run, such as the return of a step that was abandoned, has no effects. So has
    every input once the run has ended.
    """
    if state.kind in _ENDED:
        return []
    return _TRANSITIONS[type(input)](state, input, now)


def _start(state: RunState, start: Start, now: datetime) -> list[Effect]:
    effects: list[Effect] = [Record("run.started", {"input": raw(start.input)})]
    if state.timeout is not None:
        effects.append(SetTimer(TimerName.RUN, state.timeout))
    _dispatch(state, effects, START_STEP, start.input, now)
    _enter(state, StateKind.START, now)
    return effects


def _step_taken(state: RunState, taken: StepTaken, now: datetime) -> list[Effect]:
    step = state.step
    if step is None or step.number != taken.number or step.taken:
        return []
    step.taken = True
    step.since = now
    step.worker_id = taken.worker_id
    effects: list[Effect] = []
    if state.started_at is None:
        state.started_at = now
        effects.append(Begin(taken.worker_id))
    _enter(state, StateKind.STEP, now)
    body = {"step_name": step.name, "worker_id": step.worker_id}
    effects.append(Record("step.started", body, step.worker_id))
    effects.append(SetTimer(TimerName.STEP, state.step_timeouts[step.name], step.number))
    return effects


def _step_returned(state: RunState, returned: StepReturned, now: datetime) -> list[Effect]:
    step = _finished_step(state, returned.number)
    if step is None:
        return []
    effects: list[Effect] = [ClearTimer(TimerName.STEP)]
    if returned.updates:
        # Also when the decision is ignored for a cancel: the step did complete, and says so.
        effects.append(StoreUpdates(returned.updates))
    body = {"step_name": step.name, "worker_id": step.worker_id, "duration_ms": _milliseconds(step.since, now)}
    effects.append(Record("step.completed", body, step.worker_id))
    if state.cancel_reason is not None:
        return _cancel_now(state, effects, state.cancel_reason, now)
    match returned.directive:
        case NextStep(step_name):
            _dispatch(state, effects, step_name, None, now)
        case Wait():
            _wait(state, effects, returned.directive, now)
        case Complete(result):
            _end(state, effects, {"result": msgspec.Raw(result)}, End(RunStatus.COMPLETED, result=result), now)
        case Fail(error):
            _fail(state, effects, error, now)
    return effects


def _step_raised(state: RunState, raised: StepRaised, now: datetime) -> list[Effect]:
    step = _finished_step(state, raised.number)
    if step is None:
        return []
    body = {"step_name": step.name, "error": raised.error, "duration_ms": _milliseconds(step.since, now)}
    effects: list[Effect] = [ClearTimer(TimerName.STEP), Record("step.failed", body)]
    if state.cancel_reason is not None:
        return _cancel_now(state, effects, state.cancel_reason, now)
    return _fail(state, effects, raised.error, now)


def _step_timed_out(state: RunState, timed_out: StepTimedOut, now: datetime) -> list[Effect]:
    step = state.step
    if step is None or step.number != timed_out.number:
        return []
    body = {"step_name": step.name, "duration_ms": _milliseconds(step.since, now)}
    effects: list[Effect] = [Record("step.timeout", body), Abandon()]
    state.step = None
    if state.cancel_reason is not None:
        return _cancel_now(state, effects, state.cancel_reason, now)
    return _fail(state, effects, ErrorDetails("StepTimeout", f"step {step.name} timed out"), now)


def _event(state: RunState, event: Event, now: datetime) -> list[Effect]:
    body = {"event_name": event.name, "payload": raw(event.payload)}
    effects: list[Effect] = [Record("event.received", body)]
    if state.kind is StateKind.WAIT:
        effects.append(ClearTimer(TimerName.WAIT))
        _dispatch(state, effects, event.name, event.payload, now)
    else:
        if state.inbox is None:
            state.inbox = deque()
        state.inbox.append((event.name, event.payload))
    return effects


def _cancel(state: RunState, cancel: Cancel, now: datetime) -> list[Effect]:
    if state.step is None or not state.step.taken:
        return _cancel_now(state, [], cancel.reason, now)
    if state.cancel_reason is not None:  # the first reason stands
        return []
    state.cancel_reason = cancel.reason
    return [Record("run.cancel_received", {})]


def _terminate(state: RunState, terminate: Terminate, now: datetime) -> list[Effect]:
    end = End(RunStatus.TERMINATED, reason=terminate.reason)
    return _end(state, [], {"reason": terminate.reason}, end, now)


def _wait_timed_out(state: RunState, timed_out: WaitTimedOut, now: datetime) -> list[Effect]:
    wait = state.wait
    if wait is None or wait.id != timed_out.directive_id:
        return []
    body = {"original_directive_id": wait.id, "timeout_step_name": wait.timeout_step_name}
    effects: list[Effect] = [Record("wait.timed_out", body)]
    if wait.timeout_step_name:
        _dispatch(state, effects, wait.timeout_step_name, None, now)
        return effects
    return _fail(state, effects, ErrorDetails("WaitTimeout", "wait timed out without a timeout step"), now)


def _run_timed_out(state: RunState, _: RunTimedOut, now: datetime) -> list[Effect]:
    return _end(state, [], {}, End(RunStatus.TIMED_OUT), now)


def _finished_step(state: RunState, number: int) -> Step | None:
    """Take the step under way out of the state; None when the report is about another one."""
    step = state.step
    if step is None or step.number != number or not step.taken:
        return None
    state.step = None
    return step


def _dispatch(state: RunState, effects: list[Effect], name: str, payload: bytes | None, now: datetime) -> None:
    state.dispatched += 1
    known = name in state.step_timeouts
    state.step = Step(name, payload, state.dispatched, now)
    state.wait = None
    _enter(state, StateKind.STEP, now)
    if known:
        effects.append(Dispatch(state.step))
    else:  # nobody will take it; the run is blocked until this timer fires
        effects.append(SetTimer(TimerName.STEP, UNKNOWN_STEP_TIMEOUT, state.dispatched))


def _wait(state: RunState, effects: list[Effect], wait: Wait, now: datetime) -> None:
    # Rounded up, as 0 says that none was given.
    timeout_ms = 0 if wait.timeout is None else -(wait.timeout // -timedelta(milliseconds=1))
    body = {"directive_id": wait.id, "timeout_ms": timeout_ms, "timeout_step_name": wait.timeout_step_name}
    effects.append(Record("wait.started", body))
    if state.inbox:
        name, payload = state.inbox.popleft()
        _dispatch(state, effects, name, payload, now)
        return
    state.inbox = None
    state.wait = wait
    _enter(state, StateKind.WAIT, now)
    effects.append(SetTimer(TimerName.WAIT, wait.timeout or DEFAULT_WAIT_TIMEOUT, wait.id))


def _cancel_now(state: RunState, effects: list[Effect], reason: str, now: datetime) -> list[Effect]:
    return _end(state, effects, {"reason": reason}, End(RunStatus.CANCELLED, reason=reason), now)


def _fail(state: RunState, effects: list[Effect], error: ErrorDetails, now: datetime) -> list[Effect]:
    return _end(state, effects, {"error": error}, End(RunStatus.FAILED, error=error), now)


def _end(state: RunState, effects: list[Effect], body: dict[str, Any], end: End, now: datetime) -> list[Effect]:
    kind, record = _ENDS[end.status]
    body["duration_ms"] = _milliseconds(state.started_at or state.accepted_at, now)
    effects.append(Record(record, body))
    if state.step is not None:
        effects.append(Abandon())
    effects.append(end)
    state.step = state.wait = state.inbox = None
    _enter(state, kind, now)
    return effects


def _enter(state: RunState, kind: StateKind, now: datetime) -> None:
    state.kind = kind
    state.entered_at = now


def _milliseconds(since: datetime, now: datetime) -> int:
    return max(0, (now - since) // timedelta(milliseconds=1))  # the machine's clock may be set back


_ENDS = {
    RunStatus.COMPLETED: (StateKind.COMPLETE, "run.completed"),
    RunStatus.FAILED: (StateKind.FAIL, "run.failed"),
    RunStatus.CANCELLED: (StateKind.CANCEL, "run.cancelled"),
    RunStatus.TERMINATED: (StateKind.TERMINATE, "run.terminated"),
    RunStatus.TIMED_OUT: (StateKind.TIMEOUT, "run.timeout"),
}
_ENDED = frozenset(kind for kind, _ in _ENDS.values())

_TRANSITIONS: dict[type, Callable[[RunState, Any, datetime], list[Effect]]] = {
    Start: _start,
    StepTaken: _step_taken,
    StepReturned: _step_returned,
    StepRaised: _step_raised,
    StepTimedOut: _step_timed_out,
    Event: _event,
    Cancel: _cancel,
    Terminate: _terminate,
    WaitTimedOut: _wait_timed_out,
    RunTimedOut: _run_timed_out,
}
