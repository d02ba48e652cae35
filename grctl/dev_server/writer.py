"""Writer: brings changes into the stream, in order, each whole or not at all, each once.

One atomic batch is on its way at a time; what comes meanwhile goes together into the next one. Each batch names the
sequence that it expects the stream to end with (``Nats-Expected-Last-Sequence``), so

- the sequences of its messages are known before it is sent, and can be in the messages;
- an attempt without an answer can be repeated: at most one of the two is taken.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from grctl.dev_server.change import Change, Message
from grctl.dev_server.errors import DevServerError, LinkLostError, StreamLostError
from grctl.dev_server.link import Link, LinkKeeper
from grctl.dev_server.stream import get_message, read_state
from grctl_nats import subjects
from grctl_nats.tasks import end_tasks

__all__ = ["Writer"]

MAX_MESSAGES = 900
"""In one batch; the broker takes 1,000."""

MAX_BYTES = 8 * 1024 * 1024
"""In one batch, about."""

_MARK = "Grctl-Batch"
"""Header of the last message of each batch, by which an attempt without an answer is found again."""

_WRONG_LAST_SEQUENCE = 10071
_log = logging.getLogger("grctl.dev_server")


class _RefusedError(DevServerError):
    """The broker refused a batch."""


class _Batch(NamedTuple):
    """A batch of which it is not known whether the stream took it."""

    mark: str
    last: int
    """The sequence of its last message, if it was taken."""


class Writer:
    """Writes to the stream. The stream has no other writer; should there be one, it costs a repetition."""

    def __init__(self, links: LinkKeeper) -> None:
        self._links = links
        self._changes: deque[Change] = deque()
        self._written = 0
        self._committed = 0
        self._waiting: deque[tuple[int, Callable[[], Awaitable[None]]]] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._last = 0
        self._in_flight: _Batch | None = None
        self._generation = 0
        self._nobody_waits = asyncio.Event()
        self._nobody_waits.set()

    @property
    def pending(self) -> int:
        """How many changes are not yet in the stream."""
        return self._written - self._committed

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="grctl-dev-writer")

    def write(self, change: Change) -> None:
        """Have a change written, after all earlier ones."""
        self._changes.append(change)
        self._written += 1
        self._nobody_waits.clear()
        self._wake.set()

    async def after(self, action: Callable[[], Awaitable[None]]) -> None:
        """Have something done once everything that was written so far is in the stream; at once if it is."""
        if self._committed == self._written and not self._waiting:
            await action()
        else:
            self._waiting.append((self._written, action))
            self._nobody_waits.clear()
            self._wake.set()

    async def flush(self) -> None:
        """Wait until everything is in the stream, and what was to follow is done."""
        await self._nobody_waits.wait()

    async def flush_within(self, seconds: float) -> None:
        """Wait likewise, but so long at most.

        Raises:
            TimeoutError: that was not enough.

        """
        await asyncio.wait_for(self.flush(), seconds)

    def reset(self, last_seq: int) -> None:
        """Go on after this sequence, in a stream that is new to us.

        What was for another one is forgotten, the batch that is in flight too, and what was to follow is not done.
        """
        self._generation += 1
        self._changes.clear()
        self._waiting.clear()
        self._committed = self._written
        self._link = None
        self._last = last_seq
        self._in_flight = None
        self._wake.set()

    async def wrote_last(self, link: Link, last_seq: int) -> bool:
        """Return whether the last message of the stream, which has this sequence, is from here.

        Raises:
            LinkLostError: the broker does not answer.

        """
        batch = self._in_flight
        if batch is not None and last_seq == batch.last:
            return await _has_mark(link, batch.last, batch.mark)
        return last_seq == self._last

    async def close(self) -> None:
        """Stop writing."""
        if self._task is not None:
            await end_tasks(self._task)
            self._task = None

    async def _run(self) -> None:
        while True:
            while not self._changes and not self._waiting:
                self._nobody_waits.set()
                self._wake.clear()
                await self._wake.wait()
            group = self._take_group()
            if group:
                generation = self._generation
                try:
                    await self._commit([message for change in group for message in change.messages])
                except StreamLostError as error:
                    _log.debug("not stored: %s", error)
                except Exception:  # noqa: BLE001 - all other runs go on
                    _log.exception("what happened to some runs cannot be stored")
                if generation != self._generation:
                    continue  # all that was written until then counts as done with
                self._committed += len(group)
                await self._tidy_up(group)
            while self._waiting and self._waiting[0][0] <= self._committed:
                try:
                    await self._waiting.popleft()[1]()
                except Exception:  # noqa: BLE001 - so do all other commands
                    _log.exception("a command cannot be answered")

    def _take_group(self) -> list[Change]:
        group: list[Change] = []
        count = size = 0
        while self._changes:
            change = self._changes[0]
            count += len(change.messages)
            size += sum(len(message.body) for message in change.messages if isinstance(message.body, bytes))
            if group and (count > MAX_MESSAGES or size > MAX_BYTES):
                break
            group.append(self._changes.popleft())
        return group

    async def _commit(self, messages: list[Message]) -> None:
        messages = [message for message in messages if not message.dropped]
        # A single change may be too big for one batch, with very many values for the store: its end, which is what
        # counts, is a batch of its own then.
        generation = self._generation
        while messages:
            length = len(messages) % MAX_MESSAGES or MAX_MESSAGES
            await self._commit_batch(messages[:length], generation)
            del messages[:length]

    async def _commit_batch(self, messages: list[Message], generation: int) -> None:
        mark = os.urandom(12).hex()
        attempts = 0
        batch: _Batch | None = None  # once there was an attempt
        while True:
            link = await self._links.current()
            # Here alone it matters: the stream is only ever exchanged between two links.
            if generation != self._generation:
                raise StreamLostError("the stream that it was for is gone")
            try:
                if link is not self._link:
                    self._last = (await read_state(link)).last_seq
                    self._link = link
                    if batch is not None and batch.last <= self._last and await _has_mark(link, batch.last, mark):
                        break
                batch = self._in_flight = _Batch(mark, self._last + len(messages))
                await self._attempt(link, messages, mark, attempts)
                self._last = batch.last
                break
            except LinkLostError:
                self._link = None
            except DevServerError as error:
                self._link = None  # what the stream holds is looked at again
                if attempts:
                    _log.warning("the broker refuses a batch, which is tried again: %s", error)
                    await asyncio.sleep(min(0.05 * attempts, 1.0))
            attempts += 1
        self._in_flight = None

    async def _attempt(self, link: Link, messages: list[Message], mark: str, attempt: int) -> None:
        for seq, message in enumerate(messages, self._last + 1):
            message.seq = seq
        last = len(messages)
        headers: dict[str, str] = {}
        for number, message in enumerate(messages, 1):
            headers = {}
            if last > 1:
                # An id for each attempt: the broker may still hold a part of the last one.
                headers = {"Nats-Batch-Id": f"{mark}.{attempt}", "Nats-Batch-Sequence": str(number)}
            if number == 1:
                headers["Nats-Expected-Last-Sequence"] = str(self._last)
            if number < last:
                await link.publish(message.subject, message.encoded(), headers)
        if last > 1:
            headers["Nats-Batch-Commit"] = "1"
        headers[_MARK] = mark
        message = messages[-1]
        answer = json.loads((await link.request(message.subject, message.encoded(), headers)).data)
        if "error" in answer:
            raise _RefusedError(f"{answer['error'].get('description')} ({answer['error'].get('err_code')})")
        if answer["seq"] != message.seq:
            raise _RefusedError(f"sequence {answer['seq']} instead of {message.seq}")

    async def _tidy_up(self, group: list[Change]) -> None:
        """Delete what has become obsolete. What a lost link keeps from being deleted stays."""
        link = self._links.up
        if link is None:
            return
        try:
            for change in group:
                for message in change.obsolete:
                    if not message.dropped:
                        body = json.dumps({"seq": message.seq, "no_erase": True}).encode()
                        await link.publish(f"$JS.API.STREAM.MSG.DELETE.{subjects.STREAM}", body)
                for subject in change.purge:
                    what: dict[str, object] = {"filter": subject}
                    if change.messages:  # what comes later stays
                        what["seq"] = change.messages[-1].seq
                    body = json.dumps(what).encode()
                    await link.publish(f"$JS.API.STREAM.PURGE.{subjects.STREAM}", body)
        except LinkLostError:
            pass


async def _has_mark(link: Link, seq: int, mark: str) -> bool:
    message = await get_message(link, seq)
    return message is not None and message.headers is not None and message.headers.get(_MARK) == mark
