"""What the tests of the NATS transport share: a real broker, and something that stands for a Ground Control server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings
from pathlib import Path

import pytest
from broker import Broker
from fake_server import FakeServer

from grctl_nats import NatsConnection

WIRE = Path(__file__).parent.parent / "fixtures" / "wire"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    """Whatever the developer's shell has set concerns no test."""
    for name in ("GRCTL_NATS_SERVERS", "grctl_NATS_SERVERS", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def broker():
    async with Broker() as running:
        yield running


@pytest.fixture
async def server(broker):
    async with FakeServer(broker.url) as running:
        yield running


@pytest.fixture
async def connection(broker, server):
    async with await NatsConnection.open(broker.url) as opened:
        yield opened


@pytest.fixture
async def nothing_left():
    """Nothing is left behind: no task, no socket, no file, nothing that complains when it is collected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # what earlier tests of this process left complains now, and not in the name of this one
    before = asyncio.all_tasks()
    files = _open_files()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        deadline = asyncio.get_running_loop().time() + 10
        while left := (asyncio.all_tasks() - before - {asyncio.current_task()}) | (_open_files() - files):
            assert asyncio.get_running_loop().time() < deadline, f"left behind: {left}"
            await asyncio.sleep(0.005)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def _open_files() -> set[str]:
    """Name what this process has open: sockets, pipes, files."""
    folder = Path("/proc/self/fd")
    found = set()
    for entry in folder.iterdir() if folder.is_dir() else []:
        with contextlib.suppress(OSError):
            found.add(f"{entry.name} {entry.readlink()}")
    return {name for name in found if "socket:" in name}
