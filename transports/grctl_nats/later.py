"""Later: a call for each of very many keys, each after one of a few pauses, with one timer for each pause."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Later"]

K = TypeVar("K")

_MOST = 5_000
"""Keys that one turn of the event loop is used for."""


class Later(Generic[K]):
    """Calls a function with a key after a pause. Keys of equal pauses are due in the order in which they came.

    A timer for each key, as ``loop.call_later`` makes one, costs four times as much, and half a kilobyte.

    Args:
        function: what is called.
    """

    def __init__(self, function: Callable[[K], object]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self._queues: dict[float, deque[tuple[float, K]]] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}

    def call(self, key: K, pause: float) -> None:
        """Call the function with the key in so many seconds."""
        queue = self._queues.get(pause)
        if queue is None:
            queue = self._queues[pause] = deque()
        when = self._loop.time() + pause
        queue.append((when, key))
        if pause not in self._timers:
            self._arm(pause, when)

    def close(self) -> None:
        """Call it no more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._queues.clear()

    def _arm(self, pause: float, when: float) -> None:
        # In an empty context: it outlives the call that arms it, and would keep that one's span.
        self._timers[pause] = self._loop.call_at(when, self._fire, pause, context=contextvars.Context())

    def _fire(self, pause: float) -> None:
        queue = self._queues[pause]
        del self._timers[pause]
        now = self._loop.time()
        for _ in range(min(len(queue), _MOST)):
            if queue[0][0] > now:
                break
            self._function(queue.popleft()[1])
        if not queue:
            self._queues.pop(pause, None)
        elif pause not in self._timers:
            self._arm(pause, queue[0][0])
