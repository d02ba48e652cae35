"""Reading what an event holds, whatever it holds: a history of another version must not break a picture."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from grctl_core.errors import DecodeError
from grctl_core.history import HistoryEvent
from grctl_core.outcome import ErrorDetails

__all__ = ["Body", "moment", "shifted"]

_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)


def moment(timestamp: datetime) -> datetime:
    """Return a time in UTC; one without a zone is taken for UTC."""
    if timestamp.tzinfo is None:
        return timestamp.replace(tzinfo=UTC)
    try:
        return timestamp.astimezone(UTC)
    except OverflowError:
        return _EARLIEST if timestamp.year == 1 else _LATEST


def shifted(timestamp: datetime, by: timedelta) -> datetime:
    """Return a time that is later, or earlier for a negative ``by``; the calendar's ends are not passed."""
    try:
        return timestamp + by
    except OverflowError:
        return _LATEST if by > timedelta(0) else _EARLIEST


class Body:
    """An event's own map. What is not there, or of another type, is empty."""

    def __init__(self, event: HistoryEvent) -> None:
        try:
            self._data: Mapping[Any, Any] = event.data
        except DecodeError:
            self._data = {}

    def text(self, key: str) -> str:
        """Return a text, empty where there is none."""
        value = self._data.get(key)
        return value if isinstance(value, str) else "" if value is None else str(value)

    def number(self, key: str) -> int | None:
        """Return a whole number that is not negative."""
        value = self._data.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    def milliseconds(self, key: str) -> timedelta | None:
        """Return a duration that is stated in milliseconds."""
        value = self.number(key)
        try:
            return None if value is None else timedelta(milliseconds=value)
        except OverflowError:
            return timedelta.max

    def error(self) -> ErrorDetails | None:
        """Return why something failed."""
        value = self._data.get("error")
        if not isinstance(value, Mapping):
            return None if value is None else ErrorDetails("Error", str(value))
        kind, message, trace = (str(value.get(key) or "") for key in ("type", "message", "stack_trace"))
        return ErrorDetails(kind or "Error", message, trace)
