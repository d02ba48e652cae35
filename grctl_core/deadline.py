"""Deadlines: a call's deadline bounds the attempt that is under way, too.

All attempts of a client share one timer. A deadline is almost never reached, and a timer for each attempt, as
``asyncio.timeout`` makes one, would cost several times what the rest of a retry costs.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from grctl_core.calls import CommandCall
from grctl_core.errors import DeliveryUnknownError

__all__ = ["Deadlines"]


class _Limit(msgspec.Struct, eq=False):
    """An attempt under way, and when it is given up."""

    task: asyncio.Task[Any]
    when: float
    is_over: bool = False


class Deadlines:
    """The deadlines of the attempts that are under way."""

    __slots__ = ("_limits", "_loop", "_next", "_timer")

    def __init__(self) -> None:
        self._limits: set[_Limit] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next = math.inf  # when the timer fires
        self._timer: asyncio.TimerHandle | None = None

    async def bound(
        self,
        call: CommandCall,
        attempt: Callable[[Any], Awaitable[Any]],
        out_of_time: Callable[[], Exception] | None,
        task: asyncio.Task[Any] | None = None,
    ) -> Any:
        """Make an attempt, and give it up when the call's deadline passes; without a deadline it takes what it takes.

        Args:
            call: the call.
            attempt: makes the attempt.
            out_of_time: returns the error to raise then; None for operations that change nothing.
            task: the task that it is called in, where that is known: looking it up costs.

        """
        when = call.deadline
        if task is None:
            task = asyncio.current_task()
        if when is None or task is None:
            return await attempt(call)
        loop = task.get_loop()
        if when > loop.time():  # nothing begins after the deadline
            cancelling = task.cancelling()
            limit = _Limit(task, when)
            self._limits.add(limit)
            if when < self._next or loop is not self._loop:
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
        self._loop, self._next = loop, when
        # In an empty context: it outlives the call that arms it, and would keep that one's span.
        self._timer = loop.call_at(when, self._look, context=contextvars.Context())

    def _look(self) -> None:
        """Give up what is over, and come back for the next one. What ended in time is no longer there."""
        loop = asyncio.get_running_loop()
        self._timer = None
        self._next = math.inf
        now = loop.time()
        for limit in [limit for limit in self._limits if limit.when <= now]:
            self._limits.discard(limit)
            limit.is_over = True
            limit.task.cancel()
        if self._limits:
            self._arm(loop, min(limit.when for limit in self._limits))
