"""One line for one event of a history: for a person, and as JSON."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import msgspec
from rich.text import Text

from grctl.timeline.printable import printable
from grctl.timeline.reading import Body, moment
from grctl.timeline.units import duration_text
from grctl.timeline.words import why
from grctl_core.errors import DecodeError
from grctl_core.history import HistoryEvent
from grctl_core.outcome import Outcome

__all__ = ["event_json", "event_line", "json_line", "outcome_json"]

_NAMES = ("step_name", "task_name", "event_name", "timeout_step_name", "wf_type", "wf_id", "reason")
"""Keys whose values say what an event is about. Payloads and results are left to JSON: they can be large or secret."""
_BAD = ("failed", "timeout", "attempt_failed")
_ENDED = ("cancelled", "terminated", "cancel_received")


def event_line(event: HistoryEvent, start: datetime) -> Text:
    """Return an event in one line, safe to print: time, time since ``start``, kind, what it is about."""
    at, body = moment(event.timestamp), Body(event)
    verb = event.kind.rpartition(".")[2]
    style = "red" if verb in _BAD else "magenta" if verb in _ENDED else ""
    names = [printable(name, 200) for name in map(body.text, _NAMES) if name]
    if body.number("attempt") is not None:
        names.append(f"attempt {body.number('attempt')} of {body.number('max_attempts') or '?'}")
    error = body.error()
    line = Text(no_wrap=True, overflow="ignore")
    line.append(f"{at:%H:%M:%S}.{at.microsecond // 1000:03} ", "dim")
    line.append(f"{'+' + duration_text(at - start):>11}  ", "dim")
    kind = printable(event.kind, 100)
    about = " ".join(names) + (f": {why(error, 200)}" if error is not None else "")
    line.append(f"{kind:<19}  " if about else kind, style)
    line.append(about)
    return line


def event_json(event: HistoryEvent) -> str:
    """Return an event as one line of JSON."""
    try:
        data: Any = event.data
    except DecodeError:
        data = {"undecodable": base64.b64encode(event.encoded).decode()}
    return json_line(
        {
            **event.extra,
            "seq": event.seq,
            "timestamp": moment(event.timestamp),
            "kind": event.kind,
            "worker_id": event.worker_id,
            "operation_id": event.operation_id,
            "data": data,
        }
    )


def outcome_json(outcome: Outcome[Any]) -> str:
    """Return how a run ended as one line of JSON."""
    return json_line(
        {
            "workflow_id": outcome.run.wf_id,
            "run_id": outcome.run.id,
            "status": str(outcome.status),
            "result": outcome.result,
            "error": outcome.error,
            "reason": outcome.reason,
        }
    )


def json_line(value: object) -> str:
    r"""Return a value as JSON in one line; what a terminal would act on is escaped, as ``\u001b``."""
    try:
        text = msgspec.json.encode(value, enc_hook=str).decode()
    except (TypeError, ValueError, OverflowError):
        text = msgspec.json.encode(_with_text_keys(value), enc_hook=str).decode()
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _with_text_keys(value: Any) -> Any:
    """Return a value whose maps have keys that JSON allows."""
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_text_keys(item) for item in value]
    return value


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
