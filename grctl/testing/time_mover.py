"""TimeMover: moves the time of an engine on whenever nothing else happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from grctl_engine.clock import ManualClock
from grctl_engine.engine import Engine

__all__ = ["TimeMover"]

MOST_MOVES = 10_000
"""How often one wait may move the time: a workflow that wakes up for ever takes them all."""

_LONGEST_PAUSE = 0.01


class TimeMover:
    """Moves time while somebody outside waits for a run and no step waits for something outside.

    Args:
        engine: whose time it is.
        clock: its clock.
        patience: seconds of the machine's time without anything happening that count as stuck.
    """

    def __init__(self, engine: Engine, clock: ManualClock, patience: float) -> None:
        self._engine = engine
        self._clock = clock
        self.patience = patience
        self._turn = asyncio.Lock()

    async def move_until(self, done: Callable[[], bool], within: timedelta | None) -> None:
        """Go from one moment at which something is due to the next, until it is done.

        Raises:
            TimeoutError: see ``ManualEngine.advance_until``.
            RuntimeError: the engine does not settle.

        """
        began = self._clock.now()
        for _ in range(MOST_MOVES):
            # One after the other, or one of two that wait would move on when the other's move has brought its end.
            async with self._turn:
                await self._rest(done)
                if done():
                    return
                await self._move(began, within)
        raise TimeoutError(
            f"time was moved {MOST_MOVES:,} times, by {self._clock.now() - began} in all, and what was awaited has not "
            "come: does a workflow wake up again and again? Bound it with within="
        )

    async def _move(self, began: datetime, within: timedelta | None) -> None:
        """Go to the next moment at which something is due, if that is within what is allowed."""
        due = self._clock.next_due
        if due is None:
            raise TimeoutError(
                f"time was moved by {self._clock.now() - began}, and what was awaited has not come: no timer is left "
                "that could bring anything about"
            )
        if within is not None and due - began > within:
            if self._clock.now() < began + within:
                await self._clock.advance(began + within - self._clock.now())
            raise TimeoutError(f"time was moved by {within}, and what was awaited has not come")
        await self._clock.advance_to_next()

    async def _rest(self, done: Callable[[], bool]) -> None:
        """Wait until time has to move, or it is done."""
        engine = self._engine
        seen, since, pause = engine.activity, time.monotonic(), 0.0
        while True:
            await self._clock.settle()
            if done() or (engine.is_awaited and not engine.is_busy):
                return
            if engine.activity != seen:
                seen, since, pause = engine.activity, time.monotonic(), 0.0
            elif time.monotonic() - since > self.patience:
                raise TimeoutError(f"nothing has happened for {self.patience:g} s of the machine's time: {self._why()}")
            await asyncio.sleep(pause)
            pause = min(pause * 2 + 0.0005, _LONGEST_PAUSE)

    def _why(self) -> str:
        if self._engine.is_busy:
            return (
                "a step waits for something outside of the engine, and while it does time is not moved. Bring about "
                "what it waits for, or move the time yourself, by advance(): then its timeout strikes"
            )
        return (
            "what was awaited waits neither for the end of a run nor for its next event, so time is not moved. Move it "
            "yourself, by advance()"
        )
