"""The state machine against docs/protocol.md, section 6: each case is a story, told in inputs and what follows."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from grctl_core.outcome import ErrorDetails
from grctl_core.run import RunStatus
from grctl_engine.directive import Complete, Fail, NextStep, Wait
from grctl_engine.effects import Abandon, Begin, ClearTimer, Dispatch, End, Record, SetTimer, StoreUpdates, TimerName
from grctl_engine.inputs import (
    Cancel,
    Event,
    RunTimedOut,
    Start,
    StepRaised,
    StepReturned,
    StepTaken,
    StepTimedOut,
    Terminate,
    WaitTimedOut,
)
from grctl_engine.machine import DEFAULT_WAIT_TIMEOUT, UNKNOWN_STEP_TIMEOUT, transition
from grctl_engine.state import RunState, StateKind

T0 = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = {"start": timedelta(minutes=5), "next": timedelta(seconds=10), "go": timedelta(minutes=5)}
BOOM = ErrorDetails("ValueError", "boom", "Traceback")
WAIT = Wait("next.1")
WAIT_1S = Wait("next.2", timedelta(seconds=1))
WAIT_ON_TIMEOUT = Wait("next.3", timedelta(milliseconds=400), "next")
DONE = Complete(b"\x07")


class Machine:
    """Feeds inputs, and keeps what a host would: timers that are set, the step that was dispatched."""

    def __init__(self, timeout: timedelta | None = None) -> None:
        self.now = T0
        self.state = RunState(accepted_at=T0, entered_at=T0, timeout=timeout, step_timeouts=STEPS)
        self.records: list[Record] = []
        self.timers: dict[TimerName, SetTimer] = {}
        self.dispatched: list[tuple[str, bytes | None]] = []
        self.abandoned = 0
        self.store: dict[str, bytes] = {}
        self.begun: list[datetime] = []
        self.end: End | None = None

    def feed(self, input: Any) -> list[str]:
        effects = transition(self.state, input, self.now)
        for effect in effects:
            match effect:
                case Record():
                    self.records.append(effect)
                case SetTimer():
                    assert effect.timer not in self.timers or effect.timer is not TimerName.RUN
                    self.timers[effect.timer] = effect
                case ClearTimer():
                    self.timers.pop(effect.timer)
                case Dispatch():
                    self.dispatched.append((effect.step.name, effect.step.payload))
                case Abandon():
                    self.abandoned += 1
                case StoreUpdates():
                    self.store.update(effect.updates)
                case Begin():
                    self.begun.append(self.now)
                case End():
                    assert self.end is None
                    self.end = effect
                    self.timers.clear()
        return [effect.kind for effect in effects if isinstance(effect, Record)]

    def after(self, milliseconds: int) -> Machine:
        self.now += timedelta(milliseconds=milliseconds)
        return self

    @property
    def number(self) -> int:
        return self.state.dispatched

    def start(self, encoded: bytes | None = None) -> list[str]:
        return self.feed(Start(encoded))

    def take(self) -> list[str]:
        return self.feed(StepTaken(self.number, "worker"))

    def give(self, directive: Any, updates: Any = None) -> list[str]:
        return self.feed(StepReturned(self.number, directive, updates))

    def blow(self) -> list[str]:
        return self.feed(StepRaised(self.number, BOOM))

    def body(self, kind: str) -> dict[str, Any]:
        found = [record for record in self.records if record.kind == kind]
        assert len(found) == 1, (kind, self.kinds)
        return msgspec.msgpack.decode(msgspec.msgpack.encode(found[0].body))

    @property
    def kinds(self) -> list[str]:
        return [record.kind for record in self.records]


def at_start(**options: Any) -> Machine:
    machine = Machine(**options)
    machine.start()
    return machine


def in_step(**options: Any) -> Machine:
    machine = at_start(**options)
    machine.take()
    return machine


def waiting(wait: Wait = WAIT, **options: Any) -> Machine:
    machine = in_step(**options)
    machine.give(wait)
    return machine


def dispatched(**options: Any) -> Machine:
    """A second step that nobody has taken yet."""
    machine = in_step(**options)
    machine.give(NextStep("next"))
    return machine


def in_unknown_event(**options: Any) -> Machine:
    machine = waiting(**options)
    machine.feed(Event("unknown", None))
    return machine


GOING_ON = {
    "start": at_start,
    "step": in_step,
    "wait": waiting,
    "dispatched": dispatched,
    "unknown event": in_unknown_event,
}


# --- the way of a run


def test_start_dispatches_the_start_step_and_is_start_until_it_is_taken():
    machine = Machine()
    assert machine.start(b"\x81\xa1a\x01") == ["run.started"]
    assert machine.dispatched == [("start", b"\x81\xa1a\x01")]
    assert machine.state.kind is StateKind.START
    assert machine.timers == {}
    assert machine.body("run.started") == {"input": {"a": 1}}
    assert machine.after(3).take() == ["step.started"]
    assert machine.state.kind is StateKind.STEP
    assert machine.begun == [T0 + timedelta(milliseconds=3)]
    assert machine.body("step.started") == {"step_name": "start", "worker_id": "worker"}


def test_the_steps_timer_runs_from_when_it_is_taken():
    machine = dispatched()
    assert machine.timers == {}
    machine.take()
    assert machine.timers[TimerName.STEP] == SetTimer(TimerName.STEP, timedelta(seconds=10), 2)


@pytest.mark.parametrize(
    ("directive", "kinds", "state", "timers"),
    [
        (NextStep("next"), ["step.completed"], StateKind.STEP, set()),
        (WAIT, ["step.completed", "wait.started"], StateKind.WAIT, {TimerName.WAIT}),
        (DONE, ["step.completed", "run.completed"], StateKind.COMPLETE, set()),
        (Fail(BOOM), ["step.completed", "run.failed"], StateKind.FAIL, set()),
    ],
)
def test_the_four_decisions(directive, kinds, state, timers):
    machine = in_step()
    assert machine.after(7).give(directive, {"k": b"\x01"}) == kinds
    assert machine.state.kind is state
    assert set(machine.timers) == timers
    assert machine.store == {"k": b"\x01"}
    assert machine.body("step.completed") == {"step_name": "start", "worker_id": "worker", "duration_ms": 7}
    assert machine.abandoned == 0


def test_ends_of_its_own_decision():
    machine = in_step()
    machine.after(7).give(DONE)
    assert machine.body("run.completed") == {"result": 7, "duration_ms": 7}
    assert machine.end == End(RunStatus.COMPLETED, result=b"\x07")
    machine = in_step()
    machine.after(7).give(Fail(BOOM))
    assert machine.body("run.failed") == {"error": msgspec.to_builtins(BOOM), "duration_ms": 7}
    assert machine.end == End(RunStatus.FAILED, error=BOOM)


def test_an_exception_fails_the_run():
    machine = in_step()
    assert machine.after(9).blow() == ["step.failed", "run.failed"]
    error = {"type": "ValueError", "message": "boom", "stack_trace": "Traceback"}
    assert machine.body("step.failed") == {"step_name": "start", "error": error, "duration_ms": 9}
    assert machine.body("run.failed") == {"error": error, "duration_ms": 9}
    assert machine.end == End(RunStatus.FAILED, error=BOOM)
    assert machine.abandoned == 0


def test_durations_of_the_run_count_from_its_first_step_as_the_servers_do():
    machine = at_start()
    machine.after(1000).take()
    machine.after(5).give(DONE)
    assert machine.body("run.completed")["duration_ms"] == 5


def test_a_clock_that_was_set_back_makes_no_negative_duration():
    machine = in_step()
    machine.after(-5000).give(DONE)
    assert machine.body("step.completed")["duration_ms"] == 0
    assert machine.body("run.completed")["duration_ms"] == 0


# --- waits


@pytest.mark.parametrize(
    ("wait", "timeout_ms", "delay"),
    [
        (WAIT, 0, DEFAULT_WAIT_TIMEOUT),
        (WAIT_1S, 1000, timedelta(seconds=1)),
        (Wait("next.9", timedelta(microseconds=1)), 1, timedelta(microseconds=1)),
    ],
)
def test_a_wait(wait, timeout_ms, delay):
    machine = waiting(wait)
    assert machine.body("wait.started") == {
        "directive_id": wait.id,
        "timeout_ms": timeout_ms,
        "timeout_step_name": "",
    }
    assert machine.timers == {TimerName.WAIT: SetTimer(TimerName.WAIT, delay, wait.id)}


def test_the_default_is_an_hour():
    assert timedelta(hours=1) == DEFAULT_WAIT_TIMEOUT


def test_a_wait_that_times_out_without_a_step_fails():
    machine = waiting(WAIT_1S)
    assert machine.after(1000).feed(WaitTimedOut("next.2")) == ["wait.timed_out", "run.failed"]
    assert machine.body("wait.timed_out") == {"original_directive_id": "next.2", "timeout_step_name": ""}
    assert machine.end == End(
        RunStatus.FAILED, error=ErrorDetails("WaitTimeout", "wait timed out without a timeout step")
    )


def test_a_wait_that_times_out_goes_on_with_its_step():
    machine = waiting(WAIT_ON_TIMEOUT)
    assert machine.body("wait.started")["timeout_step_name"] == "next"
    assert machine.after(400).feed(WaitTimedOut("next.3")) == ["wait.timed_out"]
    assert machine.body("wait.timed_out") == {"original_directive_id": "next.3", "timeout_step_name": "next"}
    assert machine.dispatched[-1] == ("next", None)
    assert machine.state.kind is StateKind.STEP


def test_no_timer_survives_the_event_that_ends_the_wait():
    machine = waiting(WAIT_1S)
    machine.feed(Event("go", None))
    assert machine.timers == {}
    assert machine.feed(WaitTimedOut("next.2")) == []
    machine.take()
    machine.give(WAIT)
    assert machine.feed(WaitTimedOut("next.2")) == []
    assert machine.state.kind is StateKind.WAIT


# --- events


def test_an_event_in_wait_is_dispatched_at_once():
    machine = waiting()
    assert machine.feed(Event("go", b"\x01")) == ["event.received"]
    assert machine.body("event.received") == {"event_name": "go", "payload": 1}
    assert machine.dispatched[-1] == ("go", b"\x01")
    assert machine.take() == ["step.started"]
    assert machine.records[-1].body["step_name"] == "go"


@pytest.mark.parametrize("state", ["start", "step", "dispatched", "unknown event"])
def test_an_event_otherwise_is_kept(state):
    machine = GOING_ON[state]()
    before = list(machine.dispatched)
    assert machine.feed(Event("go", None)) == ["event.received"]
    assert machine.dispatched == before


def test_events_are_taken_one_by_one_oldest_first_and_none_is_lost():
    machine = in_step()
    for number in range(5):
        machine.feed(Event("go", bytes([number])))
    for number in range(5):
        assert machine.give(WAIT_1S) == ["step.completed", "wait.started"]
        assert machine.timers == {}
        assert machine.dispatched[-1] == ("go", bytes([number]))
        machine.take()
    machine.give(WAIT_1S)
    assert machine.state.kind is StateKind.WAIT
    assert machine.state.inbox is None


def test_events_stay_in_the_inbox_over_next_steps():
    machine = in_step()
    machine.feed(Event("go", None))
    machine.give(NextStep("next"))
    assert machine.dispatched[-1] == ("next", None)
    machine.take()
    machine.give(WAIT)
    assert machine.dispatched[-1] == ("go", None)


def test_an_unknown_event_blocks_the_inbox_and_fails_the_run():
    machine = waiting()
    assert machine.feed(Event("unknown", None)) == ["event.received"]
    assert machine.dispatched == [("start", None)]
    assert machine.timers == {TimerName.STEP: SetTimer(TimerName.STEP, UNKNOWN_STEP_TIMEOUT, 2)}
    assert machine.feed(Event("go", None)) == ["event.received"]
    assert machine.after(300_000).feed(StepTimedOut(2)) == ["step.timeout", "run.failed"]
    assert machine.body("step.timeout") == {"step_name": "unknown", "duration_ms": 300_000}
    assert machine.end == End(RunStatus.FAILED, error=ErrorDetails("StepTimeout", "step unknown timed out"))
    assert "step.started" not in machine.kinds[4:]


# --- step timeout


def test_a_step_timeout():
    machine = in_step()
    assert machine.after(1000).feed(StepTimedOut(1)) == ["step.timeout", "run.failed"]
    assert machine.body("step.timeout") == {"step_name": "start", "duration_ms": 1000}
    assert machine.end == End(RunStatus.FAILED, error=ErrorDetails("StepTimeout", "step start timed out"))
    assert machine.abandoned == 1


# --- cancel


@pytest.mark.parametrize("state", ["start", "wait", "dispatched", "unknown event"])
def test_a_cancel_while_no_step_runs_is_at_once(state):
    machine = GOING_ON[state]()
    assert machine.after(5).feed(Cancel("enough")) == ["run.cancelled"]
    assert machine.body("run.cancelled") == {"reason": "enough", "duration_ms": 5}
    assert machine.end == End(RunStatus.CANCELLED, reason="enough")
    assert machine.abandoned == (state != "wait")


@pytest.mark.parametrize(
    ("ending", "kinds"),
    [
        (lambda machine: machine.give(NextStep("next"), {"k": b"\x01"}), ["step.completed", "run.cancelled"]),
        (lambda machine: machine.give(WAIT, {"k": b"\x01"}), ["step.completed", "run.cancelled"]),
        (lambda machine: machine.give(DONE, {"k": b"\x01"}), ["step.completed", "run.cancelled"]),
        (lambda machine: machine.give(Fail(BOOM), {"k": b"\x01"}), ["step.completed", "run.cancelled"]),
        (lambda machine: machine.blow(), ["step.failed", "run.cancelled"]),
        (lambda machine: machine.feed(StepTimedOut(1)), ["step.timeout", "run.cancelled"]),
    ],
    ids=["next", "wait", "complete", "fail", "raise", "timeout"],
)
def test_a_cancel_during_a_step_waits_for_its_end_whatever_that_is(ending, kinds):
    machine = in_step()
    assert machine.feed(Cancel("enough")) == ["run.cancel_received"]
    assert machine.body("run.cancel_received") == {}
    assert machine.state.kind is StateKind.STEP
    assert machine.feed(Cancel("again")) == []
    machine.feed(Event("go", None))
    assert ending(machine) == kinds
    assert machine.end == End(RunStatus.CANCELLED, reason="enough")
    assert machine.dispatched == [("start", None)]
    assert machine.timers == {}
    if kinds[0] == "step.completed":
        assert machine.store == {"k": b"\x01"}


# --- terminate and the workflow timeout


@pytest.mark.parametrize("state", GOING_ON)
@pytest.mark.parametrize("cancelled_before", [False, True])
def test_terminate_is_at_once(state, cancelled_before):
    machine = GOING_ON[state]()
    if cancelled_before:
        machine.feed(Cancel("c"))
        if machine.end is not None:
            return
    assert machine.after(5).feed(Terminate("stop")) == ["run.terminated"]
    assert machine.body("run.terminated") == {"reason": "stop", "duration_ms": 5}
    assert machine.end == End(RunStatus.TERMINATED, reason="stop")
    assert machine.abandoned == (state != "wait")


@pytest.mark.parametrize("state", GOING_ON)
def test_the_workflow_timeout(state):
    machine = GOING_ON[state](timeout=timedelta(seconds=5))
    assert machine.timers[TimerName.RUN].delay == timedelta(seconds=5)
    assert machine.after(5000).feed(RunTimedOut()) == ["run.timeout"]
    assert machine.body("run.timeout") == {"duration_ms": 5000}
    assert machine.end == End(RunStatus.TIMED_OUT)
    assert machine.abandoned == (state != "wait")


# --- what comes too late


LATE = {
    "taken": lambda number: StepTaken(number, "worker"),
    "returned": lambda number: StepReturned(number, DONE),
    "raised": lambda number: StepRaised(number, BOOM),
    "timed out": StepTimedOut,
}


@pytest.mark.parametrize("input", LATE)
@pytest.mark.parametrize("state", ["start", "step", "wait", "dispatched"])
def test_reports_of_another_step_have_no_effect(input, state):
    machine = GOING_ON[state]()
    before = copy.deepcopy(msgspec.to_builtins(machine.state))
    for number in (0, machine.number + 1, machine.number - 1):
        assert transition(machine.state, LATE[input](number), machine.now) == []
    assert msgspec.to_builtins(machine.state) == before


@pytest.mark.parametrize("input", ["returned", "raised"])
def test_a_step_that_nobody_has_taken_cannot_end(input):
    machine = dispatched()
    assert machine.feed(LATE[input](2)) == []


def test_a_step_is_taken_once():
    machine = in_step()
    assert machine.take() == []


ENDS = {
    "complete": lambda machine: machine.give(DONE),
    "fail": lambda machine: machine.blow(),
    "terminate": lambda machine: machine.feed(Terminate("")),
    "timeout": lambda machine: machine.feed(RunTimedOut()),
    "cancel": lambda machine: (machine.feed(Cancel("")), machine.give(WAIT)),
}


@pytest.mark.parametrize("end", ENDS)
def test_after_the_end_nothing_has_an_effect(end):
    machine = in_step()
    machine.feed(Event("go", None))
    ENDS[end](machine)
    assert machine.end is not None
    assert machine.state.kind.value == end
    every = [*(make(1) for make in LATE.values()), Event("go", None), Cancel(""), Terminate(""), RunTimedOut()]
    for late in [*every, WaitTimedOut("next.1"), Start(None)]:
        assert transition(machine.state, late, machine.now) == []
    assert machine.state.inbox is None
    assert machine.state.step is None
    assert machine.state.wait is None
