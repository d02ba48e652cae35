"""What the tests of the synchronous client share: connections, and the contract suite's workflows."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from contract.hosts import Host
from contract.workflows import workflows

from grctl.sync import Client, Connection, connect

_suite = f"{time.time_ns() // 1_000_000:x}"
_numbers = itertools.count(1)

MEMORY, NATS = Host("memory", ours=True), Host("nats", ours=True)


def open_on(host: Host) -> Connection:
    return connect("memory://", workflows=workflows) if host is MEMORY else connect(host.url())


@pytest.fixture(params=[MEMORY, NATS], ids=lambda host: host.name)
def connection(request) -> Iterator[Connection]:
    connection = open_on(request.param)
    yield connection
    connection.close(grace=0)


@pytest.fixture
def client(connection) -> Client:
    return Client(connection=connection)


@pytest.fixture
def memory() -> Iterator[Client]:
    with open_on(MEMORY) as connection:
        yield Client(connection=connection)


@pytest.fixture
def unique_id() -> Callable[[], str]:
    return lambda: f"sync-{_suite}-{next(_numbers)}"


def tasks_of(connection: Connection) -> set[asyncio.Task[Any]]:
    """Return the tasks of the connection's event loop, without the one that looks."""

    async def look() -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - {asyncio.current_task()}

    return connection._thread.run(look)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    while not condition():
        time.sleep(0.002)
