"""Bytes that look like what comes off the wire, and are not: mutations of what a server was recorded to say."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec

__all__ = ["BODIES", "SPECIALS", "mutated"]

FIXTURES = Path(__file__).parents[1] / "fixtures" / "wire"

SPECIALS = [
    b"\xdd\xff\xff\xff\xff",  # an array of four thousand million items
    b"\xdf\xff\xff\xff\xff",  # a map
    b"\xdb\xff\xff\xff\xff",  # text of four gigabytes
    b"\xc6\xff\xff\xff\xff",  # bytes
    b"\xc9\xff\xff\xff\xff\x07",  # an extension
    b"\x91" * 3_000,  # three thousand levels
    b"\x81\xa1a" * 3_000,
    b"\xd7\xff" + b"\xff" * 8,  # a timestamp in the year 584 million, and of a second of too many nanoseconds
    b"\xc7\x0c\xff" + b"\xff" * 12,
    b"\xc7\x0c\xff" + b"\x00" * 4 + b"\x80" + b"\x00" * 7,  # long before the year 1
    b"\xc7\x0c\xff" + b"\x00" * 4 + b"\x00\x00\x00\x3a\xff\xf4\x41\x7f",  # the last second of the year 9999
    b"\xd4\x05\x00",  # an extension that nobody knows
    b"\xc7\x00\xff",  # a timestamp of no bytes
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # NaN
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",  # infinity
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + b"\x00" * 7,
    b"\xa2\xff\xfe",  # text that is not UTF-8
    b"\xa3\xed\xa0\x80",  # a lone surrogate
    b"\xa1\x00",
    b"\xa4\x1b[2J",
    b"\xa1*",
    b"\xa3a.b",
    b"\xa0",
    b"\xc0",
    b"\xc2",
    b"\x80",
    b"\x90",
    b"\xc1",  # what msgpack never uses
]


def _bodies() -> list[bytes]:
    found: list[bytes] = []

    def walk(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, dict):
            found.extend(
                bytes.fromhex(item)
                for key, item in value.items()
                if key in ("request", "reply", "body") and isinstance(item, str)
            )
            walk(list(value.values()))

    for path in sorted(FIXTURES.glob("*.json")):
        walk(json.loads(path.read_text()))
    return sorted(set(found))


BODIES = _bodies()


def mutated(rng: Random, body: bytes | None = None) -> bytes:
    """Return a mutation of a body, of a recorded one by default: of its bytes, or of the values in it."""
    body = rng.choice(BODIES) if body is None else body
    return _of_values(rng, body) if rng.random() < 0.4 else _of_bytes(rng, body)


def _of_bytes(rng: Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(7):
            case 0 if changed:
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            case 1:
                del changed[at:]
            case 2:
                changed[at:at] = rng.choice(SPECIALS)
            case 3:
                changed[at : at + rng.randrange(1, 9)] = rng.choice(SPECIALS)
            case 4:
                del changed[at : at + rng.randrange(1, 9)]
            case 5:
                other = rng.choice(BODIES)
                changed[at:] = other[rng.randrange(len(other) + 1) :]
            case _:
                changed = bytearray(rng.randbytes(rng.randrange(40)))
    return bytes(changed)


def _of_values(rng: Random, body: bytes) -> bytes:
    """Replace, repeat, rename or drop keys of the map, or of one in it: what comes is well-formed msgpack."""
    try:
        fields = msgspec.msgpack.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _of_bytes(rng, body)
    pairs = [(msgspec.msgpack.encode(key), bytes(value)) for key, value in fields.items()]
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(pairs)) if pairs else 0
        match rng.randrange(5):
            case 0 if pairs:
                pairs[at] = pairs[at][0], rng.choice(SPECIALS)
            case 1 if pairs:
                pairs.append((pairs[at][0], rng.choice([pairs[at][1], *SPECIALS])))  # the same key twice
            case 2 if pairs:
                pairs[at] = rng.choice(SPECIALS), pairs[at][1]
            case 3 if pairs:
                del pairs[at]
            case _ if pairs:
                key, value = pairs[at]
                pairs[at] = key, mutated(rng, value)
    rng.shuffle(pairs)
    return b"\xde" + len(pairs).to_bytes(2) + b"".join(key + value for key, value in pairs)
