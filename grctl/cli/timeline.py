"""Showing a run's timeline in the terminal, and writing it to a file as a picture."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from grctl.timeline import Timeline, render_svg

if TYPE_CHECKING:
    from grctl.cli.output import Output
    from grctl_core.history import HistoryEvent
    from grctl_core.run import RunInfo

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["show_timeline", "timeline_options", "write_svg"]


def timeline_options(command: F) -> F:
    """Take ``--timeline`` and ``--svg FILE``, as the parameters ``timeline`` and ``svg``."""
    command = click.option(
        "--svg", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write a timeline as a picture."
    )(command)
    return click.option("--timeline", is_flag=True, help="Draw what took how long.")(command)


def show_timeline(history: Iterable[HistoryEvent], run_info: RunInfo, output: Output) -> None:
    """Draw a run's timeline, as wide as the terminal. Spans that go on are drawn up to now, by this machine's clock."""
    from grctl.timeline.text import TimelineView, render_text

    timeline = Timeline.from_history(run_info, history, datetime.now(UTC))
    if output.for_people:
        output.show(TimelineView(timeline))
    else:
        output.drawing(render_text(timeline, width=output.console.width))


def write_svg(path: Path, history: Iterable[HistoryEvent], run_info: RunInfo) -> None:
    """Write a run's timeline to a file. A file that is there is replaced, and is left as it was if writing fails.

    Raises:
        click.FileError: it cannot be written; the text says why.

    """
    picture = render_svg(Timeline.from_history(run_info, history, datetime.now(UTC)))
    try:
        if path.exists() and not path.is_file():  # /dev/stdout, a pipe: there is nothing to replace
            path.write_text(picture, encoding="utf-8")
            return
        _replace(path, picture)
    except OSError as error:
        raise click.FileError(str(path), error.strerror or str(error)) from None


def _replace(path: Path, content: str) -> None:
    target = path.resolve()
    number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(content)
        part.chmod(target.stat().st_mode if target.exists() else 0o666 & ~_umask())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
