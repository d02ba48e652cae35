"""Fixtures of the core's tests, and a deadline for each: a case that would hang fails instead."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from grctl_core.client import WorkflowClient

from .scripted import ScriptedConnection, client_on

DEADLINE = 60.0
"""Seconds; cases take milliseconds. Nothing is to be read into it."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "core" and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.obj = _with_deadline(item.obj)


def _with_deadline(case: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(case)
    async def run(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(DEADLINE):
            await case(*args, **kwargs)

    return run


@pytest.fixture
def connection() -> ScriptedConnection:
    return ScriptedConnection()


@pytest.fixture
def client(connection: ScriptedConnection) -> WorkflowClient:
    return client_on(connection)
