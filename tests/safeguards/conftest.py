from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import nats
import pytest
from dev_server import workflows
from dev_server.raw import Raw
from msgspec.structs import replace

from grctl import Client
from grctl.nats.connection import Connection
from grctl.testing import DevServer, Fault, Faults, What
from grctl_nats import Safeguards

PATIENT = Safeguards(begun_within=20.0, settled_within=20.0, residue_within=20.0)
"""All on, and none gives up on a slow machine."""


class Place:
    """A server with faults, a client of it, and a look at the records that none of our transport is in."""

    def __init__(self, server: DevServer, faults: Faults, connection: Connection, raw: Raw, timeout: float) -> None:
        self.server = server
        self.faults = faults
        self.connection = connection
        self.raw = raw
        self.client = Client(connection=connection, request_timeout=timeout)

    @property
    def struck(self) -> list[What]:
        return self.faults.struck


Open = Callable[..., Awaitable[Place]]


@pytest.fixture(autouse=True)
def gate() -> asyncio.Event:
    """Closed, and of this test's event loop."""
    workflows.gate = asyncio.Event()
    return workflows.gate


@pytest.fixture
async def open_place() -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def open_place(*rules: Fault, without: str | None = None, timeout: float = 20.0) -> Place:
            faults = Faults(*rules)
            server = await stack.enter_async_context(DevServer(workflows.workflows, faults=faults))

            async def open_raw() -> nats.NATS:
                client = await nats.connect(
                    server.url,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0.01,
                    error_cb=_say_nothing,
                )
                stack.push_async_callback(client.close)
                return client

            raw = Raw(await open_raw(), open_raw)
            guards = PATIENT if without is None else replace(PATIENT, **{without: False})
            connection = await stack.enter_async_context(await Connection.open(server.url, safeguards=guards))
            return Place(server, faults, connection, raw, timeout)

        yield open_place


async def _say_nothing(_: Exception) -> None: ...
