"""Notifications: plain functions of plugins that are told what happened. What they raise breaks nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from grctl_core.outcome import Outcome
    from grctl_core.protocols import Connection, ConnectionEvent
    from grctl_core.run import RunInfo

__all__ = ["NO_STATE", "Listener", "Notifications"]

NO_STATE: Mapping[str, Any] = MappingProxyType({})
"""What plugins keep where they keep nothing; cannot be changed."""


class Listener(msgspec.Struct, frozen=True):
    """A plugin's function, and which of the hook's arguments it takes."""

    plugin: str
    hook: str
    function: Callable[..., object]
    arguments: tuple[str, ...]

    def tell(self, values: Mapping[str, Any]) -> None:
        """Call it. What it raises goes to the event loop's exception handler, and no further."""
        try:
            self.function(**{name: values[name] for name in self.arguments})
        except Exception as error:  # noqa: BLE001 - nobody else may suffer from a plugin's mistake
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"plugin {self.plugin!r}: {self.hook} raised {type(error).__name__}", "exception": error}
            )

    def __str__(self) -> str:
        return f"{self.plugin}.{self.hook}"


class Notifications(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told what, in the order of the plugin list.

    Attributes:
        on_run_ended: grctl_run_ended.
        on_retry_scheduled: grctl_retry_scheduled.
        on_connection_changed: grctl_connection_changed.
    """

    on_run_ended: tuple[Listener, ...] = ()
    on_retry_scheduled: tuple[Listener, ...] = ()
    on_connection_changed: tuple[Listener, ...] = ()

    def run_ended(self, state: Mapping[str, Any], run: RunInfo, outcome: Outcome[Any], waited: float) -> None:
        """Say that a handle learned how its run ended."""
        for listener in self.on_run_ended:
            listener.tell({"run": run, "outcome": outcome, "waited": waited, "state": state})

    def retry_scheduled(self, call: Any, error: Exception, delay: float, attempt: int) -> None:
        """Say that a call will be tried again."""
        for listener in self.on_retry_scheduled:
            listener.tell({"call": call, "error": error, "delay": delay, "attempt": attempt})

    def connection_changed(self, connection: Connection, event: ConnectionEvent) -> None:
        """Say that the connection is up, lost or closed."""
        for listener in self.on_connection_changed:
            listener.tell({"connection": connection, "event": event})
