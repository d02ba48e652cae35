"""Slots: how many requests may wait for their reply at once; further ones queue, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Slots"]


class Slots:
    """A number of slots. ``asyncio.Semaphore`` does the same, for several times the cost where a slot is free.

    Args:
        count: how many there are.
    """

    __slots__ = ("_free", "_loop", "_queue")

    def __init__(self, count: int) -> None:
        self._free = count
        self._loop = asyncio.get_running_loop()
        self._queue: deque[asyncio.Future[None]] = deque()

    def take_now(self) -> bool:
        """Take a slot if one is free. It is the caller's until :meth:`give_back`."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def take(self) -> None:
        """Wait for a slot, and take it."""
        if self.take_now():
            return
        turn = self._loop.create_future()
        self._queue.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # cancelled in the moment in which its turn came
                self.give_back()
            raise

    def give_back(self) -> None:
        """Give a slot to who has queued longest. While somebody queues none is free, so nobody overtakes."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
