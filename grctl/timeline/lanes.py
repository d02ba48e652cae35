"""Lanes: which span goes into which row, and where on the row it is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from grctl.timeline.model import Mark, MarkKind, Span, SpanKind, SpanStatus
from grctl.timeline.scale import Scale
from grctl.timeline.timeline import Timeline

__all__ = ["Dot", "Lane", "Placed", "instants", "lanes_of", "latest_lanes", "place_marks", "place_spans", "seconds_of"]

_PARALLEL = 6
"""Rows for what runs at the same time under one name, before the rest shares one."""

_GRAVEST = (
    SpanStatus.FAILED,
    SpanStatus.TIMED_OUT,
    SpanStatus.TERMINATED,
    SpanStatus.CANCELLED,
    SpanStatus.ABANDONED,
    SpanStatus.RUNNING,
    SpanStatus.COMPLETED,
)


@dataclass
class Lane:
    """A row: spans of one name, or marks of one name.

    Attributes:
        kind: what is in it.
        name: of all that is in it.
        depth: 0, or 1 for what happened inside a step.
        spans: in the order of their beginning.
        marks: in the order of time.
        more: how many further rows' worth of parallel spans share this one; 0 for a row of its own.
    """

    kind: SpanKind | MarkKind
    name: str
    depth: int = 0
    spans: list[Span] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    more: int = 0

    @property
    def status(self) -> SpanStatus:
        """The gravest status in it; completed for marks."""
        return gravest(self.spans)


@dataclass(frozen=True)
class Placed:
    """One or more spans as drawn: several where there is no room between them.

    Attributes:
        left: where it begins.
        right: where it ends.
        spans: what it shows, in the order of their beginning.
    """

    left: float
    right: float
    spans: tuple[Span, ...]

    @property
    def status(self) -> SpanStatus:
        """The gravest status in it."""
        return gravest(self.spans)


@dataclass(frozen=True)
class Dot:
    """One or more marks as drawn.

    Attributes:
        place: where its middle is.
        marks: what it shows, in the order of time.
    """

    place: float
    marks: tuple[Mark, ...]


def gravest(spans: Iterable[Span]) -> SpanStatus:
    """Return the status that a reader most needs to see."""
    return min((span.status for span in spans), key=_GRAVEST.index, default=SpanStatus.COMPLETED)


def seconds_of(timeline: Timeline, span: Span) -> tuple[float, float]:
    """Return when a span began and ended, in seconds since the timeline's start; one that goes on ends now."""
    end = span.end or max(timeline.end, span.start)
    return (span.start - timeline.start).total_seconds(), (end - timeline.start).total_seconds()


def instants(timeline: Timeline) -> list[float]:
    """Return all times at which something began, ended or happened, in seconds since the timeline's start."""
    found = [(mark.at - timeline.start).total_seconds() for mark in timeline.marks]
    for span in (timeline.run, *timeline.spans):
        found += seconds_of(timeline, span)
        for attempt in span.attempts:
            for at in (attempt.start, attempt.end):
                if at is not None and at <= timeline.end:
                    found.append((at - timeline.start).total_seconds())
    return found


def lanes_of(timeline: Timeline) -> list[Lane]:
    """Return the rows: the run, then the rest by first appearance, each step followed by what happened inside it."""
    groups: dict[tuple[str | None, SpanKind | MarkKind, str], tuple[list[Span], list[Mark]]] = {}
    for span in timeline.spans:
        name = span.name if span.kind in (SpanKind.STEP, SpanKind.TASK) else ""
        groups.setdefault((span.step, span.kind, name), ([], []))[0].append(span)
    for mark in timeline.marks:
        name = "" if mark.kind is MarkKind.RECORDED else mark.name
        groups.setdefault((mark.step, mark.kind, name), ([], []))[1].append(mark)

    def began(key: tuple[str | None, SpanKind | MarkKind, str]) -> tuple[float, int]:
        spans, marks = groups[key]
        found = [(span.start.timestamp(), span.seq) for span in spans]
        return min(found + [(mark.at.timestamp(), mark.seq) for mark in marks])

    ordered = sorted(groups, key=began)
    steps = {name for _, kind, name in ordered if kind is SpanKind.STEP}
    lanes = [Lane(kind=SpanKind.RUN, name="", spans=[timeline.run])]
    for key in ordered:
        parent, kind, name = key
        if parent is not None and parent in steps:
            continue
        lanes += _rows(kind, name, 0, groups[key])
        if kind is SpanKind.STEP:
            for inner in ordered:
                if inner[0] == name:
                    lanes += _rows(inner[1], inner[2], 1, groups[inner])
    return lanes


def _rows(kind: SpanKind | MarkKind, name: str, depth: int, group: tuple[list[Span], list[Mark]]) -> list[Lane]:
    spans, marks = group
    if marks:
        return [Lane(kind, name, depth, marks=sorted(marks, key=lambda mark: (mark.at, mark.seq)))]
    rows: list[Lane] = []
    rest: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, span.seq)):
        free = next((row for row in rows if _fits(row.spans[-1], span)), None)
        if free is not None:
            free.spans.append(span)
        elif len(rows) < _PARALLEL:
            rows.append(Lane(kind, name, depth, spans=[span]))
        else:
            rest.append(span)
    if rest:
        rows.append(Lane(kind, name, depth, spans=rest, more=len(rest)))
    return rows


def _fits(before: Span, span: Span) -> bool:
    return before.end is not None and before.end <= span.start


def latest_lanes(timeline: Timeline, lanes: Sequence[Lane], most: int | None) -> list[Lane]:
    """Return at most so many lanes: the run's, and of the others those in which something happened last."""
    if most is None or len(lanes) <= most:
        return list(lanes)

    def last(index: int) -> float:
        lane = lanes[index]
        if any(span.is_open for span in lane.spans):
            return math.inf
        ends = [(span.end or timeline.end).timestamp() for span in lane.spans]
        return max(ends + [mark.at.timestamp() for mark in lane.marks])

    kept = sorted(sorted(range(1, len(lanes)), key=last, reverse=True)[: max(1, most) - 1])
    return [lanes[0], *(lanes[index] for index in kept)]


def place_spans(timeline: Timeline, spans: Sequence[Span], scale: Scale, least: float) -> list[Placed]:
    """Return where to draw the spans of a lane: inside the axis, in order, apart from each other.

    Args:
        timeline: what they belong to.
        spans: in the order of their beginning.
        scale: the axis.
        least: how wide a bar is at least. Bars that would run into each other become one.

    """
    placed: list[tuple[float, float, list[Span]]] = []
    for span in spans:
        start, end = seconds_of(timeline, span)
        left, right = _widened(scale, scale.place(start), scale.place(end), least)
        if placed and left < placed[-1][1]:
            begin, until, together = placed[-1]
            together.append(span)
            placed[-1] = begin, max(until, right), together
        else:
            placed.append((left, right, [span]))
    return [Placed(left, right, tuple(together)) for left, right, together in placed]


def _widened(scale: Scale, left: float, right: float, least: float) -> tuple[float, float]:
    if right - left >= least:
        return left, right
    limit = next((cut.left for cut in scale.cuts if right <= cut.left < left + least), scale.width)
    left = max(0.0, min(left, limit - least))
    return left, min(left + least, scale.width)


def place_marks(timeline: Timeline, marks: Sequence[Mark], scale: Scale, room: float) -> list[Dot]:
    """Return where to draw the marks of a lane: those with less than ``room`` between them become one."""
    groups: list[tuple[float, list[Mark]]] = []
    for mark in marks:
        place = scale.place((mark.at - timeline.start).total_seconds())
        if groups and place - groups[-1][0] < room:
            groups[-1][1].append(mark)
        else:
            groups.append((place, [mark]))
    return [Dot(place, tuple(found)) for place, found in groups]
