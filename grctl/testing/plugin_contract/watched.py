"""Watched: a plugin with a look at what its layers do with proceed and with cancellation."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from typing import Any

from grctl_core.composition import compose_plugins
from grctl_core.hooks import Plugin

__all__ = ["Recorder", "hooks_of", "watched"]

_NOTIFICATIONS = ("grctl_run_ended", "grctl_retry_scheduled", "grctl_connection_changed")

Layer = Callable[[Any, Any], Awaitable[Any]]


def hooks_of(plugin: object) -> set[str]:
    """Return the names of the hooks that a plugin implements."""
    found = {layer.rpartition(".")[2] for layers in compose_plugins([plugin]).layers.values() for layer in layers}
    log_context = getattr(type(plugin), "grctl_log_context", None)
    if log_context is not None and log_context is not Plugin.grctl_log_context:
        found.add("grctl_log_context")
    return found


class Recorder(Plugin):
    """A plugin that remembers which calls come by, and can look at something in the middle of each.

    Args:
        name: its name.
        look: called with each call, before it goes on.
    """

    name = "recorder"

    def __init__(self, name: str = "recorder", look: Callable[[Any], object] | None = None) -> None:
        self.name = name  # there may be several
        self.calls: list[str] = []
        self._look = look

    async def grctl_operation(self, call: Any, proceed: Any) -> Any:
        """Remember."""
        self.calls.append(call.operation)
        if self._look is not None:
            self._look(call)
        return await proceed(call)


class _Counted:
    """A proceed that counts."""

    def __init__(self, proceed: Any) -> None:
        self._proceed = proceed
        self.count = 0

    def __call__(self, call: Any) -> Awaitable[Any]:
        self.count += 1
        found: Awaitable[Any] = self._proceed(call)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._proceed, name)


def watched(plugin: Any, faults: list[str], answers: AbstractSet[str] = frozenset()) -> object:
    """Return a plugin that does what another does; what that does wrong is noted in ``faults``."""
    members: dict[str, Any] = {"name": plugin.name}
    for hook in hooks_of(plugin):
        function = getattr(plugin, hook)
        if hook in _NOTIFICATIONS:
            members[hook] = staticmethod(_listen(hook, function, faults))
        elif hook == "grctl_log_context":
            members[hook] = staticmethod(function)
        else:
            members[hook] = _watch(hook, function, faults, answers)
    return type("Watched", (), members)()


def _listen(hook: str, function: Callable[..., object], faults: list[str]) -> Callable[..., object]:
    @functools.wraps(function)  # the core looks at which arguments it takes
    def told(*args: object, **kwargs: object) -> object:
        try:
            return function(*args, **kwargs)
        except asyncio.CancelledError:
            faults.append(f"{hook} raised CancelledError: a notification is no task, and nobody has cancelled it")
            return None

    return told


def _watch(hook: str, function: Layer, faults: list[str], answers: AbstractSet[str]) -> Any:
    async def around(call: Any, proceed: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        cancelled_before = task.cancelling()
        counted = _Counted(proceed)
        what = "attempt" if hook == "grctl_attempt" else call.operation
        try:
            result = await function(call, counted)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if task.cancelling() > cancelled_before:
                faults.append(f"{hook} around {what}: turned a CancelledError into {type(error).__name__}")
            else:
                _count(hook, what, counted.count, faults, answers)
            raise
        if task.cancelling() > cancelled_before:
            faults.append(f"{hook} around {what}: swallowed a CancelledError")
        else:
            _count(hook, what, counted.count, faults, answers)
        return result

    if hook == "grctl_attempt":

        async def layer_of_attempt(attempt: Any, proceed: Any) -> Any:
            return await around(attempt, proceed)

        return staticmethod(layer_of_attempt)

    async def layer(call: Any, proceed: Any) -> Any:
        return await around(call, proceed)

    return staticmethod(layer)


def _count(hook: str, what: str, count: int, faults: list[str], answers: AbstractSet[str]) -> None:
    if count > 1 and hook != "grctl_retry":
        faults.append(f"{hook} around {what}: called proceed {count} times")
    if count == 0 and what not in answers:
        faults.append(
            f"{hook} around {what}: did not call proceed; if that is meant, let the suite's `answers` name {what!r}"
        )
