"""A timeline for the terminal, drawn with rich to the width that there is."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from grctl.safe_text import one_line
from grctl.timeline import words
from grctl.timeline.lanes import Lane, Placed, instants, lanes_of, latest_lanes, place_marks, place_spans
from grctl.timeline.model import Attempt, MarkKind, Span, SpanKind, SpanStatus
from grctl.timeline.scale import Scale
from grctl.timeline.timeline import Timeline
from grctl.timeline.units import duration_text

__all__ = ["STATUS_STYLES", "TimelineView", "render_text"]

STATUS_STYLES = {
    SpanStatus.RUNNING: "cyan",
    SpanStatus.COMPLETED: "green",
    SpanStatus.FAILED: "red",
    SpanStatus.TIMED_OUT: "yellow",
    SpanStatus.CANCELLED: "blue",
    SpanStatus.TERMINATED: "magenta",
    SpanStatus.ABANDONED: "bright_black",
}
"""Colours, the same as everywhere on the command line."""

_SIGNS = {
    SpanStatus.FAILED: "✗ ",
    SpanStatus.TIMED_OUT: "✗ ",
    SpanStatus.CANCELLED: "⊘ ",
    SpanStatus.TERMINATED: "⊘ ",
    SpanStatus.ABANDONED: "~ ",
    SpanStatus.RUNNING: "▸ ",
}
_FILLS = {
    SpanKind.RUN: "━",
    SpanKind.STEP: "█",
    SpanKind.TASK: "▄",
    SpanKind.WAIT: "░",
    SpanKind.SLEEP: "┄",
    SpanKind.QUEUE: "┈",
}
_GLYPHS = {
    MarkKind.EVENT: "◆",
    MarkKind.CHILD: "▶",
    MarkKind.SENT: "◀",
    MarkKind.CANCEL: "⊘",
    MarkKind.RECORDED: "•",
    MarkKind.OTHER: "?",
}
_LEGEND: tuple[tuple[SpanKind | MarkKind, str], ...] = (
    (SpanKind.STEP, "step"),
    (SpanKind.TASK, "task"),
    (SpanKind.WAIT, "wait"),
    (SpanKind.SLEEP, "sleep"),
    (SpanKind.QUEUE, "no worker yet"),
    (MarkKind.EVENT, "event"),
    (MarkKind.CHILD, "child started"),
    (MarkKind.SENT, "sent to parent"),
    (MarkKind.CANCEL, "cancel"),
    (MarkKind.RECORDED, "recorded value"),
    (MarkKind.OTHER, "other"),
)
_PAUSE = "·"
_CUT = "\N{BOX DRAWINGS LIGHT DIAGONAL UPPER RIGHT TO LOWER LEFT}"
_ASCII = str.maketrans(f"━█▄░┄┈◆▶◀⊘•·✗▸─┼├…µ{_CUT}{words.TIMES}", "=##:--*><o..x>-++.u/x")
_MOST_FAILURES = 10
_LEAST_BARS = 8
LEAST_WIDTH = 20
"""Columns below which nothing can be drawn; a narrower terminal gets lines that wrap."""


class TimelineView:
    """A timeline as a rich renderable, as wide as where it is shown. Its text holds no markup and no escapes.

    Args:
        timeline: what to draw.
        max_rows: how many rows of bars at most; those with the latest activity stay. None for all.

    """

    def __init__(self, timeline: Timeline, max_rows: int | None = None) -> None:
        self.timeline = timeline
        self.max_rows = max_rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw, in the characters that the console's encoding has."""
        width = max(LEAST_WIDTH, options.max_width)
        for line in _Drawing(self.timeline, width, self.max_rows).lines():
            if options.ascii_only:
                line.plain = line.plain.translate(_ASCII).encode("ascii", "replace").decode()
            yield line


def render_text(timeline: Timeline, *, width: int = 80, color: bool = False, max_rows: int | None = None) -> str:
    """Draw a timeline as text, lines with a newline at their ends.

    Args:
        timeline: what to draw.
        width: columns, 20 or more.
        color: whether to colour it with terminal escapes.
        max_rows: how many rows of bars at most; those with the latest activity stay. None for all.

    """
    output = io.StringIO()
    console = Console(
        file=output,
        width=max(LEAST_WIDTH, width),
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        legacy_windows=False,
        _environ={},
    )
    console.print(TimelineView(timeline, max_rows), soft_wrap=False)
    lines = output.getvalue().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


class _Drawing:
    """One drawing, for one width."""

    def __init__(self, timeline: Timeline, width: int, max_rows: int | None) -> None:
        self.timeline = timeline
        self.width = width
        every = lanes_of(timeline)
        lanes = latest_lanes(timeline, every, max_rows)
        self.left_out = len(every) - len(lanes)
        self.lanes = lanes
        self.labels = [self._label(lane) for lane in lanes]
        self.note_width = max(8, width // 6)
        self.notes = [self._note(lane) for lane in lanes]
        self.note_width = max(map(cell_len, self.notes))
        room = width - self.note_width - 2
        self.label_width = max(4, min(max(map(cell_len, self.labels)), int(width * 0.3), room - _LEAST_BARS))
        self.bars = max(4, room - self.label_width)
        length = (timeline.end - timeline.start).total_seconds()
        self.scale = Scale(instants(timeline), length, self.bars, (5, 9), 2)

    def _label(self, lane: Lane) -> str:
        glyph = _GLYPHS.get(lane.kind) if isinstance(lane.kind, MarkKind) else None
        return "  " * lane.depth + (f"{glyph} " if glyph else "") + words.label_of(lane)

    def _note(self, lane: Lane) -> str:
        notes = [_sign(lane) + note for note in words.notes_of(self.timeline, lane)]
        return next((note for note in notes if cell_len(note) <= self.note_width), notes[-1][: self.note_width])

    def lines(self) -> Iterator[Text]:
        yield from self._head()
        yield Text()
        yield from self._axis()
        for lane, label, note in zip(self.lanes, self.labels, self.notes, strict=True):
            yield self._row(lane, label, note)
        if self.left_out:
            yield Text(f"… {self.left_out} more rows", "dim")
        yield Text()
        yield from self._legend()
        yield from self._failures()

    def _head(self) -> Iterator[Text]:
        run = self.timeline.run_info
        name = Text.assemble((one_line(run.wf_type, 200), "bold"), f" {one_line(run.wf_id, 500)}")
        how = Text(words.headline(self.timeline), f"bold {STATUS_STYLES[self.timeline.run.status]}")
        yield from self._together(name, how, "  ")
        reason = words.reason_of(self.timeline)
        if reason:
            yield Text(reason, STATUS_STYLES[self.timeline.run.status], overflow="fold")
        started = f"{self.timeline.run.start:%Y-%m-%d %H:%M:%S} UTC"
        yield from self._together(Text(f"run {one_line(run.id, 100)}", "dim"), Text(f"started {started}", "dim"), ", ")

    def _together(self, one: Text, other: Text, between: str) -> Iterator[Text]:
        """Yield two texts in one line, or in one each where that is too long."""
        if one.cell_len + len(between) + other.cell_len <= self.width:
            yield one.append(between).append_text(other)
            return
        for part in (one, other):
            part.overflow = "fold"
            yield part

    def _axis(self) -> Iterator[Text]:
        labels = [" "] * self.bars
        ruler = ["─"] * self.bars
        free_from = 0
        for tick in self.scale.ticks(10 if self.bars >= 40 else 8):
            cell = min(_cell(tick.place), self.bars - 1)
            text = duration_text(tick.seconds) if tick.seconds else "0"
            text = f"+{text}" if tick.since else text
            ruler[cell] = "┼" if cell else "├"
            begin = min(cell, self.bars - len(text))
            if free_from <= begin:
                labels[begin : begin + len(text)] = text
                free_from = begin + len(text) + 1
        for cut in self.scale.cuts:
            left, right = _cell(cut.left), min(_cell(cut.right), self.bars)
            ruler[left:right] = _cut_label(cut.seconds, right - left)
        margin = " " * (self.label_width + 1)
        yield Text(margin + "".join(labels).rstrip(), "dim", no_wrap=True)
        yield Text(margin + "".join(ruler), "dim", no_wrap=True)

    def _row(self, lane: Lane, label: str, note: str) -> Text:
        status = STATUS_STYLES[lane.status]
        row = Text(no_wrap=True, overflow="crop")
        row.append(_cropped(label, self.label_width) + " ", "bold" if lane.kind is SpanKind.RUN else "")
        cells = [(" ", "")] * self.bars
        for bar in place_spans(self.timeline, lane.spans, self.scale, 1):
            self._draw(cells, bar)
        for dot in place_marks(self.timeline, lane.marks, self.scale, 1):
            count = len(dot.marks)
            glyph = _GLYPHS[dot.marks[0].kind] if count == 1 else str(count) if count < 10 else "+"
            cells[min(_cell(dot.place), self.bars - 1)] = (glyph, "dim" if lane.kind is MarkKind.RECORDED else "bold")
        for character, style in cells:
            row.append(character, style)
        row.append(f" {note}", "dim" if lane.status in _CALM else status)
        return row

    def _draw(self, cells: list[tuple[str, str]], bar: Placed) -> None:
        left, right = _cell(bar.left), _cell(bar.right)
        first = bar.spans[0]
        style = STATUS_STYLES[bar.status]
        if bar.status is SpanStatus.COMPLETED and first.kind in (SpanKind.WAIT, SpanKind.SLEEP):
            style = "dim"
        fill = _FILLS[first.kind]
        cells[left:right] = [(fill, style)] * (right - left)
        if len(bar.spans) == 1 and len(first.attempts) > 1:
            self._draw_attempts(cells, first, left, right)
        for cut in self.scale.cuts:
            begin, end = max(left, _cell(cut.left)), min(right, _cell(cut.right))
            cells[begin:end] = [(_CUT, style)] * max(0, end - begin)
        if any(span.is_open for span in bar.spans):
            cells[right - 1] = ("▸", style)

    def _draw_attempts(self, cells: list[tuple[str, str]], span: Span, left: int, right: int) -> None:
        cells[left:right] = [(_PAUSE, "dim")] * (right - left)
        for attempt in span.attempts:
            begin, end = self._cells_of(attempt)
            begin, end = max(left, min(begin, right - 1)), min(right, end)
            if begin >= end:
                continue
            style = STATUS_STYLES[attempt.status]
            cells[begin:end] = [(_FILLS[SpanKind.TASK], style)] * (end - begin)
            if attempt.status is SpanStatus.FAILED:
                cells[end - 1] = ("✗", style)

    def _cells_of(self, attempt: Attempt) -> tuple[int, int]:
        start = self.scale.place((attempt.start - self.timeline.start).total_seconds())
        if attempt.end is None and attempt.start > self.timeline.end:
            return 0, 0  # it is to begin later
        end = self.scale.place(((attempt.end or self.timeline.end) - self.timeline.start).total_seconds())
        return _cell(start), max(_cell(end), _cell(start) + 1)

    def _legend(self) -> Iterator[Text]:
        kinds = {lane.kind for lane in self.lanes}
        parts = [
            f"{_FILLS[kind] if isinstance(kind, SpanKind) else _GLYPHS[kind]} {name}"
            for kind, name in _LEGEND
            if kind in kinds
        ]
        if any(len(span.attempts) > 1 for span in self.timeline.spans):
            parts += ["✗ failed attempt", f"{_PAUSE} pause before the next"]
        if self.timeline.is_running:
            parts.append("▸ goes on")
        if self.scale.cuts:
            parts += [f"{_CUT} time left out", f"one column: {duration_text(self.scale.seconds_per_place)}"]
        line = ""
        for part in parts:  # a sign and its meaning stay in one line
            if line and cell_len(line) + 3 + cell_len(part) > self.width:
                yield Text(line, "dim")
                line = ""
            line += f"   {part}" if line else part
        yield Text(line, "dim")

    def _failures(self) -> Iterator[Text]:
        pending = words.pending_of(self.timeline)
        if pending:
            yield Text(f"▸ {pending}", "yellow", overflow="fold")
        found = words.failures_of(self.timeline)
        for failure in found[:_MOST_FAILURES]:
            line = Text(overflow="fold")
            line.append("✗ ", "red")
            line.append(f"{failure.what} at {words.when(self.timeline, failure.at)}: {failure.why}")
            if failure.then:
                line.append(f" ({failure.then})", "dim")
            yield line
        if len(found) > _MOST_FAILURES:
            yield Text(f"… {len(found) - _MOST_FAILURES} more failures", "dim")


_CALM = frozenset({SpanStatus.COMPLETED})


def _sign(lane: Lane) -> str:
    # A wait that timed out is no failure: the run says so itself when it fails of that.
    return "" if lane.kind is SpanKind.WAIT and lane.status is not SpanStatus.RUNNING else _SIGNS.get(lane.status, "")


def _cell(place: float) -> int:
    return math.floor(place + 0.5)


def _cropped(text: str, width: int) -> str:
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1).rstrip() + "…"
    return set_cell_size(text, width)


def _cut_label(seconds: float, width: int) -> str:
    inside = max(0, width - 2)
    text = duration_text(seconds)
    if len(text) > inside:
        text = " ".join(text.split()[:2])
    if len(text) > inside:
        text = text.replace(" ", "")
    return f"{_CUT}{text[:inside]:^{inside}}{_CUT}"[:width]
