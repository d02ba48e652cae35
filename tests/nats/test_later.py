"""grctl_nats.later: each key once, after its pause, and a timer for each pause alone."""

from __future__ import annotations

import asyncio

import pytest

from grctl_nats import later as later_module
from grctl_nats.later import Later


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("at_a_time", [1, 7, 5_000])
async def test_each_key_once_and_not_before_its_time(monkeypatch, at_a_time):
    monkeypatch.setattr(later_module, "_MOST", at_a_time)
    loop = asyncio.get_running_loop()
    called: list[tuple[str, float]] = []
    later = Later(lambda key: called.append((key, loop.time())))
    due = {}
    for number in range(40):
        pause = (0.001, 0.02, 0.05)[number % 3]
        due[f"k{number}"] = loop.time() + pause
        later.call(f"k{number}", pause)
    await until(lambda: len(called) == 40)
    assert sorted(key for key, _ in called) == sorted(due)
    assert all(at >= due[key] - 0.001 for key, at in called)


async def test_a_pause_has_one_timer(monkeypatch):
    made = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at
    monkeypatch.setattr(
        loop, "call_at", lambda when, *args, **kwargs: made.append(when) or call_at(when, *args, **kwargs)
    )
    later = Later(lambda key: None)
    for number in range(1_000):
        later.call(f"k{number}", (0.5, 60.0)[number % 2])
    assert len(made) == 2
    later.close()


async def test_a_key_that_comes_again_while_it_is_called():
    calls = 0

    def again(key: str) -> None:
        nonlocal calls
        calls += 1
        if calls < 5:
            later.call(key, 0.001)

    later = Later(again)
    later.call("k", 0.001)
    await until(lambda: calls == 5)
    assert not later._queues
    assert not later._timers


async def test_closed_it_calls_nothing():
    called = []
    later = Later(called.append)
    later.call("k", 0.01)
    later.close()
    await asyncio.sleep(0.05)
    assert called == []
