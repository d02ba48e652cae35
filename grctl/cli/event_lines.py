"""EventLines: writes a history as it comes, one line for one event: for a person, for a script, and as JSON."""

from __future__ import annotations

from datetime import date
from typing import Any

from grctl.cli.output import Output
from grctl.cli.text import json_text, local, plain, span
from grctl.safe_text import safe
from grctl.timeline.reading import moment
from grctl_core.errors import DecodeError
from grctl_core.history import HistoryEvent

__all__ = ["EventLines"]

_SHOWN = 200
"""Characters of one value on a terminal; ``--json`` has all of it."""


class EventLines:
    """Writes one event after the other, as they come."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._day: date | None = None

    def write(self, event: HistoryEvent) -> None:
        """Write one event."""
        if self._output.for_people:
            self._print(event)
            return
        when, data = moment(event.timestamp), _data(event)
        if self._output.as_json:
            self._output.json(
                {
                    "seq": event.seq,
                    "timestamp": when,
                    "kind": event.kind,
                    "worker_id": event.worker_id,
                    "operation_id": event.operation_id,
                    "data": data,
                    **{key: value for key, value in event.extra.items() if key not in _OWN},
                }
            )
        else:
            self._output.row(event.seq, plain(when), event.kind, json_text(data))

    def _print(self, event: HistoryEvent) -> None:
        from rich.table import Table
        from rich.text import Text

        when = local(moment(event.timestamp))
        if when.date() != self._day:
            self._day = when.date()
            self._output.show(Text(f"{when:%Y-%m-%d}", "dim"))
        clock = Text(f"{when:%H:%M:%S}.{when.microsecond // 1000:03}", "dim")
        kind = Text(safe(event.kind), _style(event.kind))
        details = Text(_words(_data(event)))
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_column(width=12, no_wrap=True)
        if self._output.console.width >= 60:
            line.add_column(width=19, overflow="fold")
            line.add_column(overflow="fold")
            line.add_row(clock, kind, details)
        else:
            line.add_column(overflow="fold")
            line.add_row(clock, Text.assemble(kind, " ", details))
        self._output.show(line)


_OWN = frozenset({"seq", "timestamp", "kind", "worker_id", "operation_id", "data"})


def _data(event: HistoryEvent) -> dict[str, Any]:
    try:
        return event.data
    except DecodeError as error:
        return {"undecodable": str(error), "encoded": event.encoded}


def _style(kind: str) -> str:
    verb = kind.rpartition(".")[2]
    if verb in ("failed", "timeout", "timed_out", "attempt_failed"):
        return "red"
    if verb in ("cancelled", "terminated", "cancel_received"):
        return "magenta"
    return "green" if kind == "run.completed" else ""


def _words(data: dict[Any, Any]) -> str:
    """Return an event's map for a person: what has a value, the long parts cut."""
    parts = []
    for key, value in data.items():
        if value is None or value in ("", {}, []) or key in _OF_MACHINES:
            continue
        text = _value(str(key), value)
        if len(text) > _SHOWN:
            text = text[: _SHOWN - 3] + "..."
        name = _NAMES.get(key, key)
        parts.append(f"{safe(name)} {text}" if name else text)
    return "  ".join(parts)


def _value(key: str, value: Any) -> str:
    if key.endswith("_ms") and isinstance(value, int | float):
        return span(value / 1000)
    if key == "error" and isinstance(value, dict):
        return f"{safe(value.get('type', ''))}: {safe(value.get('message', ''))}"
    return safe(value) if isinstance(value, str) else json_text(value)


_OF_MACHINES = frozenset({"encoded", "directive_id", "original_directive_id", "task_id"})
_NAMES = {
    "step_name": "",
    "event_name": "",
    "task_name": "",
    "error": "",
    "worker_id": "on",
    "duration_ms": "took",
    "timeout_ms": "at most",
    "timeout_step_name": "then",
    "next_retry_delay_ms": "next try in",
    "max_attempts": "of",
    "wf_id": "id",
    "wf_type": "type",
    "run_id": "run",
}
"""What a key is called on a terminal; nothing where the value speaks for itself."""
