"""Both transports on uvloop: the suite for transports, whole."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from grctl.testing import DevServerThread, TransportContract
from grctl_engine.engine import Engine
from grctl_memory import MemoryConnection
from grctl_nats import NatsConnection

uvloop = pytest.importorskip("uvloop")


class TestMemory(TransportContract):
    loop_factory = uvloop.new_event_loop

    @asynccontextmanager
    async def serve(self):
        engine = Engine(self.workflows)
        try:
            yield lambda: MemoryConnection.open(engine=engine)
        finally:
            await engine.close(0)


class TestNats(TransportContract):
    loop_factory = uvloop.new_event_loop

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def one_server_for_all(cls):
        with DevServerThread(cls.workflows) as server:
            cls.url = server.url
            yield

    @asynccontextmanager
    async def serve(self):
        yield lambda: NatsConnection.open(self.url)
