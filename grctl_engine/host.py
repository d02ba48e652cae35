"""RunHost: keeps runs going. It feeds the state machine, and does what comes out of it."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import socket
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from grctl_core.commands import Reply
from grctl_core.errors import InvalidInputError
from grctl_core.history import HistoryEvent
from grctl_core.outcome import EncodedOutcome
from grctl_core.run import RunInfo, RunStatus
from grctl_core.workflow_type import TypeInfo
from grctl_engine import replies
from grctl_engine.children import encode_outcome
from grctl_engine.clock import Clock
from grctl_engine.definition import Definition
from grctl_engine.effects import (
    Abandon,
    Begin,
    ClearTimer,
    Dispatch,
    End,
    Record,
    SetTimer,
    StoreUpdates,
    TimerName,
)
from grctl_engine.executor import Executor, StepExecution
from grctl_engine.inputs import Event, Input, RunTimedOut, Start, StepRaised, StepReturned, StepTimedOut, WaitTimedOut
from grctl_engine.journal import Journal
from grctl_engine.limits import EngineLimits
from grctl_engine.machine import DEFAULT_WAIT_TIMEOUT, UNKNOWN_STEP_TIMEOUT, transition
from grctl_engine.query import QueryDesk
from grctl_engine.run import NIL, Entry, Run, encode_body
from grctl_engine.run_table import RunTable
from grctl_engine.state import RunState
from grctl_engine.step import perform

__all__ = ["RunHost"]


class RunHost:
    """Carries out what the state machine of each run decides.

    Attributes:
        clock: the engine's time.
        limits: how much it holds.
        definitions: the workflow types by name.
        executor: runs the steps.
        worker_id: names the executor in histories.
        queries: answers queries.
        changes: rises with everything that happens to runs.
        journal: is told of it.
        enforce_timeouts: whether runs end when their workflow timeout is over.
    """

    def __init__(
        self,
        clock: Clock,
        limits: EngineLimits,
        runs: RunTable,
        definitions: Mapping[str, Definition],
        *,
        journal: Journal | None = None,
        enforce_timeouts: bool = True,
    ) -> None:
        self.clock = clock
        self.limits = limits
        self.definitions = dict(definitions)
        self.executor = Executor(limits.running_steps, functools.partial(perform, self))
        self.worker_id = f"w_{os.urandom(4).hex()}@{socket.gethostname() or 'localhost'}"
        self.changes = 0
        self.queries = QueryDesk(self)
        self.journal = journal
        self.enforce_timeouts = enforce_timeouts
        self._runs = runs
        self._numbers = itertools.count(1)
        self._followed: list[Callable[[], None]] | None = None
        self._appliers: dict[type, Callable[[Run, Any, datetime], None]] = {
            Record: self._append,
            Begin: self._begin,
            StoreUpdates: self._update_store,
            Dispatch: self._dispatch,
            Abandon: self._abandon,
            SetTimer: self._set_timer,
            ClearTimer: self._clear_timer,
            End: self._end,
        }

    def register(self, definitions: Mapping[str, Definition]) -> None:
        """Add workflow types.

        Raises:
            InvalidInputError: one is there already; none is added.

        """
        if known := self.definitions.keys() & definitions.keys():
            raise InvalidInputError(f"registered already: workflow type {', '.join(map(repr, sorted(known)))}")
        self.definitions.update(definitions)

    @property
    def activity(self) -> int:
        """Rises with everything that happens."""
        return self.changes + self.queries.activity

    @property
    def busy(self) -> bool:
        """Whether a step is running that does not just sleep on the clock."""
        return self.executor.busy

    def accept(self, info: RunInfo, input: bytes | None) -> Reply:
        """Begin a run, or say why not."""
        definition = self.definitions.get(info.wf_type)
        if definition is None:
            return replies.TYPE_NOT_REGISTERED
        latest = self._runs.latest(info.wf_id)
        if latest is not None and latest.state is not None:
            return replies.already_running(latest.info.id)
        if self._runs.find(info.wf_id, info.id) is not None:
            return replies.FINISHED  # grctld overwrites its record here (docs/protocol.md, section 8, 1)
        if self._runs.active >= self.limits.active_runs:
            return replies.too_many_runs(self.limits.active_runs)
        self._start(definition, info, input)
        return replies.ACCEPTED

    def find(self, wf_id: str | None, run_id: str | None) -> Run | None:
        """Return exactly this run."""
        return None if wf_id is None or run_id is None else self._runs.find(wf_id, run_id)

    def find_latest(self, wf_id: str) -> Run | None:
        """Return the run of this workflow id that was started last."""
        return self._runs.latest(wf_id)

    def find_type(self, workflow_type: str) -> TypeInfo | None:
        """Return what is registered for a workflow type."""
        definition = self.definitions.get(workflow_type)
        return None if definition is None else definition.info

    def _start(self, definition: Definition, info: RunInfo, input: bytes | None) -> None:
        now = self.clock.now()
        state = RunState(
            accepted_at=now,
            entered_at=now,
            timeout=info.timeout if self.enforce_timeouts else None,
            step_timeouts=definition.step_timeouts,
        )
        # What only a server knows is not for the client to say.
        own = replace(info, status=RunStatus.RUNNING, worker_name=None, started_at=None, completed_at=None)
        run = Run(own, definition, [], state)
        self._runs.add(run)
        self.feed(run, Start(input))

    def resume(self, run: Run, state: RunState) -> None:
        """Go on with a run that another engine began. A step that was under way is run again."""
        now = self.clock.now()
        self._runs.add(run)
        step, wait = state.step, state.wait
        if step is not None and step.name in state.step_timeouts:
            run.cut_off_since = step.since if step.taken else None
            step.taken = False
            self._dispatch(run, Dispatch(step), now)
        elif step is not None:
            self._set_timer(
                run, SetTimer(TimerName.STEP, _left(UNKNOWN_STEP_TIMEOUT, step.since, now), step.number), now
            )
        elif wait is not None:
            left = _left(wait.timeout or DEFAULT_WAIT_TIMEOUT, state.entered_at, now)
            self._set_timer(run, SetTimer(TimerName.WAIT, left, wait.id), now)
        if state.timeout is not None:
            self._set_timer(run, SetTimer(TimerName.RUN, _left(state.timeout, state.accepted_at, now)), now)

    def take_over(self, run: Run, event: HistoryEvent) -> None:
        """Put an event into a run's history that another engine wrote."""
        run.history.append(
            Entry(next(self._numbers), event.kind, event.timestamp, event.encoded, event.worker_id, event.operation_id)
        )

    def feed(self, run: Run, input: Input) -> bool:
        """Bring a run on by one input; whether that had any effect."""
        if isinstance(input, StepReturned | StepRaised):
            _let_go_of_step(run, input.number)
        state = run.state
        if state is None:
            return False
        journal = self.journal
        if journal is not None:
            admitted = journal.admit(run, state, input)
            if admitted is None:
                return False
            input = admitted  # noqa: A001 - the parameter's name
        first = len(run.history)
        now = self.clock.now()
        effects = transition(state, input, now)
        self.changes += 1
        if journal is None:
            for effect in effects:
                self._appliers[type(effect)](run, effect, now)
            return bool(effects)
        # What an effect feeds to another run comes after what it follows from.
        outer, self._followed = self._followed, []
        try:
            for effect in effects:
                self._appliers[type(effect)](run, effect, now)
        finally:
            followed, self._followed = self._followed, outer
        if effects:
            entries = run.history[first:]
            followed.insert(0, functools.partial(journal.transition, run, state, input, effects, entries))
        if outer is not None:
            outer += followed
        elif followed:
            with journal.together():
                for tell in followed:
                    tell()
        return bool(effects)

    def record(
        self, run: Run, kind: str, body: dict[str, Any], *, worker: bool = False, operation_id: str | None = None
    ) -> None:
        """Append to a run's history, also to that of a run that has ended."""
        worker_id = self.worker_id if worker else ""
        entry = Entry(next(self._numbers), kind, self.clock.now(), encode_body(body), worker_id, operation_id)
        run.history.append(entry)
        self.changes += 1
        if run.followers:
            run.wake_followers()
        if self.journal is not None:
            self.journal.appended(run, entry)

    async def close(self, grace: float, closer: asyncio.Task[Any] | None) -> None:
        """Let running steps end, for ``grace`` seconds; then clear what is left of all runs."""
        await self.queries.close()
        await self.executor.close(grace, wait_for_sleepers=self.clock.moves_by_itself, closer=closer)
        for run in self._runs.all():
            _clear_timers(run)

    def _append(self, run: Run, effect: Record, now: datetime) -> None:
        entry = Entry(next(self._numbers), effect.kind, now, encode_body(effect.body), effect.worker_id)
        run.history.append(entry)
        if run.followers:
            run.wake_followers()

    def _begin(self, run: Run, effect: Begin, now: datetime) -> None:
        run.info = replace(run.info, started_at=now, worker_name=effect.worker_id)

    def _update_store(self, run: Run, effect: StoreUpdates, _: datetime) -> None:
        if run.store is None:
            run.store = {}
        run.store.update(effect.updates)

    def _dispatch(self, run: Run, effect: Dispatch, _: datetime) -> None:
        run.step = StepExecution(run, effect.step)
        self.executor.submit(run.step)

    def _abandon(self, run: Run, _: Abandon, __: datetime) -> None:
        if run.step is not None:  # the step of an unknown event nobody has
            self.executor.abandon(run.step)
            run.step = None

    def _set_timer(self, run: Run, effect: SetTimer, _: datetime) -> None:
        seconds = effect.delay.total_seconds()
        match effect.timer:
            case TimerName.STEP:
                step = functools.partial(self.feed, run, StepTimedOut(int(effect.subject)))
                run.step_timer = self.clock.call_later(seconds, step)
            case TimerName.WAIT:
                wait = functools.partial(self.feed, run, WaitTimedOut(str(effect.subject)))
                run.wait_timer = self.clock.call_later(seconds, wait)
            case TimerName.RUN:
                run.run_timer = self.clock.call_later(seconds, functools.partial(self.feed, run, RunTimedOut()))

    def _clear_timer(self, run: Run, effect: ClearTimer, _: datetime) -> None:
        if effect.timer is TimerName.STEP:
            timer, run.step_timer = run.step_timer, None
        else:
            timer, run.wait_timer = run.wait_timer, None
        if timer is not None:
            timer.cancel()

    def _end(self, run: Run, effect: End, now: datetime) -> None:
        _clear_timers(run)
        run.state = None
        run.step = None
        run.ending = run.history[-1]
        if not run.definition.queries:
            run.store = None
        run.info = replace(run.info, status=effect.status, completed_at=now, history_seq_id=run.ending.seq)
        if run.watchers:
            # Built from the effect, as the history would have to be decoded.
            result = None if effect.result == NIL else effect.result
            run.settle_watchers(EncodedOutcome(run=run.info, result=result, error=effect.error, reason=effect.reason))
        self._runs.finish(run)
        if run.info.parent_callback_step is not None:
            self._call_parent(run.info, effect)

    def _call_parent(self, child: RunInfo, end: End) -> None:
        """Let the parent's step have the outcome, also where its inbox is full. A parent that has ended gets none."""
        parent = self.find(child.parent_wf_id, child.parent_run_id)
        if parent is not None and child.parent_callback_step is not None:
            self.feed(parent, Event(child.parent_callback_step, encode_outcome(end)))


def _let_go_of_step(run: Run, number: int) -> None:
    run.cut_off_since = None
    if run.step is not None and run.step.step.number == number:
        run.step = None  # nothing of it is left to be abandoned


def _left(delay: timedelta, since: datetime, now: datetime) -> timedelta:
    return max(timedelta(0), delay - (now - since))


def _clear_timers(run: Run) -> None:
    for timer in (run.step_timer, run.wait_timer, run.run_timer):
        if timer is not None:
            timer.cancel()
    run.step_timer = run.wait_timer = run.run_timer = None
