"""What the tests of grctl_retry share: a client that retries, and a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from core.scripted import ONE_LOOK, ScriptedConnection, client_on

from grctl_core.client import WorkflowClient
from grctl_core.hooks import Plugin
from grctl_core.plugins import plugins_of
from grctl_core.reconcile import DoubtBounds
from grctl_retry import Retry, RetryPlugin


class Clock:
    """The event loop's clock, moved by hand: a pause takes no time, and moves it."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.pauses: list[float] = []
        loop = asyncio.get_running_loop()
        real = loop.time
        loop.time = lambda: real() + self.ahead

    def forward(self, seconds: float) -> None:
        self.ahead += seconds

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.forward(seconds)
        await asyncio.sleep(0)


async def no_pause(seconds: float) -> None:
    """A pause that takes no time."""
    await asyncio.sleep(0)


class Told(Plugin):
    """Keeps what is told of retries."""

    name = "told"

    def __init__(self) -> None:
        self.retries: list[tuple[str, str, float, int]] = []

    def grctl_retry_scheduled(self, call: Any, error: Exception, delay: float, attempt: int) -> None:
        self.retries.append((call.operation, type(error).__name__, delay, attempt))


def retrying_client(
    connection: ScriptedConnection,
    policy: Retry | None = None,
    *plugins: object,
    sleep: Callable[[float], Awaitable[object]] = no_pause,
    budget: int | None = 1000,
    random: Callable[[], float] = lambda: 1.0,
    bounds: DoubtBounds = ONE_LOOK,
) -> WorkflowClient:
    retry = RetryPlugin(policy, budget=budget, sleep=sleep, random=random)
    return client_on(connection, plugins_of([retry, *plugins]).pipeline, bounds)


async def ways(client: WorkflowClient, **kept: Any) -> dict[str, Callable[..., Awaitable[Any]]]:
    """One call of each operation, on a run that goes on."""
    handle = await client.get_handle("order-1", retry=None)
    return {
        "start": lambda **more: client.start_workflow("Order", "order-2", **more),
        "send": lambda **more: handle.send("approve", **more),
        "send idempotent": lambda **more: handle.send("approve", idempotent=True, **more),
        "cancel": handle.cancel,
        "terminate": handle.terminate,
        "describe": handle.describe,
        "query": lambda **more: handle.query("state", **more),
    }


KINDS = {
    "start": "run.start",
    "send": "run.event",
    "send idempotent": "run.event",
    "cancel": "run.cancel",
    "terminate": "run.terminate",
    "describe": "run.describe",
    "query": "run.query",
}
"""What each operation sends."""
