"""Ids: which are allowed, and how new ones are made."""

from __future__ import annotations

import os
import re
import time

from grctl_core.errors import InvalidInputError

__all__ = ["MAX_ID_BYTES", "check_event_name", "check_id", "check_query_name", "new_ulid"]

MAX_ID_BYTES = 1024
"""Longest id accepted, in UTF-8 bytes. Servers break from 3,950 bytes on (docs/protocol.md, section 8, 4)."""

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_IS_PLAIN = re.compile(r"[A-Za-z0-9_:/@+=-]{1,1024}").fullmatch
_PAIRS = [a + b for a in _CROCKFORD for b in _CROCKFORD]


def new_ulid() -> str:
    """Return a new ULID: 26 characters, the first 10 of which are the time in milliseconds."""
    number = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    pairs = _PAIRS
    return "".join([pairs[(number >> shift) & 1023] for shift in range(120, -1, -10)])


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
