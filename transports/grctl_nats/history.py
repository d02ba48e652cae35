"""read_history: a run's history, by pages of direct gets, and by a short-lived consumer where it is long."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from grctl_core.errors import (
    DecodeError,
    DeliveryUnknownError,
    NotSentError,
    UnsupportedOperationError,
    WorkflowNotFoundError,
)
from grctl_core.history import HistoryEvent
from grctl_core.run import RunRef
from grctl_nats import subjects, wire
from grctl_nats.consumer import read_on
from grctl_nats.ending import has_ended
from grctl_nats.records import Record, Records
from grctl_nats.uplink import Uplink

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from grctl_nats.link import Link

__all__ = ["find_run_info", "read_history"]

_PAGE = 256
_PAGES_BEFORE_CONSUMER = 4
"""Full pages after which the rest is read by a consumer, which costs as much as two pages to make."""
_LOOK_EVERY = 5.0
"""Seconds after which a follower looks again without a hint: hints can be lost."""
_LOOK_WITHOUT_HINTS = 1.0
"""Seconds after which it does where the broker refuses to let it hear any."""
_AFTER_HINT = (0.005, 0.02, 0.08, 0.32)
"""Seconds between looks after a hint: it can come before the storage shows what it hints at."""
_AFTER_LISTENING = (0.05, 1.0)
"""Seconds between looks after beginning to listen: a hint can have gone by before, of what is not stored yet."""
_READ_TRIES = 3
_BETWEEN_TRIES = 0.05
"""Seconds: so that what fails at once is not repeated in a tight loop."""

T = TypeVar("T")


async def find_run_info(records: Records, run: RunRef) -> bytes | None:
    """Return the stored RunInfo record of exactly this run, encoded; None where there is none."""
    subject = subjects.run_info(run)
    if run.wf_type is not None:
        record = await records.last(subject)
        return None if record is None else record.body
    found = await records.last_of_each([subject])
    return found[-1].body if found else None


async def read_history(records: Records, uplink: Uplink, run: RunRef, *, follow: bool) -> AsyncIterator[HistoryEvent]:
    """Iterate over a run's history; see ``grctl_core.protocols.Connection.history``.

    It goes on over a new link where the old one is lost: each page says from which sequence on it is wanted, so there
    is no gap and no duplicate.
    """
    subject = subjects.history(run)
    hints = _Hints(uplink, subject)
    next_seq = 1
    ended = terminal_event = False
    pages = 0
    try:
        while True:
            if follow:
                await hints.listen()  # before looking, or what comes in between would be missed

            page = functools.partial(records.page, subject, next_seq, _PAGE)
            found = await _through_losses(uplink, records, page, for_ever=follow)
            for record in found:
                event = _decode(run, record)  # one that cannot be decoded withholds none before it
                terminal_event = terminal_event or event.is_terminal
                yield event
            if found:
                next_seq = found[-1].seq + 1
                pages = pages + 1 if len(found) == _PAGE else 0
                if pages == _PAGES_BEFORE_CONSUMER:
                    pages = 0
                    link = await uplink.wait_up()
                    async with contextlib.aclosing(read_on(link, subject, next_seq, records.timeout)) as more:
                        async for found in more:
                            for record in found:
                                event = _decode(run, record)
                                terminal_event = terminal_event or event.is_terminal
                                yield event
                            next_seq = found[-1].seq + 1
                continue
            if ended or (not follow and next_seq > 1):
                return  # what was stored when the run had ended has been read after that
            info = await _through_losses(uplink, records, lambda: find_run_info(records, run), for_ever=follow)
            if info is None:
                raise WorkflowNotFoundError(
                    f"run {run.run_id} of workflow {run.wf_id!r} is not known: it never was, or its records are gone"
                )
            if not follow:
                return
            known = wire.decode_run_info(info, run)
            look = functools.partial(has_ended, records, known, terminal_event=terminal_event)
            ended = await _through_losses(uplink, records, look, for_ever=True)
            if not ended:
                await hints.wait()
    finally:
        await hints.stop()


def _decode(run: RunRef, record: Record) -> HistoryEvent:
    try:
        return wire.decode_event(record.body, record.seq)
    except DecodeError as error:
        said = f"event {record.seq} in the history of run {run.run_id} of workflow {run.wf_id!r}: {error}"
    raise DecodeError(said)  # not from the other one, whose frames hold what was to be decoded


async def _through_losses(uplink: Uplink, records: Records, read: Callable[[], Awaitable[T]], *, for_ever: bool) -> T:
    """Read, and again where the link is lost meanwhile, or nobody answers for the stream for a moment."""
    tries = 0
    while True:
        try:
            try:
                return await read()
            except UnsupportedOperationError:
                # Nobody answers for the stream: it is gone, or it only has no leader while a broker starts.
                if not await records.exists():
                    raise
                raise DeliveryUnknownError("the stream cannot be read at the moment") from None
        except (NotSentError, DeliveryUnknownError):
            tries += 1
            if tries == _READ_TRIES and not for_ever:
                raise
            await asyncio.sleep(_BETWEEN_TRIES)
            await uplink.wait_up()


class _Hints:
    """Hears of new events of one history, over whatever link is up."""

    def __init__(self, uplink: Uplink, subject: str) -> None:
        self._uplink = uplink
        self._subject = subject
        self._heard = asyncio.Event()
        self._link: Link | None = None
        self._unsubscribe: Callable[[], Awaitable[None]] | None = None
        self._pauses: Iterator[float] = iter(())
        self._deaf = False

    async def listen(self) -> None:
        """Subscribe, unless that is done already over the present link."""
        while True:
            link = await self._uplink.wait_up()
            if link is self._link:
                return
            try:
                self._deaf = False
                self._unsubscribe = await link.subscribe(self._subject, self._hear, self._refused)
            except NotSentError:
                continue
            self._link = link
            self._pauses = iter(_AFTER_LISTENING)
            return

    async def wait(self) -> None:
        """Wait until something may be new."""
        if self._link is None:
            return
        pause = next(self._pauses, _LOOK_WITHOUT_HINTS if self._deaf else _LOOK_EVERY)
        self._link.lost.add_done_callback(self._link_lost)
        try:
            async with asyncio.timeout(pause):
                await self._heard.wait()
        except TimeoutError:
            pass
        finally:
            self._link.lost.remove_done_callback(self._link_lost)
        if self._heard.is_set():
            self._heard.clear()
            self._pauses = iter(_AFTER_HINT)

    async def stop(self) -> None:
        """Unsubscribe."""
        if self._unsubscribe is not None:
            await self._unsubscribe()

    async def _hear(self, _: Msg) -> None:
        self._heard.set()

    def _refused(self) -> None:
        self._deaf = True
        self._heard.set()  # or it would wait on for a hint first

    def _link_lost(self, _: asyncio.Future[None]) -> None:
        self._heard.set()
