"""FakeServer: stands for a Ground Control server. It says and stores what a test tells it to, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import msgspec
import nats
from broker import sync
from nats.aio.client import Client
from nats.aio.msg import Msg

from grctl_core.codec import encode
from grctl_core.commands import Command, DescribeCommand, ErrorCode, Reply, ReplyError, StartCommand
from grctl_core.history import HistoryEvent
from grctl_core.ids import new_ulid
from grctl_core.run import RunInfo, RunRef, RunStatus
from grctl_nats import subjects, wire

__all__ = ["NOW", "FakeServer", "new_run"]

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_STREAM = {
    "name": subjects.STREAM,
    "subjects": [
        "grctl_history.>",
        "grctl_run.>",
        "grctl_wf_kv.>",
        "grctl_registry.>",
        "grctl_state.>",
        "grctl_events.>",
        "grctl_worker_task.>",
    ],
    "retention": "limits",
    "storage": "file",
    "num_replicas": 1,
    "allow_direct": True,
    "allow_atomic": True,
    "allow_rollup_hdrs": True,
}
_KINDS = {
    RunStatus.COMPLETED: ("run.completed", "complete"),
    RunStatus.FAILED: ("run.failed", "fail"),
    RunStatus.CANCELLED: ("run.cancelled", "cancel"),
    RunStatus.TERMINATED: ("run.terminated", "terminate"),
    RunStatus.TIMED_OUT: ("run.timeout", "timeout"),
}

_PATIENCE = 20.0
"""Seconds that the broker may take, however busy the machine is."""

Answer = Reply | bytes | None | list[Reply | bytes]


def new_run(wf_id: str = "w", wf_type: str = "W", *, status: str | None = "running", **fields: Any) -> RunInfo:
    """Make the record of a run; by default one that goes on."""
    fields = {"id": new_ulid(), "created_at": NOW, "started_at": NOW} | fields
    return RunInfo(wf_id=wf_id, wf_type=wf_type, status=None if status is None else RunStatus(status), **fields)


class FakeServer:
    """Answers commands with what :attr:`answer` returns: a reply, several, none; raw bytes too.

    Args:
        url: the broker.
        options: of the connection to it.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        self.options = options
        self.commands: list[Command] = []
        self.messages: list[Msg] = []
        self.answer: Callable[[Command], Answer] = self.ok
        self.client: Client = Client()
        self._latest: dict[str, RunInfo] = {}
        self._came = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def connect(self) -> None:
        """Connect, make the stream, listen."""

        async def ignore(_: Exception) -> None: ...

        self.client = await nats.connect(
            self.url,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            connect_timeout=_PATIENCE,
            error_cb=ignore,
            **self.options,
        )
        await self.api(f"STREAM.CREATE.{subjects.STREAM}", _STREAM)
        await self.client.subscribe(subjects.ALL_COMMANDS, cb=self._hear)
        await sync(self.client)

    async def api(self, subject: str, body: Any = None) -> dict[str, Any]:
        """Ask JetStream."""
        encoded = b"" if body is None else json.dumps(body).encode()
        answer = await self.client.request(f"$JS.API.{subject}", encoded, timeout=_PATIENCE)
        said: dict[str, Any] = json.loads(answer.data)
        assert "error" not in said, said
        return said

    async def received(self, count: int) -> list[Command]:
        """Wait until so many commands have come."""
        async with asyncio.timeout(20):
            while len(self.messages) < count:
                self._came.clear()
                await self._came.wait()
        return self.commands

    def ok(self, command: Command) -> Answer:
        """Answer as a server does that knows the runs of :meth:`put_run`."""
        if isinstance(command, DescribeCommand):
            run = self._latest.get(command.wf_id)
            error = None if run else ReplyError(ErrorCode.NOT_FOUND, "Workflow run not found")
            return Reply(success=run is not None, run=run, error=error)
        if isinstance(command, StartCommand):
            self._latest[command.wf_id] = command.run
        return Reply(success=True)

    async def put(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> int:
        """Store a record; return its sequence."""
        answer = await self.client.request(subject, body, headers=headers, timeout=_PATIENCE)
        said = json.loads(answer.data)
        assert "error" not in said, said
        return int(said["seq"])

    async def put_many(self, messages: list[tuple[str, bytes]]) -> None:
        """Store many records, in order, quickly."""
        for subject, body in messages[:-1]:
            await self.client.publish(subject, body)
        await self.put(*messages[-1])

    async def put_run(self, run: RunInfo) -> int:
        """Store a run's record."""
        self._latest[run.wf_id] = run
        return await self.put(subjects.run_info(run.ref), wire.encode_run_info(run))

    async def put_event(self, run: RunRef, kind: str, **data: Any) -> int:
        """Append to a run's history."""
        return await self.put(subjects.history(run), event_body(run, kind, **data))

    async def put_state(self, run: RunRef, kind: str, last_event: int = 0) -> int:
        """Store a run's state record."""
        state = wire.RunState(run.wf_id, run.run_id, kind, NOW, last_event_seq_id=last_event)
        return await self.put(subjects.run_state(run), wire.encode_run_state(state))

    async def put_type(self, body: dict[str, Any]) -> int:
        """Register a workflow type."""
        return await self.put(subjects.registry(body["type"]), msgspec.msgpack.encode(body))

    async def end(self, run: RunInfo, status: RunStatus = RunStatus.COMPLETED, **data: Any) -> RunInfo:
        """End a run as a server does: record, event and state, in this order, in one atomic batch."""
        ended = msgspec.structs.replace(run, status=status, completed_at=NOW + timedelta(seconds=1))
        kind, state = _KINDS.get(status, (f"run.{status}", str(status)))
        self._latest[run.wf_id] = ended
        await self.batch(
            [
                (subjects.run_info(run.ref), wire.encode_run_info(ended)),
                (subjects.history(run.ref), event_body(run.ref, kind, **data)),
                (
                    subjects.run_state(run.ref),
                    wire.encode_run_state(wire.RunState(run.wf_id, run.id, state, NOW, last_event_seq_id=0)),
                ),
            ]
        )
        return ended

    async def batch(self, messages: list[tuple[str, bytes]], *, commit: bool = True) -> None:
        """Store messages at once, or begin to and never do."""
        batch = new_ulid()
        for number, (subject, body) in enumerate(messages, 1):
            headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            if number < len(messages) or not commit:
                await self.client.publish(subject, body, headers=headers)
            else:
                await self.put(subject, body, headers | {"Nats-Batch-Commit": "1"})
        await sync(self.client)

    async def purge(self) -> None:
        """Drop all records."""
        await self.api(f"STREAM.PURGE.{subjects.STREAM}")

    async def _hear(self, message: Msg) -> None:
        self.messages.append(message)
        self._came.set()
        try:
            command = wire.decode_command(message.data)
        except ValueError:
            await message.respond(b"\xc1")
            return
        self.commands.append(command)
        answers = self.answer(command)
        for answer in answers if isinstance(answers, list) else [answers]:
            if answer is not None:
                await message.respond(wire.encode_reply(answer) if isinstance(answer, Reply) else answer)


def event_body(run: RunRef, kind: str, **data: Any) -> bytes:
    """Encode a history event."""
    return wire.encode_event(
        HistoryEvent(
            seq=0, kind=kind, timestamp=NOW, wf_id=run.wf_id, run_id=run.run_id, encoded=encode("an event", data)
        )
    )
