"""Durations for people: ``250 ms``, ``1 min 5 s``, ``20 d 3 h``; and round numbers for an axis."""

from __future__ import annotations

from datetime import timedelta

__all__ = ["duration_text", "nice_step"]

_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))
_STEPS = (
    *(base * 10.0**power for power in range(-6, 0) for base in (1, 2, 5)),
    *(1.0, 2.0, 5.0, 10.0, 15.0, 30.0),
    *(60.0 * n for n in (1, 2, 5, 10, 15, 30)),
    *(3_600.0 * n for n in (1, 2, 3, 6, 12)),
    *(86_400.0 * n for n in (1, 2, 5, 7, 14, 28)),
)
_YEAR = 86_400.0 * 365


def duration_text(duration: timedelta | float) -> str:
    """Return a duration in one or two units, with two or three digits that count.

    Args:
        duration: seconds, or a timedelta; a negative one counts as none.

    """
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    seconds = max(0.0, seconds)
    if seconds == 0:
        return "0 s"
    if seconds < 0.000_999_5:
        return f"{max(1, round(seconds * 1_000_000))} µs"
    if seconds < 0.999_5:
        return f"{_digits(seconds * 1_000)} ms"
    if seconds < 59.95:
        return f"{_digits(seconds)} s"
    for index, (size, unit) in enumerate(_UNITS):
        rest_size, rest_unit = _UNITS[min(index + 1, len(_UNITS) - 1)]
        whole = round(seconds / rest_size) * rest_size
        if whole >= size:
            count, rest = divmod(whole, size)
            parts = [f"{count:.0f} {unit}"]
            if round(rest / rest_size):
                parts.append(f"{rest / rest_size:.0f} {rest_unit}")
            return " ".join(parts)
    return f"{_digits(seconds)} s"


def nice_step(least: float) -> float:
    """Return the smallest round number of seconds that is not below ``least``: what a clock or a ruler would have."""
    for step in _STEPS:
        if step >= least:
            return step
    step = _YEAR
    while step < least:
        step *= 10
    return step


def _digits(value: float) -> str:
    text = f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
    return text.removesuffix(".0")
