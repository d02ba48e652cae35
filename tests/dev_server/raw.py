"""Raw: a plain NATS client that speaks the wire protocol. None of our transport is in it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from grctl_core.commands import Command, DescribeCommand, EventCommand, Reply, StartCommand, TerminateCommand
from grctl_core.history import HistoryEvent
from grctl_core.ids import new_ulid
from grctl_core.run import RunInfo, RunRef
from grctl_nats import subjects, wire

PATIENCE = 20.0


class Raw:
    """A plain NATS client that speaks the wire protocol: none of our transport is in it.

    nats-py's own reconnecting is off: its task swallows its cancellation now and then, and the test hangs at its end.
    """

    def __init__(self, client: Client, reopen: Callable[[], Awaitable[Client]] | None = None) -> None:
        self.client = client
        self._reopen = reopen
        self._opening: asyncio.Future[Client] | None = None

    async def request(self, subject: str, body: bytes, timeout: float = PATIENCE) -> Msg:
        if self.client.is_closed and self._reopen is not None:
            if self._opening is None or self._opening.done():
                self._opening = asyncio.ensure_future(self._reopen())
            # Shielded: nats-py leaves a socket behind when its connecting is cancelled.
            self.client = await asyncio.shield(self._opening)
        return await self.client.request(subject, body, timeout=timeout)

    async def send(self, command: Command, timeout: float = PATIENCE) -> Reply:
        body = wire.encode_command(command, "c_test@host")
        answer = await self.request(subjects.command(command.wf_id), body, timeout=timeout)
        return wire.decode_reply(answer.data, command, 0)

    async def start(self, wf_type: str, wf_id: str, value: Any = None, *, run_id: str | None = None) -> RunRef:
        command = start_command(wf_type, wf_id, value, run_id=run_id)
        reply = await self.send(command)
        assert reply.success, reply.error
        return command.run.ref

    async def event(self, wf_id: str, name: str, payload: Any = None) -> Reply:
        return await self.send(EventCommand(wf_id=wf_id, event_name=name, payload=msgspec.msgpack.encode(payload)))

    async def terminate(self, wf_id: str) -> Reply:
        return await self.send(TerminateCommand(wf_id=wf_id, reason="test"))

    async def describe(self, wf_id: str) -> RunInfo | None:
        return (await self.send(DescribeCommand(wf_id=wf_id))).run

    async def get(self, subject: str) -> Msg | None:
        answer = await self.request(f"$JS.API.DIRECT.GET.{subjects.STREAM}.{subject}", b"", timeout=PATIENCE)
        return None if answer.headers and "Status" in answer.headers else answer

    @staticmethod
    def seq(message: Msg) -> int:
        return int((message.headers or {})["Nats-Sequence"])

    async def info(self, run: RunRef) -> RunInfo | None:
        found = await self.get(subjects.run_info(run))
        return None if found is None else wire.decode_run_info(found.data)

    async def state(self, run: RunRef) -> wire.RunState | None:
        found = await self.get(subjects.run_state(run))
        return None if found is None else wire.decode_run_state(found.data)

    async def api(self, call: str, request: Any = None) -> dict[str, Any]:
        body = b"" if request is None else json.dumps(request).encode()
        answer: dict[str, Any] = json.loads((await self.request(f"$JS.API.{call}", body, timeout=PATIENCE)).data)
        return answer

    async def stored(self, subject: str) -> list[tuple[int, Msg]]:
        """All that the stream holds of a subject, in order."""
        found = []
        seq = 0
        while True:
            ask = json.dumps({"seq": seq + 1, "next_by_subj": subject}).encode()
            answer = await self.request(f"$JS.API.DIRECT.GET.{subjects.STREAM}", ask, timeout=PATIENCE)
            headers = answer.headers or {}
            if "Status" in headers:
                return found
            seq = int(headers["Nats-Sequence"])
            found.append((seq, answer))

    async def history(self, run: RunRef) -> list[HistoryEvent]:
        return [wire.decode_event(message.data, seq) for seq, message in await self.stored(subjects.history(run))]

    async def kinds(self, run: RunRef) -> list[str]:
        return [event.kind for event in await self.history(run)]

    async def end(self, run: RunRef) -> RunInfo:
        """The record of a run, once it has ended."""

        async def ended() -> RunInfo | None:
            info = await self.info(run)
            return info if info is not None and info.is_finished else None

        return await until(ended)


def start_command(wf_type: str, wf_id: str, value: Any = None, *, run_id: str | None = None) -> StartCommand:
    command = DescribeCommand(wf_id=wf_id)  # for its time
    run = RunInfo(id=run_id or new_ulid(), wf_id=wf_id, wf_type=wf_type, created_at=command.created_at)
    return StartCommand(wf_id=wf_id, run=run, input=None if value is None else msgspec.msgpack.encode(value))


async def until(condition: Callable[[], Awaitable[Any]], patience: float = PATIENCE) -> Any:
    """What a condition gives, as soon as it gives something."""
    deadline = time.monotonic() + patience
    while True:
        found = await condition()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.005)


async def waits(raw: Raw, run: RunRef) -> wire.RunState:
    """The state of a run, once it is in wait."""

    async def waiting() -> wire.RunState | None:
        state = await raw.state(run)
        return state if state is not None and state.kind == "wait" else None

    return await until(waiting)
