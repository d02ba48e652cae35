"""list_runs: the RunInfo records of any number of runs, in constant memory, by a short-lived consumer."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from grctl_core.errors import (
    DecodeError,
    DeliveryUnknownError,
    GrctlError,
    NotSentError,
    ServerError,
)
from grctl_core.ids import new_ulid
from grctl_core.run import RunFilter, RunInfo
from grctl_core.safe_text import one_line
from grctl_nats import subjects, wire
from grctl_nats.consumer import FORGOTTEN_AFTER_SECONDS, ask, create, delete, numbers, pull
from grctl_nats.link import Link
from grctl_nats.records import Records

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["list_runs"]

_HALF = 128
"""Messages in half a page. One half comes while the other is used."""
_NOTHING_LEFT, _NOBODY_THERE = "404", "503"
_FEWER_LEFT = "408"
"""The broker refuses a request at once where fewer records are left than earlier ones wait for; theirs still come."""
_MOST_SAID = 300
"""Characters of the broker's words that stand in an error."""


async def list_runs(
    present_link: Callable[[], Link], run_filter: RunFilter, timeout: float
) -> AsyncGenerator[RunInfo, None]:
    """Iterate over the stored runs that the filter admits, in constant memory: but for their names (some 150 bytes
    each) where something was written in the very moment in which the list began.

    Args:
        present_link: returns where to ask, at the first run that is asked for. When that link is lost the listing ends
            in an error: there is no place to go on from.
        run_filter: which runs.
        timeout: seconds that one page may take.

    Raises:
        DeliveryUnknownError: the broker did not answer, or the link was lost.
        AccessDeniedError: the broker refuses one of the subjects.
        DecodeError: records cannot be decoded; it comes after all that can be, and names their subjects.

    """
    # The consumer first brings one record of each run, and then what is written later. How many it says are pending
    # counts of the latter what was written by the time of its answer; so where something was written while it was
    # made, a run may come twice, and the names have to be remembered; not the run ids alone, as clients make them, and
    # one may use the same for two workflow ids. In all other cases they need not be.
    link = present_link()
    records = Records(lambda: link, timeout)
    consumer = new_ulid()  # a name of ours, so that it can be deleted also where the answer was not waited for
    inbox = f"{link.inbox}.{consumer}.list"  # deeper than the replies, which have one part below the link's inbox
    arrivals = _Arrivals(link, timeout)

    def lost(_: asyncio.Future[None]) -> None:
        arrivals.end(_lost(link))

    unsubscribe = await link.subscribe(inbox, arrivals.hear)
    link.lost.add_done_callback(lost)
    try:
        with link.telling_of_refusals(arrivals.end, inbox, pull(consumer)):
            before = (await records.state()).last_seq
            pending = await create(link, consumer, _config(run_filter), timeout)
            last_seq = (await records.state()).last_seq
            sieve = _Sieve(run_filter, last_seq, has_doubles=last_seq != before)
            pages = _read(link, arrivals, pending, consumer=consumer, inbox=inbox)
            async with contextlib.aclosing(pages):
                async for page in pages:
                    for seq, message in page:
                        info = sieve.take(seq, message)
                        if info is not None:
                            yield info
            sieve.done()
    finally:
        link.lost.remove_done_callback(lost)
        try:
            await delete(link, consumer)
        finally:
            await unsubscribe()


class _Arrivals:
    """What a consumer sends to an inbox, in its order. An asyncio.Queue costs as much as decoding a record does.

    Args:
        link: where it comes from.
        timeout: seconds to wait for the next message.
    """

    def __init__(self, link: Link, timeout: float) -> None:
        self._link = link
        self._timeout = timeout
        self._arrived: collections.deque[Msg | GrctlError] = collections.deque()
        self._came = asyncio.Event()

    async def hear(self, message: Msg) -> None:
        """Take a message; async, as the driver wants its callbacks."""
        self._arrived.append(message)
        self._came.set()

    def end(self, why: GrctlError) -> None:
        """Raise this behind what has come so far."""
        self._arrived.append(why)
        self._came.set()

    async def some(self) -> collections.deque[Msg | GrctlError]:
        """Return what is there, at least one; whoever takes something removes it."""
        while not self._arrived:
            self._came.clear()
            try:
                async with asyncio.timeout(self._timeout):
                    await self._came.wait()
            except TimeoutError:
                raise DeliveryUnknownError(
                    f"{self._link.server} has not gone on with the list within {self._timeout:g} s",
                    link=self._link.number,
                ) from None
        return self._arrived


async def _read(
    link: Link, arrivals: _Arrivals, pending: int, *, consumer: str, inbox: str
) -> AsyncGenerator[list[tuple[int, Msg]], None]:
    """Pull what the consumer has; yield it by half pages, each message once, in order, with its stream sequence."""
    number = 0  # of the consumer's message that came last
    asked = 0  # of those that are pending
    arrived: collections.deque[Msg | GrctlError] = collections.deque()
    while pending > 0:
        while asked < pending and asked <= _HALF:
            try:
                await ask(link, consumer, inbox, _HALF)
            except NotSentError as error:
                raise _lost(link) from error  # not sent, but a part of the list may be out already
            asked += min(_HALF, pending - asked)
        page: list[tuple[int, Msg]] = []
        while len(page) < min(_HALF, asked):
            if not arrived:
                arrived = await arrivals.some()
            message = arrived.popleft()
            if isinstance(message, GrctlError):
                raise message
            if message.headers and (status := message.headers.get("Status")) is not None:
                if status == _FEWER_LEFT:
                    asked = max(asked - _HALF, len(page))
                    continue
                if status != _NOTHING_LEFT:
                    raise _stopped(status, message.headers)
                yield page
                return  # whatever the count said: records were purged meanwhile
            seq, place = numbers(message)
            if place <= number:
                continue  # it came twice
            number += 1
            if place != number:
                raise DeliveryUnknownError(
                    f"a part of the list was lost on its way from {link.server}", link=link.number
                )
            page.append((seq, message))
        pending -= len(page)
        asked -= len(page)
        yield page


def _config(run_filter: RunFilter) -> dict[str, str]:
    filter_subject = f"grctl_run.{run_filter.workflow_type or '*'}.*.*.info"
    return {"deliver_policy": "last_per_subject", "filter_subject": filter_subject}


class _Sieve:
    """What of all records that come belongs into the list; and which of them cannot be decoded."""

    _NAMED = 5

    def __init__(self, run_filter: RunFilter, last_seq: int, *, has_doubles: bool) -> None:
        self._filter = run_filter
        self._last_seq = last_seq
        self._seen: set[str] | None = set() if has_doubles else None
        self._unreadable = 0
        self._first: list[str] = []
        self._why: DecodeError | None = None

    def take(self, seq: int, message: Msg) -> RunInfo | None:
        """Return the run that a record tells of, None where it is not to be listed."""
        if seq > self._last_seq:
            return None  # in the place of a purged one
        try:
            info = wire.decode_run_info(message.data, subjects.run_of_run_info(message.subject))
        except DecodeError as error:
            self._unreadable += 1
            self._why = self._why or error
            if self._unreadable <= self._NAMED:
                self._first.append(message.subject)
            return None
        if self._seen is not None:
            if message.subject in self._seen:
                return None
            self._seen.add(message.subject)
        return info if self._filter.admits(info) else None

    def done(self) -> None:
        """Say what could not be decoded.

        Raises:
            DecodeError: there was something.

        """
        if self._why is not None:
            more = self._unreadable - len(self._first)
            names = ", ".join(self._first) + (f" and {more} more" if more else "")
            raise DecodeError(
                f"{self._unreadable} of the stored records cannot be read, all others are listed: {names} ({self._why})"
            ) from self._why


def _stopped(status: str, headers: dict[str, str]) -> ServerError:
    if status == _NOBODY_THERE:
        return ServerError(
            "the broker does not go on with the list: it has forgotten how far it was, as nothing was taken for "
            f"{FORGOTTEN_AFTER_SECONDS} s, or as it was restarted. Take all runs first, where what you do with each "
            "of them takes long"
        )
    said = one_line(f"{status} {headers.get('Description', '')}", _MOST_SAID)
    return ServerError(f"the broker does not go on with the list: {said}")


def _lost(link: Link) -> DeliveryUnknownError:
    return DeliveryUnknownError(f"the connection to {link.server} was lost while listing", link=link.number)
