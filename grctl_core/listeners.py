"""Listeners: who is told when a connection is up, lost or closed. For transports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from grctl_core.protocols import ConnectionEvent, ConnectionListener

__all__ = ["Listeners"]


class Listeners:
    """The listeners of one connection.

    Args:
        log: where it is said what a listener raised.
    """

    __slots__ = ("_listeners", "_log")

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._listeners: list[ConnectionListener] = []

    def add(self, listener: ConnectionListener) -> Callable[[], None]:
        """Have a listener told from now on; returns what removes it."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def tell(self, event: ConnectionEvent) -> None:
        """Tell all of them. What one raises is its own affair: it is logged, and goes no further.

        After CLOSED there is nothing more to tell, and they are let go.
        """
        listeners = list(self._listeners)
        if event is ConnectionEvent.CLOSED:
            self._listeners.clear()
        for listener in listeners:
            try:
                listener(event)
            except (Exception, asyncio.CancelledError):  # noqa: BLE001 - a plain function is not cancelled
                self._log.exception("listener %r failed", listener)
