"""Notifications: plain functions of plugins that are told what happened. What they raise breaks nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from grctl_core.outcome import Outcome
    from grctl_core.protocols import Connection, ConnectionEvent
    from grctl_core.run import RunInfo, RunRef

__all__ = ["NO_STATE", "Listener", "Notifications"]

NO_STATE: Mapping[str, Any] = MappingProxyType({})
"""What plugins keep where they keep nothing; cannot be changed."""


BLAMED = (Exception, asyncio.CancelledError)
"""What nobody else may suffer from. A CancelledError too: a plain function is not cancelled, so it is a mistake."""


class Listener(msgspec.Struct, frozen=True):
    """A plugin's function, and which of the hook's arguments it takes."""

    plugin: str
    hook: str
    function: Callable[..., object]
    arguments: tuple[str, ...]

    def call(self, values: Mapping[str, Any]) -> Any:
        """Call it with those of the values that it takes."""
        return self.function(**{name: values[name] for name in self.arguments})

    def tell(self, values: Mapping[str, Any]) -> None:
        """Call it. What it raises goes to the event loop's exception handler, and no further."""
        try:
            self.call(values)
        except BLAMED as error:
            self.blame(error)

    def blame(self, error: BaseException) -> None:
        """Report what it raised: to the event loop's exception handler, and no further."""
        said = {"message": f"plugin {self.plugin!r}: {self.hook} raised {type(error).__name__}", "exception": error}
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a handle's log context may be entered anywhere
            with contextlib.closing(asyncio.new_event_loop()) as loop:
                loop.call_exception_handler(said)
        else:
            loop.call_exception_handler(said)

    def __str__(self) -> str:
        return f"{self.plugin}.{self.hook}"


class Notifications(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told what, in the order of the plugin list.

    Attributes:
        on_run_ended: grctl_run_ended.
        on_retry_scheduled: grctl_retry_scheduled.
        on_connection_changed: grctl_connection_changed.
        on_log_context: grctl_log_context.
    """

    on_run_ended: tuple[Listener, ...] = ()
    on_retry_scheduled: tuple[Listener, ...] = ()
    on_connection_changed: tuple[Listener, ...] = ()
    on_log_context: tuple[Listener, ...] = ()

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

    @contextlib.contextmanager
    def log_context(self, run: RunRef) -> Iterator[None]:
        """Enter what each plugin gives. What it raises, at either end, does not reach the block."""
        entered: list[tuple[Listener, AbstractContextManager[object]]] = []
        for listener in self.on_log_context:
            try:
                context = listener.call({"run": run})
                context.__enter__()
                entered.append((listener, context))
            except BLAMED as error:
                listener.blame(error)
        try:
            yield
        finally:
            for listener, context in reversed(entered):
                try:
                    context.__exit__(None, None, None)
                except BLAMED as error:
                    listener.blame(error)
