"""The suite for transports of other people, on our own two."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from grctl.testing import DevServer, TransportContract
from grctl_engine.engine import Engine
from grctl_memory import MemoryConnection
from grctl_nats import NatsConnection

from .hosts import LIVE_URL

pytestmark = pytest.mark.skipif(bool(LIVE_URL), reason="needs a server of its own")


class TestMemory(TransportContract):
    @asynccontextmanager
    async def serve(self):
        engine = Engine(self.workflows)
        try:
            yield lambda: MemoryConnection.open(engine=engine)
        finally:
            await engine.close(0)


class TestNats(TransportContract):
    @asynccontextmanager
    async def serve(self):
        async with DevServer(self.workflows) as server:
            yield lambda: NatsConnection.open(server.url)
