"""Deadlines: a call's deadline bounds the attempt that is under way, too.

All attempts of a client share one timer. A deadline is almost never reached, and a timer for each attempt, as
``asyncio.timeout`` makes one, would cost several times what the rest of a retry costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from grctl_core.calls import CommandCall
from grctl_core.errors import DeliveryUnknownError

__all__ = ["Deadlines"]


class _Limit:
    """An attempt under way, and when it is given up."""

    __slots__ = ("is_over", "task", "when")

    def __init__(self, task: asyncio.Task[Any], when: float) -> None:
        self.task = task
        self.when = when
        self.is_over = False


class Deadlines:
    """The deadlines of the attempts that are under way."""

    __slots__ = ("_limits", "_loop", "_timer")

    def __init__(self) -> None:
        self._limits: set[_Limit] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def bound(
        self, call: CommandCall, attempt: Callable[[Any], Awaitable[Any]], out_of_time: Callable[[], Exception] | None
    ) -> Any:
        """Make an attempt, and give it up when the call's deadline passes; without a deadline it takes what it takes.

        Args:
            call: the call.
            attempt: makes the attempt.
            out_of_time: returns the error to raise then; None for operations that change nothing.

        """
        loop = asyncio.get_running_loop()
        task, when = asyncio.current_task(loop), call.deadline
        if when is None or task is None:
            return await attempt(call)
        if when > loop.time():  # nothing begins after the deadline
            cancelling = task.cancelling()
            limit = _Limit(task, when)
            self._limits.add(limit)
            if loop is not self._loop or self._timer is None or when < self._timer.when():
                self._arm(loop, when)
            try:
                return await attempt(call)
            except asyncio.CancelledError:
                if not limit.is_over or task.cancelling() - 1 > cancelling:
                    raise  # somebody else cancelled it
            finally:
                self._limits.discard(limit)
                if limit.is_over:
                    task.uncancel()
        if out_of_time is not None:
            raise out_of_time()
        raise DeliveryUnknownError(
            f"the {call.operation} of workflow {call.workflow_id!r} was not answered before the call's deadline"
        )

    def _arm(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None and loop is self._loop:
            self._timer.cancel()
        self._loop = loop
        self._timer = loop.call_at(when, self._look)

    def _look(self) -> None:
        """Give up what is over, and come back for the next one. What ended in time is no longer there."""
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        for limit in [limit for limit in self._limits if limit.when <= now]:
            self._limits.discard(limit)
            limit.is_over = True
            limit.task.cancel()
        if self._limits:
            self._arm(loop, min(limit.when for limit in self._limits))
