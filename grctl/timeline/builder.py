"""From a history to spans and marks. No clock and no I/O: the same events give the same timeline.

The history's order is the order of its sequence; its times do not always rise with that (docs/protocol.md, "History"),
and events can be missing, doubled or late. So nothing is looked for by time, an end is never before its start, and an
event that fits nowhere makes what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from grctl.timeline.model import Attempt, Mark, MarkKind, Span, SpanKind, SpanStatus
from grctl.timeline.reading import Body, moment, shifted
from grctl.timeline.units import duration_text
from grctl_core.history import TERMINAL_KINDS, HistoryEvent
from grctl_core.run import RunStatus

__all__ = ["Builder"]

_NOTHING = timedelta(0)


class Builder:
    """Takes a run's events, one after the other."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.marks: list[Mark] = []
        self.run: Span | None = None
        self.status: RunStatus | None = None
        self.latest: datetime | None = None
        self._steps: list[Span] = []  # those that are open
        self._tasks: dict[str, Span] = {}
        self._wait: Span | None = None
        self._guessed: set[int] = set()  # ids of steps known only by what happened in them
        self._idle_since: datetime | None = None  # nothing is on since then
        self._pending: list[str] = []  # events that no step has begun to handle
        self._handlers: dict[str, Callable[[HistoryEvent, Body, datetime], None]] = {
            "run.started": self._run_started,
            "run.cancel_received": self._cancel_received,
            "wait.started": self._wait_started,
            "wait.timed_out": self._wait_timed_out,
            "event.received": self._event_received,
            "step.started": self._step_started,
            "step.completed": self._step_ended,
            "step.failed": self._step_ended,
            "step.cancelled": self._step_ended,
            "step.timeout": self._step_ended,
            "task.started": self._task_started,
            "task.completed": self._task_ended,
            "task.failed": self._task_ended,
            "task.cancelled": self._task_ended,
            "task.attempt_failed": self._attempt_failed,
            "timestamp.recorded": self._recorded,
            "random.recorded": self._recorded,
            "uuid.recorded": self._recorded,
            "sleep.recorded": self._slept,
            "child.started": self._child_started,
            "parent.event_sent": self._event_sent,
        }

    def take(self, events: Iterable[HistoryEvent]) -> None:
        """Take events, in any order."""
        for event in sorted(events, key=lambda event: event.seq):
            at = moment(event.timestamp)
            self.latest = at if self.latest is None else max(self.latest, at)
            body = Body(event)
            if event.kind in TERMINAL_KINDS:
                self._run_ended(event, body, at)
            else:
                self._handlers.get(event.kind, self._unknown)(event, body, at)

    def finish(self, status: RunStatus | None, ended_at: datetime | None) -> None:
        """Settle what is open: with the run's end where there is one, else as going on.

        Args:
            status: what the run's record says, for a history without the run's end.
            ended_at: when the run ended by its record, None while it goes on.

        """
        if self.status is None:
            self.status = status
            if self.run is not None and ended_at is not None and status is not None and status.is_terminal:
                self._close(self.run, ended_at, _SPAN_STATUS.get(status, SpanStatus.COMPLETED))
        if self.run is None or self.run.end is None:
            if self._idle_since is not None and not self._steps and self._wait is None:
                detail = f"events received and not taken up: {', '.join(self._pending)}" if self._pending else ""
                self.spans.append(Span(kind=SpanKind.QUEUE, name="", start=self._idle_since, detail=detail))
            return
        for span in self.spans:
            if span.is_open:
                self._close(span, self.run.end, SpanStatus.ABANDONED)

    # --- the run ---

    def _run_started(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        if self.run is not None:
            self._unknown(event, body, at)
            return
        self.run = Span(kind=SpanKind.RUN, name="", start=at, seq=event.seq)
        self._idle_since = at

    def _run_ended(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        if self.status is not None:
            self._unknown(event, body, at)
            return
        self.status = TERMINAL_KINDS[event.kind]
        if self.run is None:
            start = shifted(at, -(body.milliseconds("duration_ms") or _NOTHING))
            self.run = Span(kind=SpanKind.RUN, name="", start=start, seq=event.seq)
        # A cancel's end has the time at which the cancel came, before the end of the step that it waited for.
        self._close(self.run, max(at, self.latest or at), _SPAN_STATUS[self.status])
        self.run.error = body.error()
        self.run.detail = body.text("reason")
        self._idle_since = None

    def _cancel_received(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        self.marks.append(Mark(kind=MarkKind.CANCEL, name="cancel asked for", at=at, seq=event.seq))

    # --- waits and events ---

    def _wait_started(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        self._end_wait(at, SpanStatus.ABANDONED)
        limit = body.milliseconds("timeout_ms")
        then = body.text("timeout_step_name")
        self._wait = Span(kind=SpanKind.WAIT, name=then, start=at, seq=event.seq)
        if limit:
            self._wait.detail = f"timeout {duration_text(limit)}" + (f", then step {then}" if then else "")
        self.spans.append(self._wait)
        self._idle_since = None

    def _wait_timed_out(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        if self._wait is None:
            self._unknown(event, body, at)
            return
        self._end_wait(at, SpanStatus.TIMED_OUT)
        self._idle_since = at

    def _event_received(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        name = body.text("event_name")
        self.marks.append(Mark(kind=MarkKind.EVENT, name=name, at=at, seq=event.seq))
        self._pending.append(name)
        if self._wait is not None:
            self._end_wait(at, SpanStatus.COMPLETED)
            self._idle_since = at

    def _end_wait(self, at: datetime, status: SpanStatus) -> None:
        if self._wait is not None:
            self._close(self._wait, at, status)
            self._wait = None

    # --- steps ---

    def _step_started(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        name = body.text("step_name")
        self._end_wait(at, SpanStatus.COMPLETED)  # an event that had come before the wait began
        step = self._open_step(name)
        if step is not None and id(step) in self._guessed:
            self._guessed.discard(id(step))
            step.start = min(step.start, at)
        else:
            if step is not None:
                self._end_step(step, at, SpanStatus.ABANDONED)
            step = self._begin_step(name, at, event.seq)
        step.worker_id = body.text("worker_id") or event.worker_id

    def _step_ended(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        name = body.text("step_name")
        step = self._open_step(name)
        if step is None:
            start = shifted(at, -(body.milliseconds("duration_ms") or _NOTHING))
            step = self._begin_step(name, start, event.seq)
        step.error = body.error()
        self._end_step(step, at, _ENDS[event.kind])
        self._idle_since = at

    def _begin_step(self, name: str, at: datetime, seq: int) -> Span:
        step = Span(kind=SpanKind.STEP, name=name, start=at, seq=seq)
        self.spans.append(step)
        self._steps.append(step)
        self._idle_since = None
        if name in self._pending:
            self._pending.remove(name)
        return step

    def _end_step(self, step: Span, at: datetime, status: SpanStatus) -> None:
        self._steps.remove(step)
        self._guessed.discard(id(step))
        self._close(step, at, status)

    def _open_step(self, name: str) -> Span | None:
        return next((step for step in reversed(self._steps) if step.name == name), None)

    def _present_step(self) -> str | None:
        return self._steps[-1].name if self._steps else None

    # --- what happens inside a step ---

    def _task_started(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        key = body.text("task_id") or event.operation_id or ""
        if key in self._tasks:  # taken again, by another worker
            self._end_task(key, at, SpanStatus.ABANDONED)
        self._begin_task(key, event, body, at)

    def _begin_task(self, key: str, event: HistoryEvent, body: Body, at: datetime) -> Span:
        name = body.text("step_name")
        if name and self._open_step(name) is None and self.status is None:
            self._guessed.add(id(self._begin_step(name, at, event.seq)))
        task = Span(
            kind=SpanKind.TASK,
            name=body.text("task_name"),
            start=at,
            step=name or self._present_step(),
            attempts=[Attempt(number=1, start=at)],
            seq=event.seq,
            worker_id=event.worker_id,
        )
        self.spans.append(task)
        self._tasks[key] = task
        return task

    def _known_task(self, event: HistoryEvent, body: Body, at: datetime) -> tuple[str, Span]:
        key = body.text("task_id") or event.operation_id or ""
        task = self._tasks.get(key)
        if task is None:
            start = shifted(at, -(body.milliseconds("duration_ms") or _NOTHING))
            task = self._begin_task(key, event, body, start)
        return key, task

    def _attempt_failed(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        _, task = self._known_task(event, body, at)
        pause = body.milliseconds("next_retry_delay_ms")
        last = task.attempts[-1]
        end = max(at, task.attempts[-2].end or at) if len(task.attempts) > 1 else max(at, last.start)
        number = body.number("attempt") or last.number
        task.attempts[-1] = replace(
            last,
            number=number,
            start=min(last.start, end),
            end=end,
            status=SpanStatus.FAILED,
            error=body.error(),
            of=body.number("max_attempts"),
            retry_after=pause,
        )
        task.attempts.append(Attempt(number=number + 1, start=shifted(end, pause or _NOTHING), of=task.attempts[-1].of))

    def _task_ended(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        key, task = self._known_task(event, body, at)
        task.error = body.error()
        self._end_task(key, at, _ENDS[event.kind])

    def _end_task(self, key: str, at: datetime, status: SpanStatus) -> None:
        self._close(self._tasks.pop(key), at, status)

    def _recorded(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        name = event.kind.partition(".")[0]
        self._mark(MarkKind.RECORDED, name, event, at, body.text("value"))

    def _slept(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        start = shifted(at, -(body.milliseconds("duration_ms") or _NOTHING))
        if self._steps:
            start = min(max(start, self._steps[-1].start), at)
        sleep = Span(kind=SpanKind.SLEEP, name="sleep", start=start, step=self._present_step(), seq=event.seq)
        self._close(sleep, at, SpanStatus.COMPLETED)
        self.spans.append(sleep)

    def _child_started(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        who = f"{body.text('wf_id')} (run {body.text('run_id')})"
        self._mark(MarkKind.CHILD, body.text("wf_type"), event, at, who)

    def _event_sent(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        to = f"to {body.text('parent_wf_type')} {body.text('parent_wf_id')}"
        self._mark(MarkKind.SENT, body.text("event_name"), event, at, to)

    def _unknown(self, event: HistoryEvent, body: Body, at: datetime) -> None:
        self.marks.append(Mark(kind=MarkKind.OTHER, name=event.kind, at=at, seq=event.seq))

    def _mark(self, kind: MarkKind, name: str, event: HistoryEvent, at: datetime, detail: str) -> None:
        step = self._present_step()
        self.marks.append(Mark(kind=kind, name=name, at=at, step=step, detail=detail, seq=event.seq))

    def _close(self, span: Span, at: datetime, status: SpanStatus) -> None:
        span.end = max(span.start, at, *(attempt.end for attempt in span.attempts if attempt.end is not None))
        span.status = status
        if not span.attempts:
            return
        last = span.attempts[-1]
        if last.start >= span.end and len(span.attempts) > 1 and status is not SpanStatus.FAILED:
            span.attempts.pop()  # it ended in the pause before a further attempt
            return
        start = min(last.start, span.end)
        span.attempts[-1] = replace(last, start=start, end=span.end, status=status, error=span.error)


_ENDS = {
    "step.completed": SpanStatus.COMPLETED,
    "step.failed": SpanStatus.FAILED,
    "step.cancelled": SpanStatus.CANCELLED,
    "step.timeout": SpanStatus.TIMED_OUT,
    "task.completed": SpanStatus.COMPLETED,
    "task.failed": SpanStatus.FAILED,
    "task.cancelled": SpanStatus.CANCELLED,
}
_SPAN_STATUS = {
    RunStatus.COMPLETED: SpanStatus.COMPLETED,
    RunStatus.FAILED: SpanStatus.FAILED,
    RunStatus.CANCELLED: SpanStatus.CANCELLED,
    RunStatus.TERMINATED: SpanStatus.TERMINATED,
    RunStatus.TIMED_OUT: SpanStatus.TIMED_OUT,
}
