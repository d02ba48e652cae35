"""Records: what the stream holds, read by direct gets (docs/protocol.md, section 5). No consumer is made for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from grctl_core.errors import (
    DecodeError,
    DeliveryUnknownError,
    NotDeliveredError,
    ServerError,
    UnsupportedOperationError,
)
from grctl_core.safe_text import one_line
from grctl_nats.link import Link
from grctl_nats.subjects import STREAM

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["UNREADABLE", "Record", "Records", "StreamState"]

_GET = f"$JS.API.DIRECT.GET.{STREAM}"
_MOST_SUBJECTS = 256  # the broker answers 1,024 at most, and cuts by bytes; small pages keep both far away
_PAGE_BYTES = 8 * 1024 * 1024  # the broker counts a little more than the bodies, and exceeds it by one message
_FRAME = 256  # bytes of a request for several subjects, beside these
_MOST_SAID = 300  # characters of the broker's words that stand in an error
_NO_MESSAGE, _END_OF_BATCH = "404", "204"
_NO_JETSTREAM = (10039, 10076)
"""The broker's own codes for: not for this account; not at all."""

UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What comes of reading JSON of the broker that is not what it should be."""


class Record(msgspec.Struct, frozen=True):
    """One message of the stream.

    Attributes:
        subject: where it lies.
        seq: its stream sequence.
        body: its bytes.
    """

    subject: str
    seq: int
    body: bytes

    def __repr__(self) -> str:
        """Show where it lies, never what is in it."""
        return f"<Record {self.seq} of {self.subject}>"


class StreamState(msgspec.Struct, frozen=True):
    """The stream at one moment.

    Attributes:
        created: when it was made; another time is another stream.
        now: the broker's time.
        last_seq: sequence of its last message.
    """

    created: datetime
    now: datetime
    last_seq: int


class Records:
    """Reads the stream over whatever link is up.

    Attributes:
        timeout: seconds that one answer may take.
    """

    def __init__(self, link: Callable[[], Link], timeout: float) -> None:
        self._link = link
        self.timeout = timeout

    async def last(self, subject: str) -> Record | None:
        """Return the last record of a subject, None where there is none.

        Raises:
            ConnectionFailedError, DeliveryUnknownError: the broker could not be asked.
            UnsupportedOperationError: there is no such stream on this broker.

        """
        return _record(await self._ask(f"{_GET}.{subject}", b""))

    async def next(self, subject: str, seq: int) -> Record | None:
        """Return the first record of a subject from a sequence on; None and errors as :meth:`last`."""
        return _record(await self._ask(_GET, json.dumps({"seq": seq, "next_by_subj": subject}).encode()))

    async def page(self, subject: str, seq: int, count: int) -> list[Record]:
        """Return up to so many records of a subject from a sequence on; none only where there are no more.

        A page ends early where it is large, so that memory holds some megabytes of it at most. The broker may cut what
        it brings by bytes too: it is asked again until the page is full, large, or nothing is left.
        """
        found: list[Record] = []
        size = 0
        while len(found) < count and size < _PAGE_BYTES:
            body = {"seq": seq, "next_by_subj": subject, "batch": count - len(found), "max_bytes": _PAGE_BYTES - size}
            part, left = await self._batch(json.dumps(body).encode())
            found += part
            size += sum(len(record.body) for record in part)
            if not part or not left:
                break
            seq = part[-1].seq + 1
        return found

    async def last_of_each(self, subjects: Sequence[str], most_bytes: int | None = None) -> list[Record]:
        """Return the last record of every subject that has one. The subjects may hold wildcards that match few.

        Args:
            subjects: which.
            most_bytes: how much is asked for at a time, where the records may be large; None leaves it to the broker.

        """
        found: list[Record] = []
        for asked in _pages(subjects, self._link().max_payload - _FRAME):
            body: dict[str, Any] = {"multi_last": asked}
            if most_bytes is not None:
                body["max_bytes"] = most_bytes
            while True:
                part, left = await self._batch(json.dumps(body).encode())
                found += part
                if not part or not left:
                    break
                body["seq"] = part[-1].seq + 1  # cut by bytes: go on behind the last one
        return found

    async def exists(self) -> bool:
        """Whether the stream is there, also where it cannot be read at the moment; only the broker's word says no."""
        try:
            await self.state()
        except UnsupportedOperationError:
            return False
        except ServerError:
            return True
        return True

    async def state(self) -> StreamState:
        """Return the state of the stream.

        Raises:
            UnsupportedOperationError: the broker has no JetStream, or no Ground Control.

        """
        try:
            answer = await self._link().request(f"$JS.API.STREAM.INFO.{STREAM}", b"", None, self.timeout)
        except NotDeliveredError as error:
            raise _no_jetstream(self._link()) from error
        try:
            said = json.loads(answer.data)
            if (trouble := said.get("error")) is not None:
                if trouble.get("err_code") in _NO_JETSTREAM:
                    raise _no_jetstream(self._link())
                if trouble.get("code") == 404:
                    raise UnsupportedOperationError(
                        f"there is no Ground Control on the broker {self._link().server}: it has no stream "
                        f"{STREAM!r}. Start the server, or check the address"
                    )
                said = one_line(str(trouble.get("description")), _MOST_SAID)
                raise ServerError(f"the broker refuses to show the stream: {said}")
            return StreamState(_time(said["created"]), _time(said["ts"]), int(said["state"]["last_seq"]))
        except UNREADABLE as error:
            raise DecodeError(f"the broker's word on the stream cannot be decoded: {error!r}") from error

    async def _ask(self, subject: str, body: bytes) -> Msg:
        link = self._link()
        try:
            return await link.request(subject, body, None, self.timeout)
        except NotDeliveredError as error:
            raise _no_stream(link) from error

    async def _batch(self, body: bytes) -> tuple[list[Record], bool]:
        """Return what one request brings, and whether the broker has more.

        Each message says which one came before it, the last one too: so what is lost on the way is noticed, and what
        comes twice. Between the broker and us both can happen, at a leaf node or a gateway.
        """
        link = self._link()
        found: list[Record] = []
        latest = 0
        *messages, last = await link.collect(_GET, body, self.timeout)
        for message in messages:
            record = _record(message)
            if record is None or record.seq <= latest:
                continue
            _check_gap(link, message, latest)
            found.append(record)
            latest = record.seq
        headers = last.headers or {}
        if headers.get("Status") == "503":
            raise _no_stream(link)
        if headers.get("Status") not in (_NO_MESSAGE, _END_OF_BATCH):
            _record(last)  # raises what it says
        _check_gap(link, last, latest)
        return found, headers.get("Nats-Num-Pending", "") not in ("", "0")


def _check_gap(link: Link, message: Msg, latest: int) -> None:
    before = (message.headers or {}).get("Nats-Last-Sequence")
    if before is not None and before != str(latest):
        raise DeliveryUnknownError(f"a part of the answer of {link.server} was lost on its way", link=link.number)


def _pages(subjects: Sequence[str], most_bytes: int) -> Iterator[list[str]]:
    """Divide subjects among requests that the broker takes; one that is too long by itself has a request of its own."""
    page: list[str] = []
    size = 0
    for subject in subjects:
        more = len(json.dumps(subject)) + 2
        if page and (len(page) == _MOST_SUBJECTS or size + more > most_bytes):
            yield page
            page, size = [], 0
        page.append(subject)
        size += more
    if page:
        yield page


def _record(message: Msg) -> Record | None:
    headers = message.headers or {}
    status = headers.get("Status")
    if status == _NO_MESSAGE:
        return None
    if status is not None:
        said = one_line(f"{status} {headers.get('Description', '')}", _MOST_SAID)
        raise ServerError(f"the broker refuses to read the stream: {said}", code=_number(status))
    try:
        return Record(headers["Nats-Subject"], int(headers["Nats-Sequence"]), message.data)
    except (KeyError, ValueError) as error:
        raise DecodeError(f"the broker's answer is no record: {error!r}") from error


def _number(status: str) -> int | None:
    return int(status) if len(status) == 3 and status.isascii() and status.isdigit() else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _no_jetstream(link: Link) -> UnsupportedOperationError:
    return UnsupportedOperationError(
        f"the broker {link.server} has no JetStream (not for this account, at least): Ground Control needs it. Is this "
        "the address of the Ground Control server's broker?"
    )


def _no_stream(link: Link) -> UnsupportedOperationError:
    return UnsupportedOperationError(
        f"the stream {STREAM!r} is gone from the broker {link.server}: the server was reset, or is another one"
    )
