"""Measuring: ours and a reference take turns in one run, and what counts is the ratio of each pair of turns."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

import msgspec

__all__ = ["Call", "Cost", "LagMeter", "Pair", "Turn", "in_turns", "many", "settled"]

Call = Callable[[int], Awaitable[object]]
"""Does one of the things to be measured; takes its number."""


class Cost(msgspec.Struct, frozen=True):
    """What one call costs, in seconds.

    Attributes:
        wall: time that went by.
        cpu: time that this process worked, the kernel's work for it included.
    """

    wall: float
    cpu: float


Turn = Callable[[], Awaitable[Cost]]
"""Measures one of those that are compared, once."""


class Pair(msgspec.Struct, frozen=True):
    """What two turns each cost, round by round."""

    ours: list[Cost]
    reference: list[Cost]

    def figures(self, what: str) -> tuple[float, float]:
        """Return the medians of ``"cpu"`` or ``"wall"``: ours, the reference."""
        return _median(self.ours, what), _median(self.reference, what)

    def ratio(self, what: str) -> float:
        """Return the median of the ratios of each round: what disturbs one round disturbs both of it."""
        return statistics.median(
            getattr(ours, what) / getattr(reference, what)
            for ours, reference in zip(self.ours, self.reference, strict=True)
        )

    def least(self, what: str) -> tuple[float, float]:
        """Return what both cost in the least disturbed rounds: the fastest tenth, or the fastest of few."""
        return _least(self.ours, what), _least(self.reference, what)


def _median(costs: Sequence[Cost], what: str) -> float:
    return statistics.median(getattr(cost, what) for cost in costs)


def _least(costs: Sequence[Cost], what: str) -> float:
    ordered = sorted(getattr(cost, what) for cost in costs)
    return ordered[len(ordered) // 10]


async def in_turns(ours: Turn, reference: Turn, rounds: int) -> Pair:
    """Measure A B A B; the first round, in which caches are filled, does not count."""
    pair = Pair([], [])
    for number in range(rounds + 1):
        for turn, costs in ((ours, pair.ours), (reference, pair.reference)):
            cost = await turn()
            if number:
                costs.append(cost)
    return pair


async def many(call: Call, calls: int, at_once: int = 1) -> Cost:
    """Return what one of many calls costs, so many at once."""
    numbers = iter(range(calls))

    async def work() -> None:
        for number in numbers:
            await call(number)

    settled()
    wall, cpu = time.perf_counter(), time.process_time()
    if at_once == 1:
        await work()
    else:
        await asyncio.gather(*(work() for _ in range(at_once)))
    return Cost((time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls)


def settled() -> None:
    """Collect garbage, so that nobody pays for what another turn left."""
    gc.collect()


class LagMeter:
    """Measures for how long the event loop does not come round, while the block runs.

    A lag is the time by which a timer of a millisecond is late, but no more than this thread worked meanwhile: where
    the machine gave the processor to somebody else, the loop was not blocked by anything of ours.

    Attributes:
        lags: seconds, one for each millisecond or so.
    """

    def __init__(self) -> None:
        self.lags: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._measure())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _measure(self) -> None:
        step = 0.001
        while True:
            wall, worked = time.perf_counter(), time.thread_time()
            await asyncio.sleep(step)
            late = time.perf_counter() - wall - step
            self.lags.append(max(0.0, min(late, time.thread_time() - worked)))

    @property
    def worst(self) -> float:
        """The longest lag, in seconds."""
        return max(self.lags, default=0.0)

    @property
    def p99(self) -> float:
        """The lag that one in a hundred exceeds, in seconds."""
        ordered = sorted(self.lags)
        return ordered[int(len(ordered) * 0.99)] if ordered else 0.0
