"""Stepping: interrupt a coroutine at its nth suspension, before or as what it waits for comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from enum import Enum
from typing import Any

__all__ = ["Moment", "Stepped"]


class Moment(Enum):
    """When the interruption comes."""

    WAITING = "as it begins to wait"
    WOKEN = "in the turn in which what it waits for comes"


class Stepped:
    """Awaits a coroutine, and calls ``interrupt`` at its nth suspension.

    Attributes:
        suspensions: how many there were.
        interrupted: whether there was an nth one.
    """

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], at: int, moment: Moment, interrupt: Callable[[], object]
    ) -> None:
        self._coroutine = coroutine
        self._at = at
        self._moment = moment
        self._interrupt = interrupt
        self.suspensions = 0
        self.interrupted = False

    def __await__(self) -> Generator[Any, None, Any]:
        steps = self._coroutine.__await__()
        loop = asyncio.get_running_loop()
        thrown: BaseException | None = None
        while True:
            try:
                waits_for = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration as end:
                return end.value
            self.suspensions += 1
            if self.suspensions == self._at:
                self.interrupted = True
                if self._moment is Moment.WOKEN and asyncio.isfuture(waits_for) and not waits_for.done():
                    # Before the task's own callback, which the loop adds once this is yielded.
                    waits_for.add_done_callback(lambda _: self._interrupt())
                else:
                    loop.call_soon(self._interrupt)
            try:
                yield waits_for
                thrown = None
            except BaseException as error:
                thrown = error
