"""What these tests share: a real broker and something that stands for a server, of the tests of the NATS transport."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "nats"))  # they are not packages

from broker import Broker
from fake_server import FakeServer

from grctl_nats import NatsConnection

__all__ = ["Broker", "FakeServer"]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the developer's shell has set concerns no test."""
    for name in ("GRCTL_NATS_SERVERS", "grctl_NATS_SERVERS", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def examples() -> Callable[[int], int]:
    """Return how many cases to try: so many, or that many times as GRCTL_TEST_EXAMPLES says."""
    times = int(os.environ.get("GRCTL_TEST_EXAMPLES", "1"))
    return lambda count: count * times


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker() as running:
        yield running


@pytest.fixture
async def server(broker: Broker) -> AsyncIterator[FakeServer]:
    async with FakeServer(broker.url) as running:
        yield running


@pytest.fixture
async def connection(broker: Broker, server: FakeServer) -> AsyncIterator[NatsConnection]:
    async with await NatsConnection.open(broker.url) as opened:
        yield opened


@pytest.fixture
async def raw(broker: Broker) -> AsyncIterator[Callable[[bytes], None]]:
    """A client of the broker that sends whatever bytes it is given, as no driver would."""
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)

    async def ping() -> None:
        writer.write(b"PING\r\n")
        async with asyncio.timeout(20):
            while b"PONG" not in await reader.readline():
                pass

    async def send(frames: bytes) -> None:
        writer.write(frames)
        await ping()

    writer.write(b'CONNECT {"verbose":false,"headers":true,"pedantic":false}\r\n')
    await ping()
    yield send
    writer.close()
