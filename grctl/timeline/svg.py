"""A timeline as a picture: one SVG that needs nothing else, no script, no font, and reads in light and in dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar
from xml.sax.saxutils import escape

from grctl.safe_text import one_line
from grctl.timeline import words
from grctl.timeline.lanes import Dot, Lane, Placed, instants, lanes_of, latest_lanes, place_marks, place_spans
from grctl.timeline.model import MarkKind, Span, SpanKind, SpanStatus
from grctl.timeline.scale import Scale
from grctl.timeline.svg_shapes import cropped, cross, diamond, element, line, rectangle, text, titled, triangle, wide
from grctl.timeline.svg_style import DEFINITIONS, STYLE
from grctl.timeline.timeline import Timeline
from grctl.timeline.units import duration_text

__all__ = ["render_svg"]

T = TypeVar("T")

WIDTH = 960
_MARGIN = 24
_ROW = 26
_NOTE = 120
_LEAST_BAR = 3.0
_MARK_ROOM = 13.0
_MOST_ROWS = 150
_MOST_TOLD = 12
_MOST_FAILURES = 8


def render_svg(timeline: Timeline) -> str:
    """Draw a timeline as an SVG document, 960 wide and as high as it needs.

    It holds title, axis, a row for each name, legend and what failed; each bar and mark tells more as its tooltip.
    """
    return _Picture(timeline).draw()


class _Picture:
    """One picture, drawn from top to bottom."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        every = lanes_of(timeline)
        self.lanes = latest_lanes(timeline, every, _MOST_ROWS)
        self.left_out = len(every) - len(self.lanes)
        widest = max(wide(words.label_of(lane)) + 16 * lane.depth + 18 for lane in self.lanes)
        self.left = _MARGIN + min(max(widest + 14, 90), 250)
        length = (timeline.end - timeline.start).total_seconds()
        self.scale = Scale(instants(timeline), length, WIDTH - _MARGIN - _NOTE - self.left, (40, 54), 12)
        self.y = 0.0
        self.dots: list[str] = []  # drawn last, so that nothing hides them

    def draw(self) -> str:
        body = [*self._head()]
        top = self.y
        self.y += 30
        rows = [markup for lane in self.lanes for markup in self._row(lane)]
        bottom = self.y
        body += [*self._grid(top + 24, bottom), *rows, *self._cuts(top, bottom), *self.dots]
        if self.left_out:
            body.append(self._line(f"… {self.left_out} more rows are not drawn", "muted"))
        body += [*self._legend(), *self._failures()]
        height = self.y + 16
        title = f"{one_line(self.timeline.run_info.wf_type, 200)} {one_line(self.timeline.run_info.wf_id, 200)}"
        inside = (
            element("title", escape(f"Timeline of {title}: {words.headline(self.timeline)}"))
            + element("style", escape(STYLE))
            + element("defs", DEFINITIONS)
            + rectangle(0.5, 0.5, WIDTH - 1, height - 1, "card", radius=8)
            + "\n".join(body)
        )
        return (
            element(
                "svg",
                inside,
                xmlns="http://www.w3.org/2000/svg",
                width=WIDTH,
                height=height,
                viewBox=f"0 0 {WIDTH} {height:.0f}",
                class_="gt",
                role="img",
            )
            + "\n"
        )

    def _line(self, content: str, style: str = "", x: float = _MARGIN) -> str:
        self.y += 19
        return text(x, self.y, content, style)

    def _head(self) -> Iterator[str]:
        timeline, room = self.timeline, WIDTH - 2 * _MARGIN
        run = timeline.run_info
        status = timeline.run.status.value
        how = words.headline(timeline)
        self.y = 36.0
        yield text(WIDTH - _MARGIN, self.y, how, f"head end {status}")
        name = cropped(f"{one_line(run.wf_type, 200)}  {one_line(run.wf_id, 500)}", room - wide(how, 18) - 24, 18)
        yield text(_MARGIN, self.y, name, "head")
        reason = words.reason_of(timeline)
        if reason:
            yield self._line(cropped(reason, room), status)
        started = f"{timeline.run.start:%Y-%m-%d %H:%M:%S} UTC"
        yield self._line(cropped(f"run {one_line(run.id, 100)}, started {started}", room), "small muted")
        self.y += 14

    def _x(self, place: float) -> float:
        return self.left + place

    # --- rows ---

    def _row(self, lane: Lane) -> Iterator[str]:
        middle = self.y + _ROW / 2
        x = float(_MARGIN + 16 * lane.depth)
        if isinstance(lane.kind, MarkKind):
            yield _glyph(lane.kind, x + 5, middle)
            x += 16
        style = "strong" if lane.kind is SpanKind.RUN else "muted" if lane.depth else ""
        yield titled(
            words.label_of(lane), text(x, middle + 4.5, cropped(words.label_of(lane), self.left - x - 10), style)
        )
        for bar in place_spans(self.timeline, lane.spans, self.scale, _LEAST_BAR):
            told = _told(bar.spans, lambda span: words.tell(self.timeline, span))
            yield titled(told, *self._bar(bar, middle))
        for dot in place_marks(self.timeline, lane.marks, self.scale, _MARK_ROOM):
            told = _told(dot.marks, lambda mark: words.tell_mark(self.timeline, mark))
            self.dots.append(titled(told, *self._dot(dot, middle)))
        note = next(n for n in words.notes_of(self.timeline, lane) if wide(n, 11.5) < _NOTE or n)
        calm = lane.status is SpanStatus.COMPLETED or lane.kind is SpanKind.WAIT
        if note:
            style = f"small end {'muted' if calm else lane.status.value}"
            yield text(WIDTH - _MARGIN, middle + 4, note, style)
        self.y += _ROW

    def _bar(self, bar: Placed, middle: float) -> Iterator[str]:
        left, right = self._x(bar.left), self._x(bar.right)
        status, kind = bar.status.value, bar.spans[0].kind
        if kind is SpanKind.RUN:
            yield rectangle(left, middle - 3, right - left, 6, f"bar {status}")
        elif kind is SpanKind.STEP:
            yield rectangle(left, middle - 8, right - left, 16, f"bar {status}")
        elif kind is SpanKind.WAIT:
            timed = " timed" if bar.status is SpanStatus.TIMED_OUT else ""
            yield rectangle(left, middle - 6, right - left, 12, f"wait{timed}", radius=2)
        elif kind is SpanKind.SLEEP:
            yield line(f"M{left:.1f} {middle:.1f}H{right:.1f}", "sleep")
        elif kind is SpanKind.QUEUE:
            yield rectangle(left, middle - 6, right - left, 12, "queue", radius=2)
        elif len(bar.spans) == 1 and len(bar.spans[0].attempts) > 1:
            yield from self._attempts(bar.spans[0], bar, middle)
        else:
            yield rectangle(left, middle - 5, right - left, 10, f"bar task {status}", radius=2)
        if any(span.is_open for span in bar.spans):
            yield triangle(right + 4, middle, 5, "bar running")

    def _attempts(self, span: Span, bar: Placed, middle: float) -> Iterator[str]:
        yield rectangle(self._x(bar.left), middle - 6, bar.right - bar.left, 12, "clear", radius=0)  # for the tooltip
        crosses, until = [], bar.left
        for attempt in span.attempts:
            if attempt.start > self.timeline.end:
                continue  # it is to begin later
            start = self.scale.place((attempt.start - self.timeline.start).total_seconds())
            end = self.scale.place(((attempt.end or self.timeline.end) - self.timeline.start).total_seconds())
            left = min(max(start, bar.left), bar.right - _LEAST_BAR)
            right = min(max(end, left + _LEAST_BAR), bar.right)
            of = f" of {attempt.of}" if attempt.of else ""
            told = f"{words.label_of_span(span)}, attempt {attempt.number}{of}: {attempt.status.value}"
            if attempt.end is not None:
                told += f" after {duration_text(attempt.end - attempt.start)}"
            if attempt.error is not None:
                told += f"\n{words.why(attempt.error)}"
            if left > until:
                yield line(f"M{self._x(until):.1f} {middle:.1f}H{self._x(left):.1f}", "pause")
            until = right
            style = f"bar task {attempt.status.value}"
            yield titled(told, rectangle(self._x(left), middle - 5, right - left, 10, style, radius=2))
            if attempt.status is SpanStatus.FAILED:
                crosses.append(titled(told, cross(self._x(right), middle, 4)))
        if until < bar.right:
            yield line(f"M{self._x(until):.1f} {middle:.1f}H{self._x(bar.right):.1f}", "pause")
        yield from crosses

    def _dot(self, dot: Dot, middle: float) -> Iterator[str]:
        x, count = self._x(dot.place), len(dot.marks)
        if count == 1:
            yield _glyph(dot.marks[0].kind, x, middle)
            return
        label = str(count) if count < 1000 else "…"
        yield rectangle(x - 4 - 3 * len(label), middle - 7, 8 + 6.0 * len(label), 14, "mark", radius=7)
        yield text(x, middle + 3.5, label, "count")

    # --- axis ---

    def _grid(self, top: float, bottom: float) -> Iterator[str]:
        taken = [self._around((cut.left + cut.right) / 2, duration_text(cut.seconds)) for cut in self.scale.cuts]
        for tick in self.scale.ticks(50 if self.scale.cuts else 78):
            x = self._x(tick.place)
            label = duration_text(tick.seconds) if tick.seconds else "0"
            label = f"+{label}" if tick.since else label
            left, right = self._around(tick.place, label)
            yield line(f"M{x:.1f} {top:.1f}V{bottom:.1f}", "grid")
            if all(right < other_left or other_right < left for other_left, other_right in taken):
                yield text(x, top - 8, label, "small muted mid")
                taken.append((left, right))
        yield line(f"M{self.left:.1f} {top:.1f}H{self._x(self.scale.width):.1f}", "axis")
        if self.timeline.is_running:
            x = self._x(self.scale.width)
            yield line(f"M{x:.1f} {top - 4:.1f}V{bottom:.1f}", "now")
            yield text(x + 6, top - 8, "now", "small running")

    def _cuts(self, top: float, bottom: float) -> Iterator[str]:
        for cut in self.scale.cuts:
            left, right = self._x(cut.left) + 3, self._x(cut.right) - 3
            height = bottom - top - 20
            teeth = int(height // 8)
            edge = "".join(f"l{4 if n % 2 else -4} 8" for n in range(teeth))
            back = "".join(f"l{-4 if n % 2 else 4} -8" for n in reversed(range(teeth)))
            start = bottom - 8 * teeth
            yield titled(
                f"{duration_text(cut.seconds)} in which nothing began or ended are left out",
                line(f"M{left + 2:.1f} {start:.1f}{edge}H{right + 2 - (4 if teeth % 2 else 0):.1f}{back}Z", "tear"),
                line(f"M{left + 2:.1f} {start:.1f}{edge}", "edge"),
                line(f"M{right + 2:.1f} {start:.1f}{edge}", "edge"),
                text((left + right) / 2, top + 16, duration_text(cut.seconds), "small strong mid"),
            )

    def _around(self, place: float, label: str) -> tuple[float, float]:
        half = wide(label, 11.5) / 2 + 4
        return self._x(place) - half, self._x(place) + half

    # --- below ---

    def _legend(self) -> Iterator[str]:
        self.y += 14
        x, y = float(_MARGIN), self.y + 14
        shown = self._shown()
        for name, shape in _LEGEND:
            if name not in shown:
                continue
            room = 28 + wide(name, 11.5) + 22
            if x + room > WIDTH - _MARGIN:
                x, y = float(_MARGIN), y + 20
            yield shape(x, y - 4)
            yield text(x + 28, y, name, "small muted")
            x += room
        self.y = y + 2

    def _shown(self) -> set[str]:
        kinds = {lane.kind for lane in self.lanes}
        shown = {_LEGEND_NAMES[kind] for kind in kinds if kind in _LEGEND_NAMES}
        if any(len(span.attempts) > 1 for span in self.timeline.spans):
            shown |= {"failed attempt", "pause before the next"}
        spans = [span for lane in self.lanes for span in lane.spans if lane.kind is not SpanKind.WAIT]
        shown |= {_STATUS_NAMES[span.status] for span in spans if span.status in _STATUS_NAMES}
        if self.scale.cuts:
            shown.add("time left out; its length is written above it")
        return shown

    def _failures(self) -> Iterator[str]:
        found, pending = words.failures_of(self.timeline), words.pending_of(self.timeline)
        if found or pending:
            self.y += 8
        if pending:
            yield self._line(cropped(pending, WIDTH - 2 * _MARGIN, 11.5), "small timed_out")
        for failure in found[:_MOST_FAILURES]:
            then = f" ({failure.then})" if failure.then else ""
            told = f"{failure.what} at {words.when(self.timeline, failure.at)}: {failure.why}{then}"
            markup = self._line(cropped(told, WIDTH - 2 * _MARGIN - 18, 11.5), "small", _MARGIN + 18)
            yield cross(_MARGIN + 6, self.y - 4, 3.5) + markup
        if len(found) > _MOST_FAILURES:
            yield self._line(f"… {len(found) - _MOST_FAILURES} more failures", "small muted", _MARGIN + 18)


def _told(parts: Sequence[T], tell: Callable[[T], str]) -> str:
    shown = "\n".join(map(tell, parts[:_MOST_TOLD]))
    return shown if len(parts) <= _MOST_TOLD else f"{shown}\n… {len(parts) - _MOST_TOLD} more"


def _glyph(kind: MarkKind, x: float, y: float) -> str:
    if kind is MarkKind.EVENT:
        return diamond(x, y, 6, "mark")
    if kind is MarkKind.CHILD:
        return triangle(x, y, 5.5, "mark")
    if kind is MarkKind.SENT:
        return triangle(x, y, -5.5, "mark")
    if kind is MarkKind.CANCEL:
        return element("circle", cx=x, cy=y, r=5, class_="bar cancelled")
    if kind is MarkKind.RECORDED:
        return element("circle", cx=x, cy=y, r=3, class_="quiet")
    return rectangle(x - 4, y - 4, 8, 8, "quiet", radius=1)


def _swatch(status: SpanStatus) -> Callable[[float, float], str]:
    return lambda x, y: rectangle(x + 4, y - 6, 12, 12, f"bar {status.value}")


_STATUS_NAMES = {
    SpanStatus.FAILED: "failed",
    SpanStatus.TIMED_OUT: "timed out",
    SpanStatus.CANCELLED: "cancelled",
    SpanStatus.TERMINATED: "terminated",
    SpanStatus.ABANDONED: "no end recorded",
    SpanStatus.RUNNING: "goes on",
}
_LEGEND: tuple[tuple[str, Callable[[float, float], str]], ...] = (
    ("step", lambda x, y: rectangle(x, y - 6, 20, 12, "bar completed")),
    ("task", lambda x, y: rectangle(x, y - 5, 20, 10, "bar task completed", radius=2)),
    ("failed attempt", lambda x, y: rectangle(x, y - 5, 16, 10, "bar task failed", radius=2) + cross(x + 16, y, 4)),
    ("pause before the next", lambda x, y: line(f"M{x} {y}h20", "pause")),
    ("wait", lambda x, y: rectangle(x, y - 6, 20, 12, "wait", radius=2)),
    ("sleep", lambda x, y: line(f"M{x} {y}h20", "sleep")),
    ("no worker yet", lambda x, y: rectangle(x, y - 6, 20, 12, "queue", radius=2)),
    ("event received", lambda x, y: _glyph(MarkKind.EVENT, x + 10, y)),
    ("child started", lambda x, y: _glyph(MarkKind.CHILD, x + 10, y)),
    ("event sent to the parent", lambda x, y: _glyph(MarkKind.SENT, x + 10, y)),
    ("cancel asked for", lambda x, y: _glyph(MarkKind.CANCEL, x + 10, y)),
    ("recorded value", lambda x, y: _glyph(MarkKind.RECORDED, x + 10, y)),
    ("other", lambda x, y: _glyph(MarkKind.OTHER, x + 10, y)),
    *((name, _swatch(status)) for status, name in _STATUS_NAMES.items()),
    (
        "time left out; its length is written above it",
        lambda x, y: line(f"M{x + 5} {y - 8}l-3 4l3 4l-3 4l3 4M{x + 15} {y - 8}l-3 4l3 4l-3 4l3 4", "edge"),
    ),
)
_LEGEND_NAMES: dict[SpanKind | MarkKind, str] = {
    SpanKind.STEP: "step",
    SpanKind.TASK: "task",
    SpanKind.WAIT: "wait",
    SpanKind.SLEEP: "sleep",
    SpanKind.QUEUE: "no worker yet",
    MarkKind.EVENT: "event received",
    MarkKind.CHILD: "child started",
    MarkKind.SENT: "event sent to the parent",
    MarkKind.CANCEL: "cancel asked for",
    MarkKind.RECORDED: "recorded value",
    MarkKind.OTHER: "other",
}
