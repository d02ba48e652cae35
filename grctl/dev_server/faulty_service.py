"""FaultyService: a service with the defects that sit in what becomes of a command (docs/protocol.md, section 8)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec.structs import replace
from nats.aio.msg import Msg

from grctl.dev_server.change import Change, Message
from grctl.dev_server.errors import LinkLostError
from grctl.dev_server.faults import Faults, What
from grctl.dev_server.journal import Journal, history_message
from grctl.dev_server.limits import RESERVED
from grctl.dev_server.link import Link, LinkKeeper
from grctl.dev_server.service import Service, kind_of
from grctl.dev_server.stream import get_last
from grctl.dev_server.writer import Writer
from grctl_core.commands import CancelCommand, Command, DescribeCommand, ErrorCode, Reply, ReplyError, StartCommand
from grctl_core.history import HistoryEvent
from grctl_core.run import RunFilter, RunInfo, RunStatus
from grctl_engine import replies
from grctl_engine.engine import Engine
from grctl_nats import subjects, wire

__all__ = ["FaultyService"]

_BROKEN = Reply(success=False, error=ReplyError(ErrorCode.INTERNAL, "nats: timeout"))
_LONGEST_ID = 3_500
"""Longer ids are accepted and end nowhere (docs/protocol.md, section 8, 4)."""


class FaultyService(Service):
    """Strikes where its faults say so."""

    def __init__(
        self,
        engine: Callable[[], Engine],
        links: LinkKeeper,
        writer: Writer,
        journal: Journal,
        *,
        faults: Faults,
        die: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(engine, links, writer, journal)
        self._faults = faults
        self._die = die
        self._blocked: dict[str, RunInfo] = {}
        self._waiting: dict[str, list[Command]] = {}
        self._redelivered = 0
        self._listened = False
        self._dead = False
        self._slow_describes = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, link: Link) -> None:
        """Take commands from this link, unless the command that killed the server is still there to kill it again."""
        if self._dead:
            self._background(self._die())
            return
        await super().listen(link)
        again, self._listened = self._listened, True
        doubles = self._faults.strikes(What.RESTART_DOUBLES) if again else None
        if doubles is not None:
            self._slow_describes = doubles.seconds
            await self._double_starts()

    def stop(self) -> None:
        """Do nothing late any more."""
        for task in self._tasks:
            task.cancel()

    async def _take(self, message: Msg) -> None:
        kind = kind_of(message.data)
        fault = self._faults.first((What.LOSE_COMMAND, What.LATE_COMMAND, What.TWO_SERVERS), kind)
        match fault.what if fault is not None else None:
            case What.LOSE_COMMAND:
                return
            case What.LATE_COMMAND:
                self._later(fault.seconds if fault else 0, functools.partial(super()._take, message))
                return
            case What.TWO_SERVERS:
                await super()._take(message)
        await super()._take(message)

    async def answer(self, body: bytes) -> Reply:
        """Carry out what an encoded command says, unless a fault keeps it from that."""
        if self._faults.strikes(What.ERROR_NOT_DONE, kind_of(body)):
            return _BROKEN
        reply = await super().answer(body)
        return _BROKEN if self._faults.strikes(What.ERROR_BUT_DONE, kind_of(body)) else reply

    async def _respond(self, message: Msg, reply: Reply) -> None:
        kind = kind_of(message.data)
        fault = self._faults.first((What.LOSE_REPLY, What.LATE_REPLY, What.DOUBLE_REPLY), kind)
        respond = functools.partial(super()._respond, message, reply)
        match fault.what if fault is not None else None:
            case What.LOSE_REPLY:
                return
            case What.LATE_REPLY:
                self._later(fault.seconds if fault else 0, respond)
                return
            case What.DOUBLE_REPLY:
                await respond()
        if kind == DescribeCommand.kind and self._slow_describes:
            seconds, self._slow_describes = self._slow_describes, 0.0
            self._later(seconds, respond)
            return
        await respond()

    def _check(self, command: Command, size: int) -> Reply | None:
        if isinstance(command, StartCommand) and self._faults.has(What.NEAR_LIMIT_HANGS):
            left = self._journal.max_value + RESERVED - size
            if len(command.wf_id) > _LONGEST_ID:
                self._blocked[command.wf_id] = command.run
                return replies.ACCEPTED
            if left <= 1_500 and self._faults.strikes(What.NEAR_LIMIT_HANGS):
                self._block(_unbegun(command.run) if left <= 300 else command.run)
                return replies.ACCEPTED
            return None if left <= RESERVED else super()._check(command, size)
        return super()._check(command, size)

    async def _execute(self, command: Command) -> Reply:
        blocked = self._blocked.get(command.wf_id)
        if blocked is not None and not await self._is_mended(blocked):
            return self._answer_blocked(command, blocked)
        if command.wf_id in self._waiting:
            return self._answer_unbegun(command)
        if isinstance(command, StartCommand):
            reply = await self._start(command)
            if reply is not None:
                return reply
        reply = await super()._execute(command)
        if reply.error is not None and reply.error.code == ErrorCode.FINISHED:
            self._redelivered += 1
        return reply

    async def _start(self, command: StartCommand) -> Reply | None:
        """Answer a start that a defect strikes."""
        run = command.run
        redelivery = self._faults.has(What.REDELIVERY)
        if redelivery is not None and self._redelivered >= redelivery.count:
            self._block(_unbegun(run))
            return replies.ACCEPTED
        old = self._engine().find_run(run.ref)
        if old is not None and old.is_finished and self._faults.strikes(What.OVERWRITE_FINISHED):
            self._block(_unbegun(run))
            return replies.ACCEPTED
        if self._faults.strikes(What.ERROR_LEAVES_RECORD):
            self._block(_unbegun(run))
            return _BROKEN
        slow = self._faults.strikes(What.SLOW_BEGIN)
        if slow is not None:
            self._write_record(_unbegun(run))
            self._waiting[run.wf_id] = [command]
            self._later(slow.seconds, functools.partial(self._begin, run.wf_id))
            return replies.ACCEPTED
        return None

    async def _begin(self, wf_id: str) -> None:
        for command in self._waiting.pop(wf_id, []):
            await super()._execute(command)

    def _answer_unbegun(self, command: Command) -> Reply:
        """Answer for a run that was accepted and has not begun."""
        waiting = self._waiting[command.wf_id]
        start = waiting[0]
        if isinstance(command, DescribeCommand) and isinstance(start, StartCommand):
            return Reply(success=True, run=_unbegun(start.run))
        if isinstance(command, StartCommand) and isinstance(start, StartCommand):
            return replies.already_running(start.run.id)
        if isinstance(command, CancelCommand) and self._faults.strikes(What.EARLY_CANCEL_KILLS):
            self._dead = True
            self._background(self._die())
            raise LinkLostError("the server is dead")
        waiting.append(command)
        return replies.ACCEPTED

    def _answer_blocked(self, command: Command, run: RunInfo) -> Reply:
        """Answer for a run of which only a record is there: nothing has any effect."""
        if isinstance(command, DescribeCommand):
            return Reply(success=True, run=run)
        if isinstance(command, StartCommand):
            return replies.already_running(run.id)
        self._redelivered += 1
        return replies.ACCEPTED

    async def _is_mended(self, run: RunInfo) -> bool:
        """Whether somebody has put a record of an ended run in the place of the one that blocks the id."""
        found = await get_last(await self._links.current(), subjects.run_info(run.ref))
        mended = found is not None and wire.decode_run_info(found.data).is_finished
        if mended:
            del self._blocked[run.wf_id]
        return mended

    def _block(self, run: RunInfo) -> None:
        self._blocked[run.wf_id] = run
        self._write_record(run)

    def _write_record(self, run: RunInfo) -> None:
        self._writer.write(Change([Message(subjects.run_info(run.ref), wire.encode_run_info(run))]))

    async def _double_starts(self) -> None:
        async for run in self._engine().list_runs(RunFilter(status=RunStatus.RUNNING)):
            started = HistoryEvent(
                seq=0,
                kind="run.started",
                timestamp=run.started_at or run.created_at,
                wf_id=run.wf_id,
                run_id=run.id,
                encoded=msgspec.msgpack.encode({"input": None}),
            )
            self._writer.write(Change([history_message(started)]))

    def _later(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            await action()

        self._background(wait())

    def _background(self, action: Awaitable[Any]) -> None:
        async def run() -> None:
            await action

        task = asyncio.create_task(run(), name="grctl-dev-fault")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _unbegun(run: RunInfo) -> RunInfo:
    return replace(run, status=None, started_at=None, completed_at=None, history_seq_id=None)
