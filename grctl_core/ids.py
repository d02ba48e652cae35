"""Ids: which are allowed, and how new ones are made."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

from grctl_core.errors import InvalidInputError

__all__ = ["MAX_ID_BYTES", "check_event_name", "check_id", "check_query_name", "new_ulid"]

MAX_ID_BYTES = 1024
"""Longest id accepted, in UTF-8 bytes. Servers break from 3,950 bytes on (docs/protocol.md, section 8, 4)."""

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_IS_PLAIN = re.compile(r"[A-Za-z0-9_:/@+=-]{1,1024}").fullmatch
_PAIRS = [a + b for a in _CROCKFORD for b in _CROCKFORD]


class _Series(NamedTuple):
    """The ULIDs of one millisecond, as ULID's own rules have them: the first is random, each next one is one more.

    Attributes:
        millisecond: which.
        beginning: the 22 characters that they have in common, 12 of them random.
        ends: numbers of the last 4, each given out once, whichever thread asks.
    """

    millisecond: int
    beginning: str
    ends: Iterator[int]


def _series_of(millisecond: int) -> _Series:
    number = (millisecond << 60) | int.from_bytes(os.urandom(8), "big") >> 4
    beginning = "".join([_PAIRS[(number >> shift) & 1023] for shift in range(100, -1, -10)])
    return _Series(millisecond, beginning, iter(range(int.from_bytes(os.urandom(2), "big"), 1 << 20)))


_series = _series_of(0)


def new_ulid() -> str:
    """Return a new ULID: 26 characters, the first 10 of which are the time in milliseconds.

    Those that one process makes in one millisecond follow each other: they are no secrets.
    """
    global _series  # noqa: PLW0603 - the process's own; a series that two threads make at once is two
    now = time.time_ns() // 1_000_000
    series = _series
    if series[0] != now:
        series = _series = _series_of(now)
    number = next(series[2], None)
    if number is None:  # almost a million in this millisecond
        series = _series = _series_of(now)
        number = next(series[2])
    return series[1] + _PAIRS[number >> 10] + _PAIRS[number & 1023]


def _forget_series() -> None:
    """Begin another series in a forked process: it would go on with its parent's."""
    global _series  # noqa: PLW0603
    _series = _series_of(0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_series)


def check_id(name: str, value: object) -> str:
    """Return ``value`` if it can be an id: one NATS subject token (docs/protocol.md, section 2).

    Args:
        name: what the value is, for the message, such as ``"workflow_id"``.
        value: the value that the user passed.

    Raises:
        InvalidInputError: it is no string, is empty or too long, or contains white space, a dot, ``*``, ``>``,
            a control character or a lone surrogate.

    """
    if isinstance(value, str) and _IS_PLAIN(value):
        return value
    text = _check_text(name, value)
    if not text:
        raise InvalidInputError(f"{name} is empty: give a string such as 'order-123'")
    for position, character in enumerate(text):
        if character in ".*>" or character.isspace() or not character.isprintable():
            raise InvalidInputError(
                f"{name} {_shown(text)} has {character!a} at position {position}: white space, '.', '*', '>' and "
                "control characters are not allowed. Use '-' or '_' instead"
            )
    return text


def check_event_name(value: object) -> str:
    """Return ``value`` if it can be an event's name: any string, dots and spaces too (docs/protocol.md, section 2).

    Raises:
        InvalidInputError: it is no string, is too long, or cannot be written as UTF-8.

    """
    return _check_text("event_name", value)


def check_query_name(value: object) -> str:
    """Return ``value`` if it can be a query's name: as an event's, but not empty."""
    if value == "":
        raise InvalidInputError("query_name must be a string that is not empty")
    return _check_text("query_name", value)


def _check_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be a string, not {type(value).__name__}")
    if value.isascii():
        size = len(value)
    else:
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"{name} {_shown(value)} has a lone surrogate at position {error.start}: it cannot be sent as UTF-8"
            ) from None
    if size > MAX_ID_BYTES:
        raise InvalidInputError(f"{name} {_shown(value)} has {size} bytes: {MAX_ID_BYTES} at most")
    return value


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:77] + "...")
