"""Places: where the model test drives a client, one for each transport; and the truth of each."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from fault_proxy import FaultProxy, Faults, replies, requests

from grctl.testing import DevServer
from grctl_core.commands import DescribeCommand, TerminateCommand
from grctl_core.errors import DeliveryUnknownError
from grctl_core.history import HistoryEvent
from grctl_core.run import RunFilter, RunInfo, RunRef
from grctl_engine.engine import Engine
from grctl_memory import MemoryConnection
from grctl_nats import NatsConnection

from .lossy import LossyConnection
from .server_thread import ServerThread
from .site import PATIENCE, order

__all__ = ["FAULTS", "MemoryPlace", "NatsPlace", "until_nothing_is_left"]

FAULTS = (
    "request lost",
    "request late",
    "reply lost",
    "reply late",
    "reply twice",
    "cut before",
    "cut after",
    "cut, and late",
    "not sent",
    "no server",
)
_IDS = itertools.count(1)


async def _runs(engine: Engine, prefix: str) -> list[RunInfo]:
    return [run async for run in engine.list_runs(RunFilter(workflow_id_prefix=prefix))]


async def _history(engine: Engine, run: RunRef) -> list[HistoryEvent]:
    return [event async for event in engine.history(run, follow=False)]


class MemoryPlace:
    """The embedded engine, with a connection before it that loses things."""

    def __init__(self) -> None:
        self.prefix = f"m{next(_IDS)}-"
        self.connection: Any = None
        self._engine: MemoryConnection

    async def open(self) -> None:
        self._engine = await MemoryConnection.open(workflows=[order])
        await self.connect()

    async def connect(self) -> None:
        """Have a new connection."""
        self.connection = LossyConnection(MemoryConnection(self._engine.engine))

    def arm(self, fault: str) -> None:
        """Have something go wrong with what is asked next."""
        self.connection.fault = fault

    async def disarm(self) -> None:
        """Have nothing go wrong any more; what is late arrives."""
        self.connection.fault = None
        await self.connection.arrive()

    async def settle(self) -> None:
        """Wait until all that was on its way has arrived."""
        await self.disarm()

    async def runs(self) -> list[RunInfo]:
        return await _runs(self._engine.engine, self.prefix)

    async def history(self, run: RunRef) -> list[HistoryEvent]:
        return await _history(self._engine.engine, run)

    async def end(self, wf_id: str) -> None:
        """End the run of an id."""
        self._engine.engine.execute(TerminateCommand(wf_id=wf_id, reason="the end"))

    async def close(self) -> None:
        await self.connection.close(grace=0)
        await self._engine.close(grace=0)

    def left(self) -> dict[str, int]:
        return {}


class NatsPlace:
    """A server that several share, and a proxy before it that loses things."""

    def __init__(self, server: ServerThread) -> None:
        self.prefix = f"n{next(_IDS)}-"
        self.connection: Any = None
        self._server = server
        self._faults = Faults()
        self._stack = AsyncExitStack()
        self._proxy = FaultProxy(server.url, self._faults)

    async def open(self) -> None:
        await self._stack.enter_async_context(self._proxy)
        await self.connect()

    async def connect(self) -> None:
        self.connection = await NatsConnection.open(self._proxy.url, connect_timeout=PATIENCE, request_timeout=0.3)

    def arm(self, fault: str) -> None:
        rules: dict[str, Callable[[], object]] = {
            "request lost": lambda: self._faults.drop(requests(">"), nth=1, may_rest=True),
            "request late": lambda: self._faults.hold(requests(), nth=1, may_rest=True),
            "reply lost": lambda: self._faults.drop(replies(">"), nth=1, may_rest=True),
            "reply late": lambda: self._faults.hold(replies(">"), nth=1, may_rest=True),
            "reply twice": lambda: self._faults.duplicate(replies(">"), nth=1, may_rest=True),
            "cut before": lambda: self._faults.cut(requests(), nth=1, may_rest=True),
            "cut after": lambda: self._faults.cut(requests(), after=True, nth=1, may_rest=True),
            "cut, and late": lambda: self._faults.cut(replies(">"), nth=1, may_rest=True),
            "not sent": self._proxy.cut,
            "no server": lambda: self._faults.drop(requests(), nth=(1, 2), may_rest=True),
        }
        rules[fault]()

    async def disarm(self) -> None:
        for rule in self._faults.rules:
            rule.stop()
            rule.release()
        self._faults.rules.clear()

    async def settle(self) -> None:
        await self.disarm()
        for _ in range(3):  # what was held is written by tasks of the proxy's
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(ConnectionError, DeliveryUnknownError):
                    await self.connection.request(DescribeCommand(wf_id="nobody"), timeout=PATIENCE)
                    return  # over this connection the server has had all that was sent before
                await asyncio.sleep(0.01)

    async def runs(self) -> list[RunInfo]:
        return await self._server.do(lambda server: _runs(server.engine, self.prefix))

    async def history(self, run: RunRef) -> list[HistoryEvent]:
        return await self._server.do(lambda server: _history(server.engine, run))

    async def end(self, wf_id: str) -> None:
        async def end(server: DevServer) -> None:
            server.engine.execute(TerminateCommand(wf_id=wf_id, reason="the end"))

        await self._server.do(end)

    async def close(self) -> None:
        await self.connection.close(grace=0)
        await self._stack.aclose()

    def left(self) -> dict[str, int]:
        connection: NatsConnection = self.connection
        link = connection._uplink._link
        assert link is not None
        return {
            "waits": len(connection._watcher),
            "deadlines": len(connection._deadlines),
            "requests": connection._under_way,
            "replies": len(link.replies),
        }


async def until_nothing_is_left(before: set[asyncio.Task[Any]]) -> None:
    """Wait until no task is left but those; fail if that does not come about."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
        assert asyncio.get_running_loop().time() < deadline, f"tasks are left: {left}"
        await asyncio.wait(left, timeout=0.05)
