"""Fixtures of the contract suite. README.md says how it runs against a live server."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from grctl import Client

from .helpers import DEADLINE
from .hosts import HOSTS, LIVE_URL, Host
from .repeating import WORKFLOW_IDS, Repeater
from .workflows import workflows

_suite = f"{time.time_ns() // 1_000_000:x}"
_numbers = itertools.count(1)
_hosted = False


def pytest_configure(config: pytest.Config) -> None:
    """On a live server a case that it hangs by a known defect is repeated once; our own servers have no excuse."""
    if LIVE_URL:
        config.pluginmanager.register(Repeater(LIVE_URL), "grctl-repeater")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each case a deadline: one that would hang fails instead, and says where it hung."""
    for item in items:
        if item.path.parent.name == "contract" and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.obj = _with_deadline(item.obj)


def _with_deadline(case: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(case)
    async def run(*args: Any, **kwargs: Any) -> None:
        limit = asyncio.timeout(DEADLINE)
        try:
            async with limit:
                await case(*args, **kwargs)
        finally:
            if limit.expired():
                pytest.fail(f"the case has not ended within {DEADLINE} s")

    return run


@pytest.fixture(params=HOSTS, ids=lambda host: host.name)
def host(request) -> Host:
    return request.param


@pytest.fixture
def ours(host: Host) -> None:
    """Skip on a live server: the case is about what our own engine promises beyond PROTOCOL.md."""
    if not host.ours:
        pytest.skip("promised by our own engine alone, not by PROTOCOL.md")


@pytest.fixture
async def connection(host: Host) -> AsyncIterator[Any]:
    connection = await host.open()
    try:
        if not host.ours:
            await _check_hosted(connection)
        yield connection
    finally:
        await connection.close(grace=0)


async def _check_hosted(connection: Any) -> None:
    global _hosted
    if _hosted:
        return
    missing = [wf.workflow_type for wf in workflows if await connection.find_type(wf.workflow_type) is None]
    if missing:
        pytest.exit(f"nobody hosts tests/contract/workflows.py on this server: not registered are {', '.join(missing)}")
    _hosted = True


@pytest.fixture
def client(connection: Any) -> Client:
    return Client(connection=connection)


@pytest.fixture
def unique_id(request: pytest.FixtureRequest) -> Callable[..., str]:
    """Return a function that makes workflow ids which no other case and no other run of the suite uses."""
    given = request.node.stash.setdefault(WORKFLOW_IDS, [])

    def make(name: str = "wf") -> str:
        given.append(f"{name}-{_suite}-{next(_numbers)}")
        return given[-1]

    return make
