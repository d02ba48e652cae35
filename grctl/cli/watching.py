"""Watching: follow a run until it ends. A terminal shows its timeline as it grows, a pipe gets one line per event."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live

from grctl.cli.event_lines import EventLines
from grctl.cli.output import Output
from grctl.cli.workflow.records import outcome_map
from grctl.timeline import Timeline, TimelineView
from grctl_core.history import HistoryEvent
from grctl_core.outcome import Outcome
from grctl_core.run import RunInfo
from grctl_nats.tasks import end_tasks

__all__ = ["Watched", "watch"]

_REDRAW_EVERY = 1.0
"""Seconds after which bars that go on are drawn anew."""
_CALM_DOWN = 0.1
"""Seconds between two drawings at least, however fast events come."""
_FRAME = 12
"""Lines of a timeline beside its rows, roughly: head, axis, legend, failures."""


class Watched(Protocol):
    """What is followed: a ``WorkflowHandle`` is one."""

    @property
    def run_info(self) -> RunInfo:
        """What is known of the run."""

    def history(self, *, follow: bool = False) -> AsyncIterator[HistoryEvent]:
        """Iterate over what happens in it."""

    async def outcome(self) -> Outcome[Any]:
        """Wait for its end."""


async def watch(
    handle: Watched, output: Output, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Outcome[Any]:
    """Follow a run until it ends, and show that; return how it ended. Cancelling this does nothing to the run.

    Args:
        handle: the run.
        output: where to write. A terminal gets a timeline that grows and then the result, a pipe a line for each event.
            As JSON it is a line for each event too, and a last one that says how the run ended.
        clock: what the time is, for the bars of what goes on.

    Raises:
        WorkflowNotFoundError: the run's records are gone.
        ConnectionClosedError: the connection was closed.

    """
    if output.for_people and not output.console.is_dumb_terminal:
        await _live(handle, output.console, clock)
    else:
        lines = EventLines(output)
        async with contextlib.aclosing(_events(handle)) as events:
            async for event in events:
                lines.write(event)
    outcome = await handle.outcome()
    if output.as_json:
        output.json(outcome_map(outcome))
    elif output.for_people and outcome.completed:
        output.value(outcome.result)
    return outcome


async def _events(handle: Watched) -> AsyncGenerator[HistoryEvent, None]:
    """Iterate over the history, and close it also when the one who iterates fails."""
    source = handle.history(follow=True)
    try:
        async for event in source:
            yield event
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()


async def _live(handle: Watched, console: Console, clock: Callable[[], datetime]) -> None:
    """Draw the timeline again and again until the history ends; then once more, complete."""
    events: list[HistoryEvent] = []
    news = asyncio.Event()

    async def collect() -> None:
        async with contextlib.aclosing(_events(handle)) as source:
            async for event in source:
                events.append(event)
                news.set()

    def view(*, complete: bool = False) -> TimelineView:
        timeline = Timeline.from_history(handle.run_info, events, clock())
        return TimelineView(timeline, None if complete else max(4, console.height - _FRAME))

    loop = asyncio.get_running_loop()
    collecting = loop.create_task(collect())
    collecting.add_done_callback(lambda _: news.set())
    try:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while not collecting.done():
                began = loop.time()
                live.update(view(), refresh=True)
                calm_down = max(_CALM_DOWN, 4 * (loop.time() - began))  # a long history takes its time to draw
                with contextlib.suppress(TimeoutError):
                    # Not wait_for: that of Python 3.11 loses a Ctrl-C that comes in the same turn as news.
                    async with asyncio.timeout(_REDRAW_EVERY):
                        await news.wait()
                news.clear()
                if not collecting.done():
                    await asyncio.wait([collecting], timeout=calm_down)
    finally:
        await end_tasks(collecting)
    collecting.result()  # raises what the history ended in
    console.print(view(complete=True))
