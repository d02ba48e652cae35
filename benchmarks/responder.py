"""The responder: a process that answers commands as the server does, at once, and fills the stream as it is told.

    python -m benchmarks.responder URL

It does as little as an answer takes, so that what is measured is the client. It is told what to do by requests on
``bench.do``.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec
import nats
from nats.aio.msg import Msg

from grctl_core.history import HistoryEvent
from grctl_core.run import RunInfo, RunRef, RunStatus
from grctl_core.workflow_type import TypeInfo
from grctl_nats import subjects, wire

__all__ = ["EVENT", "HISTORY_RUN", "TYPE", "run_of"]

TYPE, EVENT = "ProcessOrder", "note"
HISTORY_RUN = RunRef("long", "01M82CM2EPSQNNVV4233NRWD1P", TYPE)
"""The run with the long history."""

_STREAM = {
    "name": subjects.STREAM,
    "subjects": ["grctl_run.>", "grctl_state.>", "grctl_history.>", "grctl_registry.>", "grctl_events.>"],
    "storage": "memory",
    "allow_direct": True,
    "allow_atomic": True,
}
_YES = msgspec.msgpack.encode({"success": True})
_SETTLED = 5_000
"""After how many messages the broker is asked whether it has stored them: it drops what comes too fast."""


def run_of(number: int, prefix: str = "w") -> RunRef:
    """Return the number's run."""
    return RunRef(f"{prefix}{number}", f"{number:026d}", TYPE)


class _Head(msgspec.Struct):
    k: str
    m: bytes


class _RunIds(msgspec.Struct):
    id: str
    wf_id: str


class _Start(msgspec.Struct):
    run_info: _RunIds


_head = msgspec.msgpack.Decoder(_Head).decode
_start = msgspec.msgpack.Decoder(_Start).decode


class Responder:
    """Answers, and stores.

    Attributes:
        seen: how many commands came, by kind.
        pace: seconds that a command takes, one at a time; 0 for all at once.
    """

    def __init__(self, nc: nats.aio.client.Client) -> None:
        self._nc = nc
        self._started = datetime.now(UTC)
        self._stored = 0
        self._unsettled = 0
        self._describe = self._reply(run_of(0))
        self.seen: Counter[str] = Counter()
        self.pace = 0.0

    async def answer(self, message: Msg) -> None:
        """Answer a command."""
        if self.pace:
            await asyncio.sleep(self.pace)
        head = _head(message.data)
        self.seen[head.k] += 1
        if head.k == "run.describe":
            wf_id = message.subject.rpartition(".")[2]
            known = wf_id[:1] == "w" and wf_id[1:].isdigit()
            await self._nc.publish(message.reply, self._reply(run_of(int(wf_id[1:]))) if known else self._describe)
            return
        await self._nc.publish(message.reply, _YES)
        if head.k == "run.start":
            run = _start(head.m).run_info
            if run.wf_id.startswith("end-"):
                await self._end(RunRef(run.wf_id, run.id, TYPE))

    def _reply(self, run: RunRef) -> bytes:
        info = self._info(run, RunStatus.RUNNING)
        return msgspec.msgpack.encode({"success": True, "payload": msgspec.Raw(wire.encode_run_info(info))})

    def _info(self, run: RunRef, status: RunStatus) -> RunInfo:
        return RunInfo(
            id=run.run_id,
            wf_id=run.wf_id,
            wf_type=TYPE,
            created_at=self._started,
            started_at=self._started,
            status=status,
            completed_at=self._started if status.is_terminal else None,
        )

    async def do(self, message: Msg) -> None:
        """Do what the benchmark asks for, and say when it is done."""
        asked: dict[str, Any] = msgspec.msgpack.decode(message.data)
        done = await getattr(self, f"do_{asked.pop('do')}")(**asked)
        await self._nc.publish(message.reply, msgspec.msgpack.encode(done))

    async def do_count(self, pace: float | None = None) -> dict[str, int]:
        """Return what came since the last time, and answer at this pace from now on."""
        seen, self.seen = self.seen, Counter()
        self.pace = self.pace if pace is None else pace
        return dict(seen)

    async def do_register(self) -> None:
        """Register the workflow type."""
        known = TypeInfo(name=TYPE, start_step="start", steps=("start",), events=(EVENT,), queries=())
        body = wire.encode_type_info(known, worker_id="w", registered_at=self._started)
        await self._store(subjects.registry(TYPE), body)
        await self._wait_stored()

    async def do_runs(self, first: int, count: int) -> None:
        """Store the records of runs that go on, and wait for events."""
        for number in range(first, first + count):
            run = run_of(number)
            await self._store(subjects.run_info(run), wire.encode_run_info(self._info(run, RunStatus.RUNNING)))
        await self._wait_stored()

    async def do_going_on(self, runs: list[list[str]]) -> None:
        """Store the records of certain runs, that go on."""
        for wf_id, run_id in runs:
            run = RunRef(wf_id, run_id, TYPE)
            await self._store(subjects.run_info(run), wire.encode_run_info(self._info(run, RunStatus.RUNNING)))
        await self._wait_stored()

    async def do_states(self, runs: list[list[str]]) -> None:
        """Store that runs wait for events, and have taken in all."""
        for wf_id, run_id in runs:
            run = RunRef(wf_id, run_id, TYPE)
            state = wire.RunState(wf_id, run_id, "wait", self._started, self._started, 1_000_000_000)
            await self._store(subjects.run_state(run), wire.encode_run_state(state))
            await self._store(subjects.events(wf_id), b"\x80")
        await self._wait_stored()

    async def do_history(self, count: int) -> None:
        """Store a history of so many events."""
        run = HISTORY_RUN
        await self._store(subjects.run_info(run), wire.encode_run_info(self._info(run, RunStatus.RUNNING)))
        inner = msgspec.msgpack.encode({"step_name": "start", "worker_id": "w-1", "duration_ms": 12})
        for _ in range(count):
            await self._store(subjects.history(run), self._event(run, "step.completed", inner))
        await self._wait_stored()

    async def do_ends(self, runs: list[list[str]], seconds: float) -> None:
        """End runs, spread over so many seconds."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number, (wf_id, run_id) in enumerate(runs):
            await self._end(RunRef(wf_id, run_id, TYPE))
            if number % 16 == 0:
                await asyncio.sleep(max(0.0, begun + seconds * number / len(runs) - loop.time()))
        await self._wait_stored()

    def _event(self, run: RunRef, kind: str, inner: bytes) -> bytes:
        return wire.encode_event(
            HistoryEvent(
                seq=0,
                kind=kind,
                timestamp=self._started,
                wf_id=run.wf_id,
                run_id=run.run_id,
                worker_id="w-1",
                operation_id=None,
                encoded=inner,
            )
        )

    async def _end(self, run: RunRef) -> None:
        """Write an end as the server does: the record and the terminal event in one atomic batch."""
        batch = {"Nats-Batch-Id": run.run_id, "Nats-Batch-Sequence": "1"}
        await self._store(subjects.run_info(run), wire.encode_run_info(self._info(run, RunStatus.COMPLETED)), batch)
        inner = msgspec.msgpack.encode({"result": {"order_id": run.wf_id, "total": 49.99}, "duration_ms": 3})
        batch = {"Nats-Batch-Id": run.run_id, "Nats-Batch-Sequence": "2", "Nats-Batch-Commit": "1"}
        await self._store(subjects.history(run), self._event(run, "run.completed", inner), batch)

    async def _store(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        await self._nc.publish(subject, body, headers=headers)
        self._stored += 1
        self._unsettled += 1
        if self._unsettled >= _SETTLED and (headers is None or "Nats-Batch-Commit" in headers):
            await self._wait_stored()

    async def _wait_stored(self) -> None:
        """Wait until the broker has stored all; nobody else writes."""
        self._unsettled = 0
        async with asyncio.timeout(60):
            while True:
                answer = await self._nc.request(f"$JS.API.STREAM.INFO.{subjects.STREAM}", timeout=30)
                if msgspec.json.decode(answer.data)["state"]["last_seq"] >= self._stored:
                    return
                await asyncio.sleep(0.01)


async def main(url: str) -> None:
    """Answer for ever."""
    nc = await nats.connect(url, max_reconnect_attempts=-1)
    await nc.request(f"$JS.API.STREAM.CREATE.{subjects.STREAM}", msgspec.json.encode(_STREAM), timeout=10)
    responder = Responder(nc)
    await nc.subscribe(subjects.ALL_COMMANDS, cb=responder.answer, pending_msgs_limit=0, pending_bytes_limit=0)
    await nc.subscribe("bench.do", cb=responder.do)
    await nc.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
