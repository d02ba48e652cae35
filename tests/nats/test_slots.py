"""grctl_nats.slots: so many at once, first come, first served, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import random

import pytest

from grctl_nats.slots import Slots


async def test_so_many_at_once_in_the_order_of_asking():
    slots, at_once, most, order = Slots(3), 0, 0, []

    async def work(number: int) -> None:
        nonlocal at_once, most
        if not slots.take_now():
            await slots.take()
        at_once += 1
        most = max(most, at_once)
        order.append(number)
        await asyncio.sleep(0)
        at_once -= 1
        slots.give_back()

    await asyncio.gather(*(work(number) for number in range(50)))
    assert most == 3
    assert order == list(range(50))


async def test_nobody_overtakes_who_queues():
    slots = Slots(1)
    assert slots.take_now()
    first = asyncio.create_task(slots.take())
    await asyncio.sleep(0)
    slots.give_back()
    assert not slots.take_now()  # it is the first one's already
    await first
    slots.give_back()
    assert slots.take_now()


@pytest.mark.parametrize("turn_came", [False, True])
async def test_a_cancelled_turn_is_the_next_ones(turn_came):
    slots = Slots(1)
    slots.take_now()
    first, second = (asyncio.create_task(slots.take()) for _ in range(2))
    await asyncio.sleep(0)
    if turn_came:
        slots.give_back()  # in the same turn of the loop as the cancellation
    first.cancel()
    await asyncio.wait([first])
    if not turn_came:
        slots.give_back()
    assert first.cancelled()
    async with asyncio.timeout(20):
        await second


@pytest.mark.parametrize("seed", range(20))
async def test_no_slot_is_lost_or_made(seed):
    chance = random.Random(seed)
    slots, at_once = Slots(4), 0

    async def work() -> None:
        nonlocal at_once
        if not slots.take_now():
            await slots.take()
        try:
            at_once += 1
            assert at_once <= 4
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
        finally:
            at_once -= 1
            slots.give_back()

    tasks = [asyncio.create_task(work()) for _ in range(60)]
    for task in chance.sample(tasks, 40):
        await asyncio.sleep(0)
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ended)
    assert [slots.take_now() for _ in range(5)] == [True, True, True, True, False]
