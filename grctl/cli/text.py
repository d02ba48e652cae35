"""Values, times and durations as text."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

__all__ = ["ago", "json_text", "local", "moment", "plain", "span"]

_NOT_ASCII = re.compile(r"[^\x20-\x7e\n]")


def json_text(value: object, *, indent: int | None = None, ascii_only: bool = False) -> str:
    r"""Return a value as JSON. What a terminal would act on is written as ``\u001b``, which is JSON just as well."""
    text = json.dumps(plain(value), ensure_ascii=ascii_only, allow_nan=False, indent=indent)
    return _NOT_ASCII.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    return character if character.isprintable() else json.dumps(character)[1:-1]


def plain(value: object) -> Any:  # noqa: PLR0911 - one kind of value after the other
    """Return a value with nothing in it but what JSON has.

    Bytes become base64, times ISO 8601 in UTC, durations seconds, NaN and the infinities strings, keys of maps strings.
    """
    match value:
        case bool() | int() | str() | None:
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping():
            return {key if isinstance(key, str) else json_text(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case msgspec.msgpack.Ext():
            return {"ext": value.code, "data": plain(value.data)}
    return str(value)


def local(when: datetime) -> datetime:
    """Return a time in this machine's time zone; as it is where that is beyond the calendar's ends."""
    try:
        return when.astimezone()
    except (OverflowError, ValueError):
        return when


def moment(when: datetime) -> str:
    """Return a time for a person: of this machine's time zone, to the second."""
    return f"{local(when):%Y-%m-%d %H:%M:%S}"


def span(seconds: float) -> str:
    """Return a duration for a person: ``0.25 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``31 d 4 h``."""
    if not math.isfinite(seconds):  # a server says what it likes
        return f"{seconds} s"
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    for unit, name, smaller, smaller_name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name} {rest} {smaller_name}" if rest else f"{whole // unit} {name}"
    return f"{whole} s"


def ago(when: datetime, now: datetime) -> str:
    """Return how long ago something was, in the larger unit only."""
    seconds = max(0.0, (now - when).total_seconds())
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name} ago"
    return f"{int(seconds)} s ago"
