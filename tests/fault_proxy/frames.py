"""Frames: the NATS protocol cut into its messages, whatever pieces it comes in, without changing a byte."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

__all__ = ["VERBS", "Direction", "Frame", "FrameReader", "UnreadableError"]

_LONGEST_LINE = 1 << 20
"""Bytes; a server's INFO and a client's CONNECT are the longest, of some KB."""


class Direction(Enum):
    """Which way a frame goes."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


class UnreadableError(Exception):
    """What came is no NATS protocol, or is encrypted."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the protocol.

    Attributes:
        direction: which way it goes.
        verb: in upper case: PUB, MSG, PING, ...
        raw: all its bytes, as they came.
        arguments: the words of its control line; of INFO, CONNECT and -ERR what follows the verb, as one.
        subject: of PUB, HPUB, SUB, MSG and HMSG; else empty.
        reply_to: where an answer to it should go; empty where none is asked for.
        headers: of HPUB and HMSG, with the line that begins them and the empty one that ends them.
        payload: of PUB, HPUB, MSG and HMSG.
        request: of an answer: the frame that asked for it, where the proxy saw it.
    """

    direction: Direction
    verb: str
    raw: bytes
    arguments: tuple[str, ...] = ()
    subject: str = ""
    reply_to: str = ""
    headers: bytes = b""
    payload: bytes = b""
    request: Frame | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        named = f" {self.subject}" if self.subject else ""
        size = f", {len(self.payload)} B" if self.verb in _WITH_PAYLOAD else ""
        return f"<{self.verb}{named} {self.direction.value}{size}>"

    def with_payload(self, payload: bytes) -> Frame:
        """Return the frame with another payload; its sizes are written anew."""
        if self.verb not in _WITH_PAYLOAD:
            raise ValueError(f"{self.verb} has no payload")
        sizes = (len(self.headers),) if self.headers else ()
        words = [*self.arguments[: -1 - len(sizes)], *map(str, (*sizes, len(self.headers) + len(payload)))]
        line = " ".join([self.verb, *words]).encode()
        raw = b"%b\r\n%b%b\r\n" % (line, self.headers, payload)
        return replace(self, raw=raw, payload=payload, arguments=tuple(words))


# Each verb: least and most words after it; None for one piece of text, whatever is in it.
VERBS: dict[str, tuple[int, int] | None] = {
    "INFO": None,
    "CONNECT": None,
    "PUB": (2, 3),
    "HPUB": (3, 4),
    "SUB": (2, 3),
    "UNSUB": (1, 2),
    "MSG": (3, 4),
    "HMSG": (4, 5),
    "PING": (0, 0),
    "PONG": (0, 0),
    "+OK": (0, 0),
    "-ERR": None,
}
_WITH_PAYLOAD = frozenset({"PUB", "HPUB", "MSG", "HMSG"})


class FrameReader:
    """Takes one direction's bytes in any pieces and gives the frames that they complete."""

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self._buffer = bytearray()
        self._looked_at = 0  # no end of line before this
        self._frame_end = 0  # where the frame in the buffer ends, once its first line has been read
        self._line_end = 0
        self._words: tuple[str, tuple[str, ...]] = ("", ())

    @property
    def rest(self) -> bytes:
        """What has come of a frame that is not complete."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Take more bytes; return the frames that are complete now.

        Raises:
            UnreadableError: this is no NATS protocol.

        """
        self._buffer += data
        found = []
        while self._read_line() and len(self._buffer) >= self._frame_end:
            found.append(self._take())
        return found

    def _read_line(self) -> bool:
        """Read the first line of the frame that the buffer begins with; False while it is not complete."""
        if self._frame_end:
            return True
        end = self._buffer.find(b"\n", self._looked_at)
        if end < 0:
            self._looked_at = len(self._buffer)
            if self._looked_at > _LONGEST_LINE:
                raise self._unreadable(f"a line of more than {_LONGEST_LINE} bytes")
            return False
        self._line_end = end + 1
        self._words = self._split(bytes(self._buffer[:end]))
        verb, words = self._words
        self._frame_end = self._line_end
        if verb in _WITH_PAYLOAD:
            self._frame_end += self._size(words[-1]) + 2
        return True

    def _split(self, line: bytes) -> tuple[str, tuple[str, ...]]:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise self._unreadable(f"{line[:80]!r}") from None
        head, _, tail = text.strip(" \t\r").replace("\t", " ").partition(" ")
        verb = head.upper()
        if verb not in VERBS:
            raise self._unreadable(f"{line[:80]!r}")
        bounds = VERBS[verb]
        if bounds is None:
            return verb, (tail.strip(),)
        words = tuple(tail.split())
        if not bounds[0] <= len(words) <= bounds[1]:
            raise self._unreadable(f"{line[:80]!r}, with {len(words)} words after {verb}")
        return verb, words

    def _take(self) -> Frame:
        raw = bytes(self._buffer[: self._frame_end])
        del self._buffer[: self._frame_end]
        body = raw[self._line_end :]
        verb, words = self._words
        self._frame_end = self._looked_at = 0
        if verb not in _WITH_PAYLOAD:
            return Frame(self._direction, verb, raw, words, subject=words[0] if verb == "SUB" else "")
        if not body.endswith(b"\r\n"):
            raise self._unreadable(f"a {verb} whose size is not what it says")
        headers = 0
        named = words[:-1]
        if verb in {"HPUB", "HMSG"}:
            headers = self._size(words[-2])
            named = words[:-2]
            if headers > len(body) - 2:
                raise self._unreadable(f"a {verb} with more headers than it has bytes")
        before_reply = 1 if verb in {"PUB", "HPUB"} else 2
        return Frame(
            self._direction,
            verb,
            raw,
            words,
            subject=words[0],
            reply_to=named[before_reply] if len(named) > before_reply else "",
            headers=body[:headers],
            payload=body[headers:-2],
        )

    def _size(self, word: str) -> int:
        if not (word.isascii() and word.isdigit()):
            raise self._unreadable(f"{word[:80]!r} where a size should be")
        return int(word)

    def _unreadable(self, what: str) -> UnreadableError:
        return UnreadableError(f"{what} {self._direction.value} is no NATS protocol: the proxy reads plain TCP only")
