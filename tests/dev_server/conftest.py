from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import nats
import pytest
from nats.aio.client import Client

from grctl.testing import DevServer

from . import workflows
from .raw import Raw


@pytest.fixture(autouse=True)
def gate() -> asyncio.Event:
    """Closed, and of this test's event loop."""
    workflows.gate = asyncio.Event()
    return workflows.gate


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def connect(stack: AsyncExitStack) -> Callable[..., Awaitable[Raw]]:
    async def connect(url: str, *, reconnect: bool = False) -> Raw:
        async def open_client() -> Client:
            client = await nats.connect(
                url, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0.01, error_cb=_say_nothing
            )
            stack.push_async_callback(client.close)
            return client

        return Raw(await open_client(), open_client if reconnect else None)

    return connect


@pytest.fixture(autouse=True)
def what_the_driver_drops() -> Iterator[None]:
    """The driver does not always close its socket when its broker is killed: that is collected here, in silence."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


async def _say_nothing(_: Exception) -> None: ...


@pytest.fixture
async def server() -> AsyncIterator[DevServer]:
    async with DevServer(workflows.workflows) as server:
        yield server


@pytest.fixture
async def raw(server: DevServer, connect: Callable[..., Awaitable[Raw]]) -> Raw:
    return await connect(server.url)
