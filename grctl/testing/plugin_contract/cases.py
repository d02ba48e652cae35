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


def case(test: Callable[[C], Awaitable[None]]) -> Callable[[C], None]:
    """Make a case: a plain method that runs in an event loop of its own, up to a deadline.

    It fails, too, if a plugin leaves tasks behind, raises in a notification, or warns its user.
    """

    @functools.wraps(test)
    def run(self: C) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # deprecations in what it imports are not its doing
            asyncio.run(_within(self, test))

    del run.__wrapped__  # pytest would take what it wraps for a test of its own kind
    return run


async def settled(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0.001)


async def _within(contract: C, test: Callable[[C], Awaitable[None]]) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    limit = asyncio.timeout(contract.deadline)
    before = asyncio.all_tasks()
    contract.made = []
    waiting_for = "a call through the plugin"
    left: set[asyncio.Task[Any]] = set()
    try:
        async with limit:
            try:
                await test(contract)
                waiting_for = "close_plugin()"
            finally:
                for plugin in contract.made:
                    await contract.close_plugin(plugin)
            waiting_for = "tasks that the plugin left behind"
            await settled(lambda: asyncio.all_tasks() <= before)
    except TimeoutError:
        left = asyncio.all_tasks() - before
        if not limit.expired():
            raise
    if limit.expired():
        tasks = "".join(f"\n  {task.get_coro()!r}" for task in left)
        pytest.fail(f"the case has not ended within {contract.deadline:g} s; it waited for {waiting_for}{tasks}")
    for complaint in complaints:
        error = complaint.get("exception")
        raise AssertionError(f"the event loop was told: {complaint['message']}") from error


class Contract:
    """A suite that is run on plugins of the subclass."""

    answers: ClassVar[AbstractSet[str]] = frozenset()
    """The operations that the plugin may answer or refuse without proceeding: ``"start"``, ``"send"``, ``"cancel"``,
    ``"terminate"``, ``"describe"``, ``"query"``, ``"result"``; and ``"attempt"``. Nothing is expected of their results.
    """

    changes: ClassVar[AbstractSet[str]] = frozenset()
    """The operations whose values, results or errors the plugin changes on purpose. They are not compared."""

    deadline: ClassVar[float] = 60.0
    """Seconds after which a case counts as hanging. Cases take far less."""

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
