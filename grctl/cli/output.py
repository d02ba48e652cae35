"""Output: data on stdout, everything else on stderr. A terminal gets tables, a pipe plain lines, --json JSON lines."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from grctl.cli.exits import ReaderGoneError
from grctl.cli.text import json_text
from grctl.safe_text import safe

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Output", "say_error", "set_up_logging"]


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


class Output:
    """Where a command writes.

    Attributes:
        as_json: whether JSON was asked for.
        for_people: whether tables are wanted: stdout is a terminal, and JSON was not asked for.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.for_people = _is_terminal(sys.stdout) and not as_json
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """The terminal. Where there is none it says how wide a drawing is to be."""
        if self._console is None:
            from rich.console import Console

            # Not left to the environment: FORCE_COLOR must not bring tables into a pipe.
            self._console = Console(
                file=sys.stdout, force_terminal=self.for_people, markup=False, highlight=False, emoji=False
            )
        return self._console

    def show(self, what: RenderableType) -> None:
        """Print what rich can render, to a terminal."""
        self.console.print(what)

    def json(self, value: object, *, indent: int | None = None) -> None:
        """Write one value as JSON, in one line unless an indent is given."""
        text = json_text(value, indent=indent)
        try:
            text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        except UnicodeEncodeError:  # stdout is not UTF-8; JSON can do without
            text = json_text(value, indent=indent, ascii_only=True)
        self._write(text)

    def row(self, *cells: object) -> None:
        """Write one line of cells with tabs between them; tabs and line breaks in a cell are escaped."""
        self._write("\t".join("" if cell is None else safe(cell) for cell in cells))

    def drawing(self, text: str) -> None:
        """Write lines that were drawn for people, where no terminal is."""
        self._write(text.removesuffix("\n"))

    def value(self, value: object) -> None:
        """Write a workflow's value: JSON, indented for people."""
        self.json(value, indent=2 if self.for_people else None)

    def note(self, text: str) -> None:
        """Tell a person something that is no data. Scripts do not see it."""
        if _is_terminal(sys.stderr):
            sys.stderr.write(safe(text, lines=True) + "\n")
            sys.stderr.flush()

    @contextlib.contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show that something is going on, and for how long, while the block runs; on a terminal only."""
        if not _is_terminal(sys.stderr) or os.environ.get("TERM") == "dumb":
            yield
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console(file=sys.stderr, force_terminal=True, highlight=False, emoji=False)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            progress.add_task(escape(safe(text)), total=None)
            yield

    def _write(self, line: str) -> None:
        if sys.stdout is not None:
            try:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()  # who reads along wants it now
            except BrokenPipeError:
                raise ReaderGoneError from None


def say_error(text: str) -> None:
    """Write an error to stderr."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # nobody is there to be told
            sys.stderr.write(f"grctl-client: {safe(text, lines=True)}\n")
            sys.stderr.flush()


class _SafeFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return safe(super().format(record), lines=True)


def set_up_logging(level: str) -> None:
    """Have the library's log written to stderr."""
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(_SafeFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    root: Any = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
