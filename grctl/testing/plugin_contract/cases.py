"""Contract: what the cases of the suite stand on."""

from __future__ import annotations

import asyncio
import functools
import warnings
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar, TypeVar

import pytest

__all__ = ["Contract", "case", "settled"]

C = TypeVar("C", bound="Contract")

_GRACE = 1.0
"""Seconds that tasks get to end in when they are cancelled."""


def case(test: Callable[[C], Awaitable[None]]) -> Callable[[C], None]:
    """Make a case: a plain method that runs in an event loop of its own, up to a deadline.

    It fails, too, if a plugin leaves tasks behind, raises in a notification, or warns its user.
    """

    @functools.wraps(test)
    def run(self: C) -> None:
        loop = asyncio.new_event_loop()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # deprecations in what it imports are not its doing
                loop.run_until_complete(_within(self, test, run.__name__))
        finally:
            _close(loop)

    del run.__wrapped__  # pytest would take what it wraps for a test of its own kind
    return run


async def settled(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0.001)


class _Progress:
    """What a case is waiting for, to be told if it hangs."""

    waits_for = "a call through the plugin"


async def _within(contract: C, test: Callable[[C], Awaitable[None]], name: str) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    contract.made = []
    progress = _Progress()
    before = asyncio.all_tasks()
    running = asyncio.ensure_future(_whole(contract, test, progress))
    # Not asyncio.timeout: that waits for a plugin that does not let itself be cancelled.
    done, _ = await asyncio.wait([running], timeout=contract.deadline)
    if not done:
        left = asyncio.all_tasks() - before - {running}
        tasks = "".join(f"\n  {task.get_coro()!r}" for task in left)
        pytest.fail(
            f"plugin {_name(contract)}: the case {name} has not ended within {contract.deadline:g} s; it waited for "
            f"{progress.waits_for}{tasks}"
        )
    running.result()
    for complaint in complaints:
        error = complaint.get("exception")
        raise AssertionError(f"the event loop was told: {complaint['message']}") from error


async def _whole(contract: C, test: Callable[[C], Awaitable[None]], progress: _Progress) -> None:
    own = asyncio.all_tasks()
    try:
        await test(contract)
        progress.waits_for = "close_plugin()"
    finally:
        for plugin in contract.made:
            await contract.close_plugin(plugin)
    progress.waits_for = "tasks that the plugin left behind"
    await settled(lambda: asyncio.all_tasks() <= own)


def _name(contract: Contract) -> str:
    plugin = contract.made[-1] if contract.made else None
    return repr(getattr(plugin, "name", type(contract).__name__))


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Close it as asyncio.run does, but do not wait for ever for what does not let itself be cancelled."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    try:
        loop.run_until_complete(_wind_up(loop, tasks))
    finally:
        loop.close()


async def _wind_up(loop: asyncio.AbstractEventLoop, tasks: AbstractSet[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=_GRACE)
    ends = (loop.shutdown_asyncgens(), loop.shutdown_default_executor())
    await asyncio.wait([asyncio.ensure_future(end) for end in ends], timeout=_GRACE)


class Contract:
    """A suite that is run on plugins of the subclass."""

    answers: ClassVar[AbstractSet[str]] = frozenset()
    """The operations that the plugin may answer or refuse without proceeding: ``"start"``, ``"send"``, ``"cancel"``,
    ``"terminate"``, ``"describe"``, ``"query"``, ``"result"``; and ``"attempt"``. Nothing is expected of their results.
    """

    changes: ClassVar[AbstractSet[str]] = frozenset()
    """The operations whose values, results or errors the plugin changes on purpose. They are not compared."""

    deadline: ClassVar[float] = 30.0
    """Seconds after which a case counts as hanging, and fails. Cases take far less.

    A plugin that does not let the event loop run at all cannot be stopped so; pytest-timeout stops that.
    """

    made: list[object]
    """The plugins that the case has made."""

    def make_plugin(self) -> object:
        """Return a new plugin: to be overridden. It is called in the event loop of the case.

        A plugin that pauses should be made so that it does not, and one that tries again so that it soon gives up.
        """
        raise NotImplementedError("override make_plugin(): see the docstring of PluginContract")

    async def close_plugin(self, plugin: object) -> None:
        """End what the plugin has running, when a case is over: to be overridden where there is such a thing."""

    def new_plugin(self) -> Any:
        """Make a plugin that is closed when the case is over."""
        plugin = self.make_plugin()
        self.made.append(plugin)
        return plugin

    def compares(self, operation: str) -> bool:
        """Whether an operation must end as it does without the plugin."""
        return operation not in self.answers and operation not in self.changes
