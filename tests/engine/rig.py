"""An engine on a manual clock, with short names for what the tests do to it."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime, timedelta
from typing import Any

from grctl_core.codec import encode
from grctl_core.commands import (
    CancelCommand,
    DescribeCommand,
    EventCommand,
    Reply,
    StartCommand,
    TerminateCommand,
)
from grctl_core.history import HistoryEvent
from grctl_core.ids import new_ulid
from grctl_core.outcome import Outcome, decode_outcome
from grctl_core.run import RunInfo, RunRef
from grctl_engine.clock import ManualClock
from grctl_engine.definition import Workflow
from grctl_engine.engine import Engine
from grctl_engine.limits import EngineLimits

CREATED = datetime(2025, 12, 31, tzinfo=UTC)


def run_info(wf_type: str, wf_id: str = "w", *, timeout: timedelta | None = None, run_id: str | None = None) -> RunInfo:
    return RunInfo(id=run_id or new_ulid(), wf_id=wf_id, wf_type=wf_type, created_at=CREATED, timeout=timeout)


def start_command(info: RunInfo, value: Any = None) -> StartCommand:
    return StartCommand(wf_id=info.wf_id, run=info, input=None if value is None else encode("input", value))


class Rig:
    def __init__(self, *workflows: Workflow, limits: EngineLimits | None = None) -> None:
        self.clock = ManualClock()
        self.engine = Engine(workflows, limits=limits, clock=self.clock)

    def try_start(self, wf_type: str, value: Any = None, wf_id: str = "w", **info: Any) -> tuple[Reply, RunRef]:
        made = run_info(wf_type, wf_id, **info)
        return self.engine.execute(start_command(made, value)), made.ref

    def start(self, wf_type: str, value: Any = None, wf_id: str = "w", **info: Any) -> RunRef:
        reply, ref = self.try_start(wf_type, value, wf_id, **info)
        assert reply.success, reply.error
        return ref

    def send(self, name: str, payload: Any = None, wf_id: str = "w") -> Reply:
        encoded = None if payload is None else encode("payload", payload)
        return self.engine.execute(EventCommand(wf_id=wf_id, event_name=name, payload=encoded))

    def cancel(self, reason: str = "", wf_id: str = "w") -> Reply:
        return self.engine.execute(CancelCommand(wf_id=wf_id, reason=reason))

    def terminate(self, reason: str = "", wf_id: str = "w") -> Reply:
        return self.engine.execute(TerminateCommand(wf_id=wf_id, reason=reason))

    def describe(self, wf_id: str = "w") -> RunInfo:
        reply = self.engine.execute(DescribeCommand(wf_id=wf_id))
        assert reply.run is not None, reply.error
        return reply.run

    async def settle(self) -> None:
        await self.clock.settle()

    async def advance(self, seconds: float) -> None:
        await self.clock.advance(seconds=seconds)

    async def history(self, ref: RunRef) -> list[HistoryEvent]:
        return [event async for event in self.engine.history(ref, follow=False)]

    async def kinds(self, ref: RunRef) -> list[str]:
        return [event.kind for event in await self.history(ref)]

    async def outcome(self, ref: RunRef) -> Outcome[Any]:
        """Let the engine settle, and return how the run has ended by then."""
        future = self.engine.watch(ref)
        await self.settle()
        assert future.done(), f"the run goes on: {await self.kinds(ref)}"
        return decode_outcome(future.result(), Any)

    async def result(self, wf_type: str, value: Any = None, wf_id: str = "w") -> Outcome[Any]:
        return await self.outcome(self.start(wf_type, value, wf_id))

    def held(self) -> dict[str, int]:
        """What the engine holds beside its records. All zero when nothing is going on."""
        gc.collect()
        host = self.engine._host
        own = asyncio.current_task()
        runs = self.engine._runs.all()
        return {
            "tasks": len([task for task in asyncio.all_tasks() if task is not own]),
            "running": host.executor.running,
            "queued": len(host.executor._queue),
            "sleeping": host.executor._sleeping,
            "timers": self.clock.pending,
            "watchers": sum(len(run.watchers or ()) for run in runs),
            "followers": sum(len(run.followers or ()) for run in runs),
            "states": sum(run.state is not None for run in runs),
            "stores": sum(run.store is not None for run in runs),
        }


def nothing(held: dict[str, int]) -> bool:
    return not any(held.values())
