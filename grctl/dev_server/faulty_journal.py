"""FaultyJournal: a journal with the defects that sit in what becomes of a run (docs/protocol.md, section 8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from grctl.dev_server.change import Change, Message
from grctl.dev_server.faults import Fault, Faults, What
from grctl.dev_server.journal import Journal, event_message, history_message
from grctl_core.history import HistoryEvent
from grctl_core.outcome import EncodedOutcome, ErrorDetails
from grctl_engine.effects import Effect, Step, raw
from grctl_engine.inputs import Event, Input, Start, StepRaised, StepTaken, StepTimedOut
from grctl_engine.run import Entry, Run, encode_body
from grctl_engine.state import RunState, StateKind
from grctl_nats import subjects

__all__ = ["FaultyJournal"]


class FaultyJournal(Journal):
    """Strikes where its faults say so.

    Attributes:
        feed: how a run gets an input that nobody sent.
    """

    def __init__(
        self,
        write: Callable[[Change], None],
        ended: Callable[[EncodedOutcome], None],
        faults: Faults,
        feed: Callable[[Run, Input], object],
    ) -> None:
        super().__init__(write, ended)
        self._lost: set[str] = set()
        self._faults = faults
        self._feed = feed
        self._stuck: set[Run] = set()
        self._hung: set[Run] = set()
        self._held: dict[Run, Message] = {}
        self._timers: list[asyncio.TimerHandle] = []

    def admit(self, run: Run, state: RunState, input: Input) -> Input | None:
        """Keep from a run what a defect keeps from it."""
        match input:
            case StepTaken():
                if run in self._hung or self._drops_step(run, state):
                    return None
            case Event():
                if self._is_stuck(run, state):
                    self._write_stuck_event(run, input)
                    return None
                self._let_timer_survive(run, state)
            case StepRaised() | StepTimedOut():
                if state.cancel_reason is not None and self._faults.strikes(What.CANCEL_FAILS):
                    state.cancel_reason = None
        return super().admit(run, state, input)

    def transition(self, run: Run, state: RunState, input: Input, effects: list[Effect], first: int) -> None:
        """Write one transition, maybe without what belongs to it."""
        if isinstance(input, Start) and run.info.wf_id in self._lost and self._faults.strikes(What.RESTART_LOST):
            self._hung.add(run)
        super().transition(run, state, input, effects, first)

    def appended(self, run: Run, entry: Entry) -> None:
        """Write an event that a worker appended; before the step.started that is held back."""
        held = self._held.pop(run, None)
        super().appended(run, entry)
        if held is not None:
            self._write(Change([held]))

    def stop(self) -> None:
        """Let no timer fire any more."""
        for timer in self._timers:
            timer.cancel()

    def _write_change(self, run: Run, change: Change) -> None:
        started = next((m for m in change.messages if _is_step_started(m)), None)
        if started is not None and self._faults.strikes(What.STEP_STARTED_MISSING):
            change.messages.remove(started)
        elif started is not None and self._faults.strikes(What.NOT_CAUSAL):
            change.messages.remove(started)
            self._held[run] = started
        elif (held := self._held.pop(run, None)) is not None:
            change.messages.insert(0, held)
        residue = self._faults.has(What.RESTART_LOST)
        if residue is not None:
            self._leave_residue(run, change, residue)
        super()._write_change(run, change)

    def _withdraw(self, task: Message) -> Message:
        return task if self._faults.has(What.RESTART_LOST) else super()._withdraw(task)

    def _leave_residue(self, run: Run, change: Change, fault: Fault) -> None:
        """Let the records of steps stay until some time after the end; a run that begins until then goes with them."""
        change.obsolete = []
        if not any(message.subject.endswith(".info") for message in change.messages) or run.state is not None:
            return
        wf_id, task = run.info.wf_id, subjects.worker_task(run.info.ref)
        self._lost.add(wf_id)

        def purge() -> None:
            self._lost.discard(wf_id)
            self._write(Change([], purge=[task]))

        self._later(fault.seconds, purge)

    def _drops_step(self, run: Run, state: RunState) -> bool:
        step = state.step
        follows = bool(run.history) and run.history[-1].kind == "step.completed"
        if step is None or not follows or not self._faults.strikes(What.STEP_DROPPED):
            return False
        seconds = state.step_timeouts[step.name].total_seconds()
        self._later(seconds, lambda: self._feed(run, StepTimedOut(step.number)))
        return True

    def _is_stuck(self, run: Run, state: RunState) -> bool:
        if run in self._stuck:
            return True
        if state.kind is StateKind.WAIT or not self._faults.strikes(What.EVENT_STUCK):
            return False
        self._stuck.add(run)
        return True

    def _write_stuck_event(self, run: Run, event: Event) -> None:
        body = encode_body({"event_name": event.name, "payload": raw(event.payload)})
        received = HistoryEvent(
            seq=0,
            kind="event.received",
            timestamp=_now(),
            wf_id=run.info.wf_id,
            run_id=run.info.id,
            encoded=body,
        )
        self._write(Change([event_message(run.info.ref, event), history_message(received)]))

    def _let_timer_survive(self, run: Run, state: RunState) -> None:
        wait = state.wait
        if wait is None or wait.timeout is None or not self._faults.strikes(What.WAIT_TIMER_SURVIVES):
            return

        def fire() -> None:
            if run.state is None:
                return
            error = ErrorDetails("UnexpectedFailure", "wait timed out in another state")
            if state.step is None or not state.step.taken:
                state.step = Step("", None, -1, _now(), taken=True)
            self._feed(run, StepRaised(state.step.number, error))

        left = wait.timeout - (_now() - state.entered_at)
        self._later(max(0.0, left.total_seconds()), fire)

    def _later(self, seconds: float, callback: Callable[[], object]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, callback))


def _now() -> datetime:
    return datetime.now(UTC)


def _is_step_started(message: Message) -> bool:
    body = message.body
    return message.subject.startswith("grctl_history.") and isinstance(body, bytes) and b"\xacstep.started" in body
