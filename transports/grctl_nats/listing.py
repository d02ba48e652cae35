"""list_runs: the RunInfo records of any number of runs, in constant memory, by a short-lived consumer."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from grctl_core.errors import (
    DecodeError,
    DeliveryUnknownError,
    NotSentError,
    ServerError,
)
from grctl_core.ids import new_ulid
from grctl_core.run import RunFilter, RunInfo
from grctl_nats import wire
from grctl_nats.consumer import ask, create, delete, numbers
from grctl_nats.link import Link
from grctl_nats.records import Records

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["list_runs"]

_BATCH = 256
_NOTHING_LEFT = "404"


async def list_runs(
    present_link: Callable[[], Link], run_filter: RunFilter, timeout: float
) -> AsyncGenerator[RunInfo, None]:
    """Iterate over the stored runs that the filter admits, in constant memory: but for their ids (some 100 bytes each)
    where something was written in the very moment in which the list began.

    Args:
        present_link: returns where to ask, at the first run that is asked for. When that link is lost the listing ends
            in an error: there is no place to go on from.
        run_filter: which runs.
        timeout: seconds that one page may take.

    Raises:
        DeliveryUnknownError: the broker did not answer, or the link was lost.
        DecodeError: records cannot be decoded; it comes after all that can be, and names their subjects.

    """
    # The consumer first brings one record of each run, and then what is written later. How many it says are pending
    # counts of the latter what was written by the time of its answer; so where something was written while it was
    # made, a run may come twice, and the ids have to be remembered. In all other cases they need not be.
    link = present_link()
    records = Records(lambda: link, timeout)
    consumer = new_ulid()  # a name of ours, so that it can be deleted also where the answer was not waited for
    inbox = f"{link.inbox}.{consumer}.list"  # deeper than the replies, which have one part below the link's inbox
    arrived: collections.deque[Msg | None] = collections.deque()  # a Queue costs as much as decoding a record does
    came = asyncio.Event()

    async def hear(message: Msg) -> None:
        arrived.append(message)
        came.set()

    def lost(_: asyncio.Future[None]) -> None:
        arrived.append(None)
        came.set()

    unsubscribe = await link.subscribe(inbox, hear)
    link.lost.add_done_callback(lost)
    try:
        before = (await records.state()).last_seq
        pending = await create(link, consumer, _config(run_filter), timeout)
        last_seq = (await records.state()).last_seq
        sieve = _Sieve(run_filter, last_seq, has_doubles=last_seq != before)
        asked = 0  # of those that are pending
        while pending > 0:
            while asked < pending and asked <= _BATCH // 2:  # one half of a page comes while the other is used
                try:
                    await ask(link, consumer, inbox, _BATCH // 2)
                except NotSentError as error:
                    raise _lost(link) from error  # not sent, but a part of the list may be out already
                asked += min(_BATCH // 2, pending - asked)
            for _ in range(min(asked, _BATCH // 2)):
                if not arrived:
                    await _wait(came, link, timeout)
                message = arrived.popleft()
                if message is None:
                    raise _lost(link)
                status = message.headers.get("Status") if message.headers else None
                if status == _NOTHING_LEFT:
                    pending = 0  # whatever the count said: records were purged meanwhile
                    break
                if status is not None:
                    raise ServerError(
                        f"the broker does not go on with the list: {status} "
                        f"{(message.headers or {}).get('Description', '')}".strip()
                    )
                asked -= 1
                pending -= 1
                info = sieve.take(message)
                if info is not None:
                    yield info
        sieve.done()
    finally:
        link.lost.remove_done_callback(lost)
        await delete(link, consumer)
        await unsubscribe()


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

    def take(self, message: Msg) -> RunInfo | None:
        """Return the run that a record tells of, None where it is not to be listed."""
        if numbers(message)[0] > self._last_seq:
            return None  # in the place of a purged one
        try:
            info = wire.decode_run_info(message.data)
        except DecodeError as error:
            self._unreadable += 1
            self._why = self._why or error
            if self._unreadable <= self._NAMED:
                self._first.append(message.subject)
            return None
        if self._seen is not None:
            if info.id in self._seen:
                return None
            self._seen.add(info.id)
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


async def _wait(came: asyncio.Event, link: Link, timeout: float) -> None:
    """Wait until something more comes."""
    came.clear()
    try:
        async with asyncio.timeout(timeout):
            await came.wait()
    except TimeoutError:
        raise DeliveryUnknownError(
            f"{link.server} has not gone on with the list within {timeout:g} s", link=link.number
        ) from None


def _lost(link: Link) -> DeliveryUnknownError:
    return DeliveryUnknownError(f"the connection to {link.server} was lost while listing", link=link.number)
