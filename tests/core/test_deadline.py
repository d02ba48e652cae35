"""grctl_core.deadline: one timer for all attempts under way."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest

from grctl_core.calls import CancelCall, DescribeCall
from grctl_core.deadline import Deadlines
from grctl_core.errors import DeliveryUnknownError, NotSentError
from grctl_core.run import RunRef

from .scripted import settle

RUN = RunRef("order-1", "R1", "Order")


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0
        self.loop = asyncio.get_running_loop()
        real = self.loop.time
        self.loop.time = lambda: real() + self.ahead

    async def forward(self, seconds: float) -> None:
        self.ahead += seconds
        await settle()

    def call(self, seconds: float | None) -> DescribeCall:
        deadline = None if seconds is None else self.loop.time() + seconds
        return DescribeCall(run=RUN, request_timeout=5.0, deadline=deadline)


async def never(call: Any) -> None:
    await asyncio.get_running_loop().create_future()


async def swift(call: Any) -> str:
    await asyncio.sleep(0)
    return "done"


def late() -> Exception:
    return NotSentError("out of time")


async def test_each_attempt_is_given_up_at_its_own_deadline() -> None:
    clock, deadlines = Clock(), Deadlines()
    seconds = [5, 1, 30, 5, 2]
    tasks = [asyncio.create_task(deadlines.bound(clock.call(each), never, late)) for each in seconds]
    await settle()
    over = []
    for step in (1.5, 1, 3, 20):
        await clock.forward(step)
        over.append([each for each, task in zip(seconds, tasks, strict=True) if task.done()])
    assert over == [[1], [1, 2], [5, 1, 5, 2], [5, 1, 5, 2]]
    await clock.forward(10)
    for task in tasks:
        assert isinstance(task.exception(), NotSentError)
        assert task.exception().__context__ is None
        assert task.cancelling() == 0


async def test_what_ends_in_time_is_forgotten() -> None:
    clock, deadlines = Clock(), Deadlines()
    assert await asyncio.gather(*(deadlines.bound(clock.call(5), swift, late) for _ in range(100))) == ["done"] * 100
    assert await deadlines.bound(clock.call(None), swift, late) == "done"
    assert not deadlines._limits
    await clock.forward(6)
    assert deadlines._timer is None
    assert await deadlines.bound(clock.call(5), swift, late) == "done"


async def test_nothing_begins_after_the_deadline() -> None:
    clock, deadlines = Clock(), Deadlines()
    began = []

    async def attempt(call: Any) -> None:
        began.append(call)

    with pytest.raises(NotSentError):
        await deadlines.bound(clock.call(-1), attempt, late)
    with pytest.raises(DeliveryUnknownError, match="the describe of workflow 'order-1' was not answered before"):
        await deadlines.bound(clock.call(0), attempt, None)
    assert began == []


async def test_a_cancellation_of_ones_own_passes() -> None:
    clock, deadlines = Clock(), Deadlines()
    task = asyncio.create_task(deadlines.bound(clock.call(5), never, late))
    await settle()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()

    task = asyncio.create_task(deadlines.bound(clock.call(5), never, late))
    await settle()
    clock.loop.call_soon(task.cancel)  # in the same turn as the deadline
    await clock.forward(6)
    await asyncio.wait([task])
    assert task.cancelled()
    assert not deadlines._limits


async def test_an_attempt_that_ends_otherwise_as_it_is_given_up() -> None:
    """Its own error passes, and the task does not stay marked as cancelled."""
    clock, deadlines = Clock(), Deadlines()

    async def stubborn(call: Any) -> str:
        try:
            await never(call)
        except asyncio.CancelledError:
            raise NotSentError("cleaned up") from None

    async def enter() -> int:
        with pytest.raises(NotSentError, match="cleaned up"):
            await deadlines.bound(clock.call(5), stubborn, late)
        return asyncio.current_task().cancelling()

    task = asyncio.create_task(enter())
    await settle()
    await clock.forward(6)
    assert await task == 0


async def test_a_timeout_around_it_is_told_apart() -> None:
    clock, deadlines = Clock(), Deadlines()

    async def enter() -> None:
        async with asyncio.timeout(3):
            await deadlines.bound(clock.call(5), never, late)

    task = asyncio.create_task(enter())
    await settle()
    await clock.forward(10)  # both are over: the outer one, which is due first, is what is raised
    with pytest.raises(TimeoutError):
        await task


def test_another_event_loop() -> None:
    deadlines = Deadlines()

    async def enter(seconds: float) -> None:
        with pytest.raises(NotSentError):
            clock = Clock()
            call = CancelCall(run=RUN, request_timeout=5.0, deadline=clock.loop.time() + seconds)
            task = asyncio.create_task(deadlines.bound(call, never, late))
            await settle()
            await clock.forward(seconds + 1)
            await task

    async def begin() -> None:
        assert await deadlines.bound(Clock().call(60), swift, late) == "done"

    asyncio.run(begin())  # leaves a timer in a loop that is closed
    asyncio.run(enter(100))
    asyncio.run(enter(5))


async def test_the_timer_keeps_nobodys_context() -> None:
    class Span: ...

    span: contextvars.ContextVar[Span] = contextvars.ContextVar("span")
    clock, deadlines = Clock(), Deadlines()

    async def first() -> weakref.ref[Span]:
        mine = Span()
        span.set(mine)
        await deadlines.bound(clock.call(5), swift, late)
        return weakref.ref(mine)

    kept = await asyncio.create_task(first())
    await settle()
    gc.collect()
    assert kept() is None
    assert deadlines._timer is not None
