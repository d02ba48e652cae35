"""What a test's report shows of a run: its timeline, and what its code raised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from grctl.safe_text import one_line
from grctl.timeline.timeline import Timeline
from grctl.timeline.units import duration_text
from grctl_core.errors import GrctlError
from grctl_core.history import HistoryEvent
from grctl_core.run import RunInfo

__all__ = ["ReportedRun", "run_report", "runs_report"]

_MOST_RUNS = 5
_MOST_ROWS = 40
_MOST_EVENTS = 60

ReportedRun = tuple[RunInfo, Sequence[HistoryEvent]]


def runs_report(runs: Sequence[ReportedRun], now: datetime, width: int) -> str:
    """Show the runs of an engine: those that did not complete first, and not more than a person reads.

    Args:
        runs: record and history of each, in the order of their start.
        now: the engine's time.
        width: columns.

    """
    if not runs:
        return "no workflow was started\n"
    shown = sorted(runs, key=lambda run: str(run[0].status) == "completed")[:_MOST_RUNS]  # stable: in order otherwise
    parts = [run_report(info, history, now, width) for info, history in shown]
    if left := len(runs) - len(shown):
        parts.append(f"... and {left} more run{'s' if left > 1 else ''}\n")
    return "\n".join(parts)


def run_report(info: RunInfo, history: Sequence[HistoryEvent], now: datetime, width: int) -> str:
    """Show one run. Its timeline is drawn where rich is installed, else its history is listed."""
    try:
        from grctl.timeline.text import render_text
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return _listed(info, history)
    timeline = Timeline.from_history(info, history, now=now)
    return render_text(timeline, width=width, max_rows=_MOST_ROWS) + _traces(history)


def _listed(info: RunInfo, history: Sequence[HistoryEvent]) -> str:
    began = history[0].timestamp if history else info.created_at
    lines = [f"{one_line(info.wf_type)} {one_line(info.wf_id)}  {info.status}, run {one_line(info.id)}"]
    if len(history) > _MOST_EVENTS:
        lines.append(f"    ... {len(history) - _MOST_EVENTS} earlier events")
    for event in history[-_MOST_EVENTS:]:
        name = _name(event)
        lines.append(
            f"    after {duration_text(event.timestamp - began):>8}  {one_line(event.kind):20} {name}".rstrip()
        )
    lines.append('    (pip install "grctl-client[cli]" draws a timeline here)')
    return "\n".join(lines) + "\n" + _traces(history)


def _name(event: HistoryEvent) -> str:
    try:
        data = event.data
    except GrctlError:
        return ""
    for key in ("task_name", "step_name", "event_name", "wf_id", "reason"):
        if isinstance(data.get(key), str):
            return one_line(data[key])
    return ""


def _traces(history: Iterable[HistoryEvent]) -> str:
    """Return the traceback that the run ended with, if any."""
    for event in reversed(list(history)):
        if event.kind == "run.failed":
            error = event.data.get("error")
            trace = error.get("stack_trace") if isinstance(error, dict) else None
            return f"\n{trace.rstrip()}\n" if isinstance(trace, str) and trace.strip() else ""
    return ""
