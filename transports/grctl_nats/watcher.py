"""Watcher: waits for the ends of any number of runs, with one task and one subscription for all of them.

What is stored decides. A live message is a hint that it is time to look, and never more: the broker shows messages
of a batch that is not committed yet, or never will be (docs/protocol.md, section 3), and anybody can write one.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from grctl_core.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    DecodeError,
    DeliveryUnknownError,
    GrctlError,
    InvalidInputError,
    UnsupportedOperationError,
    WorkflowNotFoundError,
    own_copy,
)
from grctl_core.outcome import EncodedOutcome
from grctl_core.run import RunInfo, RunRef
from grctl_nats import subjects, wire
from grctl_nats.ending import outcome_by_hint, read_outcome
from grctl_nats.later import Later
from grctl_nats.link import Link
from grctl_nats.records import Record, Records
from grctl_nats.tasks import end_tasks
from grctl_nats.uplink import closed_error

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["Watcher"]

_log = logging.getLogger("grctl.nats")

_BATCH = 256
_EVENT_BYTES = 8 * 1024 * 1024
"""Bytes of ends that are asked for at a time: they hold results, of any size."""
_AT_ONCE = 32
_SWEEP_EVERY = 30.0
"""Seconds after which all runs that are waited for are looked at without a hint: hints can be lost."""
_SWEEP_AFTER_DROP = 2.0
"""Seconds after which they are where hints are known to be lost. One sweep is for all that are lost until then: they
are lost as the client is too slow, and looking at everything for each of them would make it slower."""
_SWEEP_WITHOUT_HINTS = 2.0
"""Seconds after which they are where the broker refuses to let us hear any; longer for many runs."""
_RUNS_PER_SECOND = 5_000
"""How many runs lengthen that pause by a second, up to the usual one: a sweep of them takes about a tenth of it."""
_AFTER_HINT = (0.005, 0.02, 0.08, 0.32, 1.0)
"""Seconds between looks at a run that was hinted to have ended, or whose record is missing."""
_AFTER_FIRST_LOOK = (0.05, 1.0)
"""Seconds between the first look at a run and two more. The messages of a batch go out before it is committed, so a
hint can have gone by before we listened while the storage does not show it yet."""
_AFTER_START = 1.0
"""Seconds after which a run is looked at that was started here while we listened: its end has a hint."""
_STARTS = 10_000
"""How many of them are remembered until somebody waits for them."""


_NO_MORE: Iterator[float] = iter(())
_NOT_STARTED_HERE = object()

_Key: TypeAlias = tuple[str, str]
"""A workflow id and a run id: run ids are made by clients, and one may use the same for two workflow ids."""


class _Wait:
    """One run that is waited for.

    Attributes:
        run: the run.
        key: tells it apart.
        futures: of those who wait.
        is_settling: whether its end is being read.
        hint: the record that went by, where it says that the run has ended.
        pauses: after which it is to be looked at again, if it goes on.
        missing: how often its record was not there.
    """

    __slots__ = ("futures", "hint", "is_settling", "key", "missing", "pauses", "run")

    def __init__(self, run: RunRef, key: _Key) -> None:
        self.run = run
        self.key = key
        self.futures: list[_Future] = []
        self.pauses: Iterator[float] = iter(_AFTER_FIRST_LOOK)
        self.missing = 0
        self.is_settling = False
        self.hint: RunInfo | None = None


class _Future(asyncio.Future[EncodedOutcome]):
    """What one who waits gets. It knows its run, so that one callback serves all of them."""

    __slots__ = ("key",)

    def __init__(self, key: _Key, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.key = key


class Watcher:
    """Waits for the ends of runs.

    Args:
        records: where the ends are stored.
        on_running: told of each run that was seen to go on, with its record.
        on_end: told of each run that somebody waits for when its end is known, with its record.
    """

    def __init__(
        self,
        records: Records,
        on_running: Callable[[RunInfo], object],
        on_end: Callable[[RunInfo], object] = lambda _: None,
    ) -> None:
        self._records = records
        self._on_running = on_running
        self._on_end = on_end
        self._context = contextvars.Context()  # of all callbacks here: none of them runs anybody else's code
        self._forgets = self._forget
        # Runs that were started here while we listened, with the hint of an end that nobody has waited for yet.
        self._started: dict[_Key, RunInfo | None] = {}
        self._later = Later(self._look_at)
        self._loop = asyncio.get_running_loop()
        self._waits: dict[_Key, _Wait] = {}
        self._due: dict[_Key, None] = {}
        self._wake = asyncio.Event()
        self._link: Link | None = None
        self._listening: Link | None = None
        self._pump: asyncio.Task[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_due = math.inf
        self._deaf = False
        self._unsubscribe: Callable[[], Awaitable[None]] | None = None
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._settlers: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._waits)

    def watch(self, run: RunRef) -> asyncio.Future[EncodedOutcome]:
        """Return a new future of the run's end; see ``grctl_core.protocols.Connection.watch``."""
        key = run.wf_id, run.run_id
        future = _Future(key, self._loop)
        wait = self._waits.get(key)
        if wait is None:
            wait = self._waits[key] = _Wait(run, key)
            hint = self._started.pop(key, _NOT_STARTED_HERE)
            if isinstance(hint, RunInfo):
                wait.hint, wait.pauses = hint, iter(_AFTER_HINT)
            if hint is None:  # its end will be heard
                wait.pauses = _NO_MORE
                self._again(wait, _AFTER_START)
            else:
                self._look_at(key)
        else:
            self._look_at(key)
        wait.futures.append(future)
        future.add_done_callback(self._forgets, context=self._context)
        if self._pump is None:
            # An empty context, or the task would keep the span of whoever happened to wait first.
            self._pump = self._loop.create_task(self._run(), name="grctl-nats-watcher", context=contextvars.Context())
        return future

    def starts(self, run: RunRef) -> None:
        """Note that a run is about to be started here: from now on its end is heard, if we listen."""
        if self._listening is not None and self._listening is self._link and not self._deaf:
            # One that is sent again may have ended by the first time.
            self._started.setdefault((run.wf_id, run.run_id), None)
            if len(self._started) > _STARTS:
                del self._started[next(iter(self._started))]

    def link_up(self, link: Link) -> None:
        """Look at everything over a new link: whatever happened in between was not heard."""
        self._link = link
        self._started.clear()
        for key, wait in self._waits.items():
            wait.pauses = iter(_AFTER_FIRST_LOOK)
            self._due[key] = None
        self._wake.set()

    def hints_lost(self) -> None:
        """Look at everything soon: hints were lost. May be called very often."""
        self._started.clear()
        if self._sweeper is not None and self._sweep_due > self._loop.time() + _SWEEP_AFTER_DROP:
            self._sweep_in(_SWEEP_AFTER_DROP)

    async def close(self) -> None:
        """Stop; who still waits gets a ConnectionClosedError."""
        if self._pump is not None:
            await end_tasks(self._pump)
            await end_tasks(*self._settlers)
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._later.close()
        for wait in list(self._waits.values()):
            self._fail(wait, closed_error())

    def _forget(self, future: _Future) -> None:
        key = future.key
        wait = self._waits.get(key)
        if wait is None or future not in wait.futures:
            return
        wait.futures.remove(future)
        if not wait.futures:
            del self._waits[key]
            self._due.pop(key, None)

    def _look_at(self, key: _Key) -> None:
        if key in self._waits:
            self._due[key] = None
            self._wake.set()

    async def _run(self) -> None:
        self._sweep_in(_SWEEP_EVERY)
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._listen()
                while self._due:
                    if self._listening is not self._link:  # there is a new one since
                        await self._listen()
                    keys = list(self._due)[:_BATCH]
                    for key in keys:
                        del self._due[key]
                    await self._confirm([self._waits[key] for key in keys if key in self._waits])
            except Exception:  # noqa: BLE001 - nothing may end this task: ten thousands may wait for it
                _log.exception("looking at runs failed in an unexpected way, the next sweep tries again")

    def _sweep_in(self, seconds: float) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._sweep_due = self._loop.time() + seconds
        self._sweeper = self._loop.call_later(seconds, self._sweep, context=contextvars.Context())

    def _sweep(self) -> None:
        self._sweep_in(self._pause_without_hints() if self._deaf else _SWEEP_EVERY)
        for key in self._waits:
            self._due[key] = None
        self._wake.set()  # also where nobody waits any more: then the hints are not wanted either

    async def _listen(self) -> None:
        """Subscribe to the hints, once per link; before looking, or what comes in between would be missed.

        They are those of all tenants' runs. Where nobody waits any more they are unsubscribed, at the next sweep: so
        that who waits for one short run after the other does not subscribe for each.
        """
        link = self._link
        if not self._waits:
            unsubscribe, self._unsubscribe, self._listening = self._unsubscribe, None, None
            self._started.clear()
            if unsubscribe is not None:
                await unsubscribe()
            return
        if link is None or link is self._listening:
            return
        try:
            self._deaf = False
            self._unsubscribe = await link.subscribe(subjects.ALL_RUN_INFO, self._hear, self._hints_refused)
        except ConnectionFailedError:
            return
        self._listening = link

    def _hints_refused(self) -> None:
        self._deaf = True
        self._started.clear()
        self._sweep_in(self._pause_without_hints())

    def _pause_without_hints(self) -> float:
        return min(_SWEEP_EVERY, _SWEEP_WITHOUT_HINTS + len(self._waits) / _RUNS_PER_SECOND)

    async def _hear(self, message: Msg) -> None:
        run = subjects.run_of_run_info(message.subject)
        if run is None:
            return
        key = run.wf_id, run.run_id
        wait = self._waits.get(key)
        if wait is None and key not in self._started:
            return
        try:
            info = wire.decode_run_info(message.data, run)
        except DecodeError:
            info = None  # what is stored decides, and may be better
        if info is not None and not _may_have_ended(info):
            return
        if wait is not None:
            wait.hint, wait.pauses = info, iter(_AFTER_HINT)
            self._look_at(key)
        elif info is not None:
            self._started[key] = info
        else:
            del self._started[key]

    async def _confirm(self, waits: list[_Wait]) -> None:
        """Look at what is stored of some runs, and settle those that have ended."""
        try:
            waits = await self._settle_by_hints(waits)
            records = await self._read(waits)
        except (ConnectionFailedError, DeliveryUnknownError):
            if self._link is not None and self._link.is_up:  # else the next link looks at all of them
                for wait in waits:
                    self._again(wait, _AFTER_HINT[-1])
            return
        except AccessDeniedError as error:
            for wait in waits:
                self._fail(wait, error)
            return
        except GrctlError as error:
            await self._confirm_singly(waits, error)
            return
        for wait in waits:
            record = records.get(wait.key)
            if record is None:
                self._missing(wait)
                continue
            wait.missing = 0
            try:
                info = wire.decode_run_info(record.body, wait.run)
            except DecodeError as error:
                self._fail(wait, error)
                continue
            if _may_have_ended(info):
                await self._begin_to_settle(wait, info, record.seq)
            else:
                self._goes_on(wait, info)

    async def _confirm_singly(self, waits: list[_Wait], error: GrctlError) -> None:
        """Look at runs that could not be looked at together: what is wrong with one of them is not with the others."""
        if len(waits) > 1:
            for wait in waits:
                await self._confirm([wait])
        elif isinstance(error, InvalidInputError | DecodeError):
            self._fail(waits[0], error)  # it will be the same the next time
        else:
            _log.debug("run %s cannot be looked at: %s", waits[0].run.run_id, error)
            self._again(waits[0], _AFTER_HINT[-1])

    async def _settle_by_hints(self, waits: list[_Wait]) -> list[_Wait]:
        """Settle the runs whose last stored event is the end that a hint was of; return the others."""
        hinted = [wait for wait in waits if wait.hint is not None]
        if not hinted:
            return waits
        wanted = [subjects.history(wait.run) for wait in hinted]
        events = {record.subject: record for record in await self._stored(wanted, _EVENT_BYTES)}
        others = [wait for wait in waits if wait.hint is None]
        for wait, subject in zip(hinted, wanted, strict=True):
            event = events.get(subject)
            try:
                outcome = None if event is None or wait.hint is None else outcome_by_hint(wait.hint, event)
            except DecodeError:
                outcome = None  # to be read once more, and said then
            if outcome is None:
                others.append(wait)
            else:
                self._end(wait, outcome)
        return others

    async def _read(self, waits: list[_Wait]) -> dict[_Key, Record]:
        """Return the RunInfo records of those that have one."""
        found = await self._stored([subjects.run_info(wait.run) for wait in waits])
        runs = ((subjects.run_of_run_info(record.subject), record) for record in found)
        return {(run.wf_id, run.run_id): record for run, record in runs if run is not None}

    async def _stored(self, wanted: list[str], most_bytes: int | None = None) -> list[Record]:
        """Return the last records of subjects; none where the broker says that the stream is gone."""
        try:
            if len(wanted) == 1 and "*" not in wanted[0]:
                record = await self._records.last(wanted[0])
                return [] if record is None else [record]
            return await self._records.last_of_each(wanted, most_bytes)
        except UnsupportedOperationError:
            # Nobody answers for the stream: it is gone, or it only has no leader for a moment.
            if await self._records.exists():
                raise DeliveryUnknownError("the stream cannot be read at the moment") from None
            return []

    def _end(self, wait: _Wait, outcome: EncodedOutcome) -> None:
        for future in list(wait.futures):
            if not future.done():
                future.set_result(outcome)
        self._on_end(outcome.run)

    async def _begin_to_settle(self, wait: _Wait, info: RunInfo, seq: int) -> None:
        """Have a run's end read by a task of its own: one that takes long keeps nobody else waiting."""
        if wait.is_settling:
            return  # if it turns out to go on it is looked at again
        await self._gate.acquire()
        wait.is_settling = True
        task = self._loop.create_task(
            self._settle(wait, info, seq), name="grctl-nats-ending", context=contextvars.Context()
        )
        self._settlers.add(task)

        def settled(task: asyncio.Task[None]) -> None:
            wait.is_settling = False
            self._settlers.discard(task)
            self._gate.release()

        task.add_done_callback(settled, context=contextvars.Context())

    async def _settle(self, wait: _Wait, info: RunInfo, seq: int) -> None:
        try:
            outcome = await read_outcome(self._records, info, seq)
        except (ConnectionFailedError, DeliveryUnknownError):
            self._again(wait, next(wait.pauses, _AFTER_HINT[-1]))
            return
        except GrctlError as error:
            self._fail(wait, error)
            return
        except Exception:  # noqa: BLE001 - it goes on to be waited for
            _log.exception("reading how a run ended failed in an unexpected way, the next sweep tries again")
            return
        if outcome is None:
            self._goes_on(wait, info)
        else:
            self._end(wait, outcome)

    def _goes_on(self, wait: _Wait, info: RunInfo) -> None:
        self._on_running(info)
        pause = next(wait.pauses, None)
        if pause is not None:
            self._again(wait, pause)
        else:
            wait.hint, wait.pauses = None, _NO_MORE

    def _missing(self, wait: _Wait) -> None:
        if wait.missing >= len(_AFTER_HINT):
            run = wait.run
            self._fail(
                wait,
                WorkflowNotFoundError(
                    f"run {run.run_id} of workflow {run.wf_id!r} has no records: it never was, or they are gone "
                    "(purged, or the server was reset)"
                ),
            )
            return
        self._again(wait, _AFTER_HINT[wait.missing])
        wait.missing += 1

    def _again(self, wait: _Wait, pause: float) -> None:
        self._later.call(wait.key, pause)

    def _fail(self, wait: _Wait, error: GrctlError) -> None:
        for future in list(wait.futures):
            if not future.done():
                future.set_exception(own_copy(error))
                future.exception()  # one that nobody looks at is no news


def _may_have_ended(info: RunInfo) -> bool:
    """Whether the record says that the run has ended; one without a status says nothing (section 8, 1)."""
    return info.is_finished or info.completed_at is not None or info.status is None
