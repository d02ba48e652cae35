"""Durations: a ``timedelta``, or seconds as a number, everywhere."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TypeAlias

from grctl_core.errors import InvalidInputError

__all__ = ["Duration", "optional_timedelta", "to_seconds", "to_timedelta"]

Duration: TypeAlias = timedelta | float
"""A ``timedelta``, or a number of seconds."""

_LONGEST = timedelta(days=36_500).total_seconds()


def to_seconds(name: str, value: object, *, zero: bool = False) -> float:
    """Return a duration in seconds.

    Raises:
        InvalidInputError: it is neither a ``timedelta`` nor a number, or not above zero, or over 100 years.

    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:  # an int of more than 308 digits
            seconds = math.inf if value > 0 else -math.inf
    else:
        raise InvalidInputError(
            f"{name} must be a timedelta or a number of seconds, not {type(value).__name__}: "
            "for example timedelta(minutes=5), or 300"
        )
    if math.isnan(seconds) or seconds < 0 or (seconds == 0 and not zero):
        raise InvalidInputError(f"{name} must be above zero, not {seconds:g} s")
    if seconds > _LONGEST:
        raise InvalidInputError(f"{name} must be 100 years at most, not {seconds:g} s. For no limit leave it out")
    return seconds


def to_timedelta(name: str, value: object) -> timedelta:
    """Return a duration as a ``timedelta`` of at least one microsecond; errors as :func:`to_seconds`."""
    seconds = to_seconds(name, value)
    return value if isinstance(value, timedelta) else max(timedelta(seconds=seconds), timedelta.resolution)


def optional_timedelta(name: str, value: object) -> timedelta | None:
    """Return :func:`to_timedelta`, or None for None."""
    return None if value is None else to_timedelta(name, value)
