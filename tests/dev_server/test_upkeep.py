"""The server's own broker is started again when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from grctl.dev_server import DevServerError
from grctl.dev_server.broker import Broker
from grctl.dev_server.upkeep import RESTARTS, keep_up
from grctl.testing import DevServer
from grctl_nats.tasks import end_tasks

from . import workflows
from .raw import Raw, until, waits


class Restarts(Broker):
    """A broker that tells when it has been restarted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.restarted = asyncio.Event()

    async def restart(self) -> None:
        await super().restart()
        self.restarted.set()


def kill(broker: Broker) -> None:
    """Kill nats-server behind the back of everybody."""
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)


async def test_runs_go_on(connect: Callable[..., Awaitable[Raw]], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="grctl.dev_server")
    async with DevServer(workflows.workflows) as server:
        upkeep = asyncio.create_task(keep_up(server.broker))
        raw = await connect(server.url)
        run = await raw.start("OrderApproval", "a", {"order_id": "9", "qty": 1})
        await waits(raw, run)
        url = server.url
        kill(server.broker)

        async def connected() -> bool:
            return "connected to the broker again" in caplog.text

        await until(connected)
        assert server.url == url
        raw = await connect(url)
        assert (await raw.event("a", "approve")).success
        await raw.end(run)
        await end_tasks(upkeep)


async def test_it_gives_up_on_one_that_dies_again_and_again(tmp_path: Path) -> None:
    broker = Restarts(tmp_path)
    await broker.start()
    try:
        upkeep = asyncio.create_task(keep_up(broker))
        for _ in range(RESTARTS):
            broker.restarted.clear()
            kill(broker)
            await asyncio.wait_for(broker.restarted.wait(), 20)
        assert not upkeep.done()
        kill(broker)
        with pytest.raises(DevServerError, match=rf"died {RESTARTS + 1} times within 60 s; it said last: .*ready"):
            await asyncio.wait_for(upkeep, 20)
    finally:
        await broker.stop()


async def test_it_says_why_one_does_not_start_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        upkeep = asyncio.create_task(keep_up(broker))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            monkeypatch.setattr(broker, "_port", port)  # as if somebody had been quicker
            kill(broker)
            with pytest.raises(DevServerError, match=f"port {port} is taken"):
                await asyncio.wait_for(upkeep, 20)
    finally:
        await broker.stop()
