"""What took how long in a run, drawn from its history: for the terminal, or as a picture.

>>> timeline = Timeline.from_history(handle.run_info, [event async for event in handle.history()])
>>> print(render_text(timeline, width=100))
>>> Path("run.svg").write_text(render_svg(timeline), encoding="utf-8")

The picture needs nothing; the text needs rich, which the extra ``cli`` brings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grctl.timeline.model import Attempt, Mark, MarkKind, Span, SpanKind, SpanStatus
from grctl.timeline.svg import render_svg
from grctl.timeline.timeline import Timeline

if TYPE_CHECKING:
    from grctl.timeline.text import TimelineView, render_text

__all__ = [
    "Attempt",
    "Mark",
    "MarkKind",
    "Span",
    "SpanKind",
    "SpanStatus",
    "Timeline",
    "TimelineView",
    "render_svg",
    "render_text",
]


def __getattr__(name: str) -> Any:
    if name not in {"TimelineView", "render_text"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from grctl.timeline import text
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        raise ImportError(f'{name} needs rich: pip install "grctl-client[cli]"', name=__name__) from error
    return getattr(text, name)
