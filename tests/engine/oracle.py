"""An oracle of what runs do, written from docs/protocol.md (sections 3 and 6) alone, for test_model.py.

It predicts each run's history, event by event, and which handlers are called with what. It knows no engine: time is a
number of microseconds, a step is taken when :meth:`Oracle.flush` is called, and what a handler does is told to it. A
time at which something is due is a pair: two of the same moment come in the order in which they were set.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

# Durations of different kinds end in different digits, so that no two of one run fall due in the same microsecond.
STEP_TIMEOUTS = {"start": 60_100_000, "go": 30_100_000, "later": 10_100_000, "child_done": 10_100_000}
UNKNOWN_TIMEOUT = 300_000_000
DEFAULT_WAIT = 3_600_000_000
ATTEMPTS = 3
DELAYS = [1_000_000, 2_000_000]

Due = tuple[int, int]


@dataclass(eq=False)
class Doing:
    """What a handler is busy with: a sleep, a task, a child that it waits for."""

    what: str
    due: Due | None = None
    outcomes: list[str] = field(default_factory=list)
    attempt: int = 0


@dataclass(eq=False)
class ModelRun:
    wf_id: str
    parent: ModelRun | None = None
    callback: bool = False
    run_deadline: Due | None = None
    status: str = "running"
    phase: str = ""
    step: str = ""
    payload: object = None
    deadline: Due | None = None
    dispatched: int = 0
    on_timeout: str = ""
    inbox: list[tuple[str, object]] = field(default_factory=list)
    cancelling: bool = False
    doing: Doing | None = None
    awaited_by: ModelRun | None = None
    history: list[object] = field(default_factory=list)
    calls: list[tuple[str, object]] = field(default_factory=list)

    @property
    def active(self) -> bool:
        return self.status == "running"

    @property
    def idle(self) -> bool:
        """Whether its handler waits to be told what to do."""
        return self.active and self.phase == "step" and self.doing is None


class Oracle:
    def __init__(self) -> None:
        self.now = 0
        self.runs: list[ModelRun] = []
        self.numbers = itertools.count()

    def after(self, duration: int) -> Due:
        return self.now + duration, next(self.numbers)

    def latest(self, wf_id: str) -> ModelRun | None:
        return next((run for run in reversed(self.runs) if run.wf_id == wf_id), None)

    # --- commands

    def start(
        self, wf_id: str, timeout: int | None, parent: ModelRun | None = None, *, callback: bool = False
    ) -> ModelRun | None:
        latest = self.latest(wf_id)
        if latest is not None and latest.active:
            return None
        run = ModelRun(wf_id, parent, callback, None if timeout is None else self.after(timeout))
        self.runs.append(run)
        run.history.append("run.started")
        self._dispatch(run, "start", None)
        return run

    def event(self, run: ModelRun, name: str, payload: object) -> bool:
        if not run.active:
            return False
        run.history.append(("event.received", name, payload))
        if run.phase == "wait":
            self._dispatch(run, name, payload)
        else:
            run.inbox.append((name, payload))
        return True

    def cancel(self, run: ModelRun) -> bool:
        if not run.active:
            return False
        if run.phase != "step":
            self._end(run, "run.cancelled", "cancelled")
        elif not run.cancelling:
            run.cancelling = True
            run.history.append("run.cancel_received")
        return True

    def terminate(self, run: ModelRun) -> bool:
        if not run.active:
            return False
        self._end(run, "run.terminated", "terminated")
        return True

    # --- what the handler of a run does

    def decide(self, run: ModelRun, decision: str, *, timeout: int | None = None, on_timeout: str = "") -> None:
        step = run.step
        if decision == "raise":
            run.history.append(("step.failed", step))
            if run.cancelling:
                return self._end(run, "run.cancelled", "cancelled")
            return self._end(run, "run.failed", "failed")
        run.history.append(("step.completed", step))
        if run.cancelling:
            return self._end(run, "run.cancelled", "cancelled")
        if decision == "complete":
            return self._end(run, "run.completed", "completed")
        if decision == "fail":
            return self._end(run, "run.failed", "failed")
        if decision == "step":
            return self._dispatch(run, "later", None)
        run.history.append(("wait.started", on_timeout))
        if run.inbox:
            return self._dispatch(run, *run.inbox.pop(0))
        run.phase = "wait"
        run.deadline = self.after(timeout or DEFAULT_WAIT)
        run.on_timeout = on_timeout
        return None

    def sleep(self, run: ModelRun, duration: int) -> None:
        run.doing = Doing("sleep", self.after(duration))

    def call_task(self, run: ModelRun, outcomes: list[str]) -> None:
        run.history.append("task.started")
        run.doing = Doing("task", outcomes=list(outcomes))
        self._attempt(run, run.doing)

    def release(self, run: ModelRun) -> None:
        """Let a task that hangs succeed."""
        run.history.append("task.completed")
        run.doing = None

    def start_child(self, run: ModelRun, wf_id: str, how: str, timeout: int | None) -> ModelRun | None:
        child = self.start(wf_id, timeout, run, callback=how == "callback")
        if child is not None:
            run.history.append(("child.started", wf_id))
            if how == "run":
                child.awaited_by = run
                run.doing = Doing("child")
        return child

    def send_to_parent(self, run: ModelRun, payload: object) -> None:
        if run.parent is not None and self.event(run.parent, "go", payload):
            run.history.append("parent.event_sent")

    # --- time

    def flush(self) -> None:
        """Let the worker take what was dispatched."""
        for run in sorted(self.runs, key=lambda run: run.dispatched):
            if run.phase == "dispatched":
                run.phase = "step"
                run.deadline = self.after(STEP_TIMEOUTS[run.step])
                run.history.append(("step.started", run.step))
                run.calls.append((run.step, run.payload))

    def advance(self, duration: int) -> None:
        target = self.now + duration
        self.flush()
        while (found := self._next_due()) is not None and found[0][0] <= target:
            (self.now, _), run, what = found
            self._fire(run, what)
            following = self._next_due()
            if following is None or following[0][0] > self.now:
                self.flush()
        self.now = target

    def _next_due(self) -> tuple[Due, ModelRun, str] | None:
        found: list[tuple[Due, ModelRun, str]] = []
        for run in self.runs:
            if not run.active:
                continue
            if run.deadline is not None:
                found.append((run.deadline, run, run.phase))
            if run.run_deadline is not None:
                found.append((run.run_deadline, run, "run"))
            if run.doing is not None and run.doing.due is not None:
                found.append((run.doing.due, run, run.doing.what))
        return min(found, key=lambda entry: entry[0], default=None)

    def _fire(self, run: ModelRun, what: str) -> None:
        match what:
            case "run":
                self._end(run, "run.timeout", "timed_out")
            case "step" | "blocked":
                run.history.append(("step.timeout", run.step))
                if run.cancelling:
                    self._end(run, "run.cancelled", "cancelled")
                else:
                    self._end(run, "run.failed", "failed")
            case "wait":
                run.history.append(("wait.timed_out", run.on_timeout))
                if run.on_timeout:
                    self._dispatch(run, run.on_timeout, None)
                else:
                    self._end(run, "run.failed", "failed")
            case "sleep":
                run.history.append("sleep.recorded")
                run.doing = None
            case "task":
                assert run.doing is not None
                run.doing.due = None
                self._attempt(run, run.doing)

    # --- within

    def _attempt(self, run: ModelRun, task: Doing) -> None:
        task.attempt += 1
        match task.outcomes.pop(0) if task.outcomes else "ok":
            case "ok":
                run.history.append("task.completed")
                run.doing = None
            case "fail" if task.attempt < ATTEMPTS:
                run.history.append(("task.attempt_failed", task.attempt))
                task.due = self.after(DELAYS[task.attempt - 1])
            case "fail" | "fatal":
                run.history.append("task.failed")
                run.doing = None

    def _dispatch(self, run: ModelRun, name: str, payload: object) -> None:
        run.dispatched = next(self.numbers)
        run.step = name
        run.payload = payload
        if name in STEP_TIMEOUTS:
            run.phase = "dispatched"
            run.deadline = None
        else:
            run.phase = "blocked"
            run.deadline = self.after(UNKNOWN_TIMEOUT)

    def _end(self, run: ModelRun, kind: str, status: str) -> None:
        run.history.append(kind)
        run.status = status
        run.phase = "ended"
        run.inbox.clear()
        if run.doing is not None and run.doing.what == "task":
            run.history.append("task.cancelled")
        run.doing = None
        waiting = run.awaited_by
        if waiting is not None and waiting.doing is not None and waiting.doing.what == "child" and waiting.active:
            waiting.doing = None
        if run.callback and run.parent is not None:
            self.event(run.parent, "child_done", status)
