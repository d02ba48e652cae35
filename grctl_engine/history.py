"""HistoryReader: iterates over a run's history, also while it is being written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from grctl_core.history import HistoryEvent
from grctl_engine.run import Run

__all__ = ["HistoryReader"]


class HistoryReader:
    """An iterator over a run's history: without gaps or duplicates, without polling.

    A class, and no generator: between two events it holds nothing that would have to be given back, so a consumer
    may stop whenever it likes.
    """

    def __init__(self, find: Callable[[], Run], check: Callable[[], None], *, follow: bool, owner: object) -> None:
        """Read a run's history.

        Args:
            find: returns the run, or raises; called when the first event is asked for.
            check: called before each waiting; raises when nothing will come any more.
            follow: wait for further events until the run has ended.
            owner: what the reader belongs to: closing that ends the waiting.

        """
        self._find = find
        self._check = check
        self._follow = follow
        self._owner = owner
        self._run: Run | None = None
        self._next = 0
        self._end = 0

    def __aiter__(self) -> HistoryReader:
        return self

    async def __anext__(self) -> HistoryEvent:
        if self._run is None:
            self._run = self._find()
            self._end = len(self._run.history)
        run = self._run
        while self._next >= (len(run.history) if self._follow else self._end):
            if not self._follow or run.state is None:
                raise StopAsyncIteration
            await self._wait_for_event(run)
        self._next += 1
        return run.event(self._next - 1)

    async def _wait_for_event(self, run: Run) -> None:
        self._check()
        future = asyncio.get_running_loop().create_future()
        if run.followers is None:
            run.followers = {}
        run.followers[future] = self._owner
        try:
            await future
        finally:
            if run.followers is not None:
                run.followers.pop(future, None)
