"""Consumers: very many records at a time, by a short-lived consumer of the broker's.

For few records a direct get is cheaper, as nothing is made and deleted. But each of its answers has five headers, and
these take the driver twice as long to read as the rest of the message.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from grctl_core.errors import (
    AccessDeniedError,
    DecodeError,
    GrctlError,
    NotDeliveredError,
    NotSentError,
    ServerError,
    UnsupportedOperationError,
)
from grctl_core.ids import new_ulid
from grctl_core.safe_text import one_line
from grctl_nats.link import Link
from grctl_nats.records import UNREADABLE, Record
from grctl_nats.subjects import STREAM

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["FORGOTTEN_AFTER_SECONDS", "ask", "create", "delete", "numbers", "pull", "read_on"]

FORGOTTEN_AFTER_SECONDS = 600
"""Seconds without a pull after which the broker drops the consumer, should we not live to delete it. So long may a
caller take for a page, too, who does something with each record: between two pages nothing of ours runs."""
_ALL_OF_A_REQUEST = "409"
_PAGE = 256
_PAGE_BYTES = 2 * 1024 * 1024
_MOST_SAID = 300  # characters of the broker's words that stand in an error


async def create(link: Link, consumer: str, config: dict[str, Any], timeout: float) -> int:
    """Make a consumer of this name; return how many records it will bring.

    Args:
        link: where to ask.
        consumer: a name of ours, so that it can be deleted also where the answer was not waited for.
        config: what it brings, as the broker's interface has it: ``deliver_policy``, ``filter_subject`` and others.
        timeout: seconds that the answer may take.

    """
    config = {
        "name": consumer,
        "ack_policy": "none",
        "inactive_threshold": FORGOTTEN_AFTER_SECONDS * 1_000_000_000,
        "mem_storage": True,
        "num_replicas": 1,
        **config,
    }
    body = json.dumps({"stream_name": STREAM, "config": config}).encode()
    try:
        answer = await link.request(f"$JS.API.CONSUMER.CREATE.{STREAM}.{consumer}", body, None, timeout)
    except NotDeliveredError as error:
        raise UnsupportedOperationError(f"the broker {link.server} has no JetStream") from error
    try:
        said = json.loads(answer.data)
        if (trouble := said.get("error")) is not None:
            why = one_line(str(trouble.get("description")), _MOST_SAID)
            raise ServerError(f"the broker refuses to read many records: {why}", code=trouble.get("code"))
        return int(said["num_pending"])
    except UNREADABLE as error:
        raise DecodeError(f"the broker's word on a consumer cannot be decoded: {error!r}") from error


def pull(consumer: str) -> str:
    """Where a consumer is asked for records."""
    return f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{consumer}"


async def ask(link: Link, consumer: str, inbox: str, count: int, **limits: int) -> None:
    """Ask a consumer for so many records; they come to the inbox. NotSentError where the link is lost."""
    body = json.dumps({"batch": count, "no_wait": True, **limits}).encode()
    await link.publish(pull(consumer), body, inbox)


async def delete(link: Link, consumer: str) -> None:
    """Delete a consumer; nothing where the link is lost: the broker deletes it by itself."""
    with contextlib.suppress(NotSentError):
        await link.publish(f"$JS.API.CONSUMER.DELETE.{STREAM}.{consumer}")


def numbers(message: Msg) -> tuple[int, int]:
    """Return a record's sequence in the stream, and which one it is for its consumer, from 1.

    They stand in the subject that it would be acknowledged to,
    ``$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<number>. ...``, with two more parts in front of the stream
    where the broker names its domain. The driver makes objects of all of it, which takes longer than the message does.

    Raises:
        DecodeError: they do not stand there.

    """
    parts = message.reply.split(".")
    at = 5 if len(parts) == 9 else 7
    try:
        return int(parts[at]), int(parts[at + 1])
    except (IndexError, ValueError):
        said = one_line(message.reply, _MOST_SAID)
        raise DecodeError(f"the broker does not say where a record lies: {said!r}") from None


def _left(message: Msg | None) -> int | None:
    """Return how many records of a request did not come, as they would have been too many bytes; None for a record."""
    headers = None if message is None else message.headers
    if not headers or headers.get("Status") != _ALL_OF_A_REQUEST:
        return None
    left = headers.get("Nats-Pending-Messages", "")
    return int(left) if left.isdigit() else None


class _Arrivals:
    """What a consumer sends to an inbox."""

    def __init__(self) -> None:
        self._arrived: collections.deque[Msg | None] = collections.deque()  # a Queue costs as much as decoding an event
        self._came = asyncio.Event()
        self._expected = 1

    async def hear(self, message: Msg) -> None:
        self._arrived.append(message)
        self._came.set()

    def ended(self, _: object) -> None:
        """Note that no more will come."""
        self._arrived.append(None)
        self._came.set()

    async def page(self, asked: int, timeout: float) -> tuple[list[Record], int, bool]:
        """Return a page of what was asked for, how much of it is still to come, and whether all is well."""
        page: list[Record] = []
        while len(page) < min(asked, _PAGE):
            if not self._arrived:
                self._came.clear()
                async with asyncio.timeout(timeout):
                    await self._came.wait()
            message = self._arrived.popleft()
            left = _left(message)
            if left is not None:
                asked -= left
                continue
            if message is None or (message.headers and "Status" in message.headers):
                return page, 0, False
            seq, number = numbers(message)
            if number != self._expected:  # the driver drops what comes too fast
                return page, 0, False
            self._expected += 1
            page.append(Record(message.subject, seq, message.data))
        return page, asked - len(page), bool(page)


async def read_on(link: Link, subject: str, seq: int, timeout: float) -> AsyncGenerator[list[Record], None]:
    """Iterate over pages of the records of a subject from a sequence on, in order and without a gap.

    It ends where there are no more, and, without a word, where anything is in the way: a lost link, a refusal, a record
    that was dropped or is larger than a page. Who reads goes on by direct gets behind the last page, and is told then.
    While a page is used the next one is on its way.
    """
    consumer = new_ulid()
    inbox = f"{link.inbox}.{consumer}.page"  # deeper than the replies, which have one part below the link's inbox
    arrivals = _Arrivals()
    config = {"deliver_policy": "by_start_sequence", "opt_start_seq": seq, "filter_subject": subject}
    try:
        unsubscribe = await link.subscribe(inbox, arrivals.hear)
    except GrctlError:
        return
    link.lost.add_done_callback(arrivals.ended)
    is_refused = False
    try:
        with link.telling_of_refusals(arrivals.ended, inbox, pull(consumer)):
            pending = await create(link, consumer, config, timeout)
            asked, goes_on = 0, True  # how many of those that are pending
            while pending > 0 and goes_on:
                while asked < pending and asked <= _PAGE:
                    await ask(link, consumer, inbox, _PAGE, max_bytes=_PAGE_BYTES)
                    asked += min(_PAGE, pending - asked)
                page, asked, goes_on = await arrivals.page(asked, timeout)
                pending -= len(page)
                if page:
                    yield page
    except AccessDeniedError:
        is_refused = True  # to make one: there is none to delete, which would be refused too, with a warning
    except (GrctlError, TimeoutError):
        return
    finally:
        link.lost.remove_done_callback(arrivals.ended)
        try:
            if not is_refused:
                await delete(link, consumer)
        finally:
            await unsubscribe()
