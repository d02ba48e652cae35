"""Timeline: what took how long in a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from grctl.timeline.builder import Builder
from grctl.timeline.model import Mark, Span, SpanKind
from grctl.timeline.reading import moment
from grctl_core.history import HistoryEvent
from grctl_core.run import RunInfo, RunStatus

__all__ = ["Timeline"]


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A run as spans and marks. Made by :meth:`from_history`.

    Attributes:
        run_info: the run's record, as it was given.
        status: where the run stands; by the history, or else by the record.
        run: the whole run, from ``run.started`` to its end; its ``error`` and ``detail`` say why it ended so.
        spans: steps, tasks, waits and sleeps, in the order of their beginning in the history.
        marks: what happened at one moment, in the order of the history.
        start: the earliest time in it.
        end: the latest time in it. For a run that goes on it is "now".
    """

    run_info: RunInfo
    status: RunStatus | None
    run: Span
    spans: tuple[Span, ...]
    marks: tuple[Mark, ...]
    start: datetime
    end: datetime

    @classmethod
    def from_history(cls, run_info: RunInfo, events: Iterable[HistoryEvent], now: datetime | None = None) -> Self:
        """Make the timeline of a run. Reads no clock and does no I/O.

        Args:
            run_info: the run's record.
            events: its history, complete or as far as it is known, in any order.
            now: what spans that go on are drawn up to; None for the time of the last event. A time before that event
                counts as that event's, as clocks differ.

        """
        builder = Builder()
        builder.take(events)
        began = moment(run_info.started_at or run_info.created_at)
        if builder.run is None:
            starts = [span.start for span in builder.spans] + [mark.at for mark in builder.marks]
            builder.run = Span(kind=SpanKind.RUN, name="", start=min(starts, default=began))
        ended_at = None if run_info.completed_at is None else moment(run_info.completed_at)
        builder.finish(run_info.status, ended_at)
        run = builder.run
        times = [run.start, run.end or run.start, builder.latest or run.start]
        if now is not None and run.is_open:
            times.append(moment(now))
        for span in builder.spans:
            times += [span.start, span.end or span.start]
        times += [mark.at for mark in builder.marks]
        return cls(
            run_info=run_info,
            status=builder.status,
            run=run,
            spans=tuple(builder.spans),
            marks=tuple(builder.marks),
            start=min(times),
            end=max(times),
        )

    @property
    def is_running(self) -> bool:
        """Whether the run goes on."""
        return self.run.is_open

    @property
    def duration(self) -> timedelta:
        """How long the run took, or has taken up to "now"."""
        return (self.run.end or self.end) - self.run.start
