"""What text and picture say alike: names of rows, how a run ended, what failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from grctl.safe_text import one_line
from grctl.timeline.lanes import Lane
from grctl.timeline.model import Mark, MarkKind, Span, SpanKind, SpanStatus
from grctl.timeline.reading import shifted
from grctl.timeline.timeline import Timeline
from grctl.timeline.units import duration_text
from grctl_core.outcome import ErrorDetails

__all__ = [
    "TIMES",
    "Failure",
    "failures_of",
    "headline",
    "label_of",
    "label_of_span",
    "notes_of",
    "pending_of",
    "reason_of",
    "spent",
    "tell",
    "tell_mark",
    "when",
    "why",
]

TIMES = "\N{MULTIPLICATION SIGN}"

_LONG = 3_600.0
"""Seconds after which a time since the start tells a reader less than the clock."""

_NAMES: dict[SpanKind | MarkKind, str] = {
    SpanKind.RUN: "run",
    SpanKind.WAIT: "waiting",
    SpanKind.SLEEP: "sleep",
    SpanKind.QUEUE: "no worker yet",
    MarkKind.RECORDED: "recorded values",
}


@dataclass(frozen=True)
class Failure:
    """Something that failed.

    Attributes:
        what: such as ``charge, attempt 1 of 3``, safe to print.
        at: seconds since the timeline's start.
        why: the error, safe to print.
        then: what followed, such as ``again after 50 ms``; empty where nothing is said.
    """

    what: str
    at: float
    why: str
    then: str = ""


def label_of(lane: Lane) -> str:
    """Return the name of a row, safe to print."""
    name = _NAMES.get(lane.kind) or one_line(lane.name, 200) or "(no name)"
    return f"{name} (+{lane.more})" if lane.more else name


def label_of_span(span: Span) -> str:
    """Return the name of a span, safe to print."""
    return _NAMES.get(span.kind) or one_line(span.name, 200) or "(no name)"


def spent(timeline: Timeline, lane: Lane) -> float:
    """Return the seconds that the spans of a row took together."""
    return sum(((span.end or max(timeline.end, span.start)) - span.start).total_seconds() for span in lane.spans)


def notes_of(timeline: Timeline, lane: Lane) -> list[str]:
    """Return what can stand at the end of a row, how often and how long together: the longest and best one first."""
    if not lane.spans:
        return [f"{len(lane.marks)}{TIMES}" if len(lane.marks) > 1 else ""]
    took = duration_text(spent(timeline, lane))
    short = " ".join(took.split()[:2])
    count = len(lane.spans)
    return [took, short] if count == 1 else [f"{count}{TIMES} {took}", f"{count}{TIMES} {short}", short]


def headline(timeline: Timeline) -> str:
    """Return where the run stands, such as ``failed after 3 s``, safe to print."""
    status = timeline.run.status
    took = duration_text(timeline.duration)
    if status is SpanStatus.RUNNING:
        told = timeline.status or "running"
        return f"{one_line(str(told))} for {took}"
    how = one_line(str(timeline.status or status)).replace("_", " ")
    return f"{how} in {took}" if status is SpanStatus.COMPLETED else f"{how} after {took}"


def reason_of(timeline: Timeline, limit: int = 300) -> str:
    """Return why the run ended so, safe to print; empty where nothing is said."""
    if timeline.run.error is not None:
        return why(timeline.run.error, limit)
    return one_line(timeline.run.detail, limit)


def when(timeline: Timeline, seconds: float) -> str:
    """Return a time for a person: since the start where that is not long, else by the clock, in UTC."""
    if seconds < _LONG:
        return duration_text(seconds)
    at = shifted(timeline.start, timedelta(seconds=seconds))
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}"


def why(error: ErrorDetails | None, limit: int = 300) -> str:
    """Return an error in one line, safe to print."""
    if error is None:
        return "no cause is recorded"
    return one_line(f"{error.type}: {error.message}" if error.message else error.type, limit)


def pending_of(timeline: Timeline) -> str:
    """Return which events came and were not taken up, safe to print; empty where there is none."""
    return next((one_line(span.detail, 300) for span in timeline.spans if span.kind is SpanKind.QUEUE), "")


def failures_of(timeline: Timeline) -> list[Failure]:
    """Return what failed in the run, in the order of the history; not what the run's own end says already."""
    return sorted(_failures(timeline), key=lambda failure: failure.at)


def tell(timeline: Timeline, span: Span) -> str:
    """Return all there is to say about a span, in lines, safe to print."""
    start = (span.start - timeline.start).total_seconds()
    what = f"{span.kind} {one_line(span.name, 200)}".strip() if span.kind is not SpanKind.WAIT else "wait"
    if span.kind is SpanKind.QUEUE:
        what = "no worker has taken the next step yet"
    if span.end is None:
        lines = [what, f"since {when(timeline, start)}, for {duration_text(timeline.end - span.start)}"]
    else:
        end = (span.end - timeline.start).total_seconds()
        lines = [
            f"{what}: {span.status.replace('_', ' ')}",
            f"{duration_text(end - start)}, from {when(timeline, start)} to {when(timeline, end)}",
        ]
    if span.detail:
        lines.append(one_line(span.detail, 300))
    if span.error is not None:
        lines.append(why(span.error))
    if span.worker_id:
        lines.append(f"worker {one_line(span.worker_id, 100)}")
    return "\n".join(lines)


def tell_mark(timeline: Timeline, mark: Mark) -> str:
    """Return all there is to say about a mark, in one line, safe to print."""
    what = {MarkKind.EVENT: "event ", MarkKind.CHILD: "child ", MarkKind.SENT: "event sent "}.get(mark.kind, "")
    at = when(timeline, (mark.at - timeline.start).total_seconds())
    detail = f" {one_line(mark.detail, 200)}" if mark.detail else ""
    return f"{what}{one_line(mark.name, 200)}{detail} at {at}"


def _failures(timeline: Timeline) -> Iterator[Failure]:
    said = timeline.run.error
    for span in timeline.spans:
        if span.kind is SpanKind.TASK:
            yield from _of_task(timeline, span)
        elif span.status is SpanStatus.FAILED and not _same(span.error, said):
            yield Failure(f"step {one_line(span.name, 80)}", _at(timeline, span), why(span.error))


def _of_task(timeline: Timeline, span: Span) -> Iterator[Failure]:
    for attempt in span.attempts:
        if attempt.status is not SpanStatus.FAILED:
            continue
        last = attempt is span.attempts[-1]
        of = f" of {attempt.of}" if attempt.of else ""
        which = f", attempt {attempt.number}{of}" if len(span.attempts) > 1 else ""
        then = f"again after {duration_text(attempt.retry_after)}" if attempt.retry_after is not None else ""
        at = ((attempt.end or attempt.start) - timeline.start).total_seconds()
        yield Failure(f"{one_line(span.name, 80)}{which}", at, why(attempt.error), then if not last else "gave up")


def _at(timeline: Timeline, span: Span) -> float:
    return ((span.end or span.start) - timeline.start).total_seconds()


def _same(one: ErrorDetails | None, other: ErrorDetails | None) -> bool:
    return one is not None and other is not None and (one.type, one.message) == (other.type, other.message)
