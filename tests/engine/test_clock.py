from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from grctl_core.errors import InvalidInputError
from grctl_core.run import RunStatus
from grctl_engine import Context, Directive, Workflow
from grctl_engine.clock import ManualClock, SystemClock

restless = Workflow(workflow_type="Restless")


@restless.start()
async def begin(ctx: Context, steps: int | None = None) -> Directive:
    ctx.store.put("steps", steps)
    return ctx.next.step(again)


@restless.step()
async def again(ctx: Context) -> Directive:
    done = await ctx.store.get("done", int, 0) + 1
    ctx.store.put("done", done)
    return ctx.next.complete(done) if done == await ctx.store.get("steps") else ctx.next.step(again)


START = datetime(2026, 1, 1, tzinfo=UTC)


def recorder(clock: ManualClock):
    fired: list[tuple[str, float]] = []

    def at(seconds: float, name: str):
        return clock.call_later(seconds, lambda: fired.append((name, (clock.now() - START).total_seconds())))

    return fired, at


async def test_timers_fire_in_due_order_at_their_due_time():
    clock = ManualClock(START)
    fired, at = recorder(clock)
    at(3, "c")
    at(1, "a")
    at(2, "b1")
    at(2, "b2")
    at(11, "later")
    await clock.advance(seconds=10)
    assert fired == [("a", 1), ("b1", 2), ("b2", 2), ("c", 3)]
    assert clock.now() == START + timedelta(seconds=10)
    assert clock.pending == 1


async def test_a_timer_that_a_timer_sets_fires_in_the_same_advance_if_due():
    clock = ManualClock(START)
    fired, at = recorder(clock)
    clock.call_later(1, lambda: at(1, "second"))
    at(1.5, "between")
    await clock.advance(2)
    assert fired == [("between", 1.5), ("second", 2)]


async def test_a_cancelled_timer_does_not_fire_even_when_cancelled_at_its_due_time():
    clock = ManualClock(START)
    fired, at = recorder(clock)
    victims = []
    clock.call_later(1, lambda: victims.pop().cancel())
    victims.append(at(1, "victim"))
    at(1, "other").cancel()
    await clock.advance(timedelta(seconds=1))
    assert fired == []
    assert clock.pending == 0


async def test_cancelling_twice_or_after_the_firing_is_harmless():
    clock = ManualClock(START)
    _, at = recorder(clock)
    timer = at(1, "a")
    await clock.advance(1)
    timer.cancel()
    timer.cancel()
    assert clock.pending == 0


async def test_many_cancelled_timers_are_given_back():
    clock = ManualClock(START)
    for _ in range(10_000):
        clock.call_later(3600, lambda: None).cancel()
    assert clock.pending == 0
    assert len(clock._timers) < 300


async def test_what_a_timer_wakes_runs_before_the_next_timer():
    clock = ManualClock(START)
    log: list[str] = []
    woken = asyncio.Event()

    async def sleeper() -> None:
        await woken.wait()
        log.append(f"woken at {(clock.now() - START).total_seconds()}")

    task = asyncio.create_task(sleeper())
    clock.call_later(1, woken.set)
    clock.call_later(1.001, lambda: log.append("next"))
    await clock.advance(5)
    await task
    assert log == ["woken at 1.0", "next"]


async def test_the_units_add_up():
    clock = ManualClock(START)
    await clock.advance(timedelta(days=1), days=1, hours=1, minutes=1, seconds=1)
    assert clock.now() - START == timedelta(days=2, hours=1, minutes=1, seconds=1)


@pytest.mark.parametrize("arguments", [{}, {"seconds": -1}, {"duration": 0}, {"duration": "1"}])
async def test_time_moves_forward_only(arguments):
    with pytest.raises(InvalidInputError):
        await ManualClock().advance(**arguments)


def test_the_start_needs_a_time_zone():
    with pytest.raises(InvalidInputError, match="time zone"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001


async def test_a_failing_timer_loses_none_of_the_others():
    clock = ManualClock(START)
    fired, at = recorder(clock)
    clock.call_later(1, lambda: 1 / 0)
    at(1, "kept")
    with pytest.raises(ZeroDivisionError):
        await clock.advance(1)
    await clock.advance(1)
    assert fired == [("kept", 1)]


async def test_two_advances_at_once_come_one_after_the_other():
    clock = ManualClock(START)
    fired, at = recorder(clock)
    at(1, "a")
    at(2, "b")
    await asyncio.gather(clock.advance(1), clock.advance(1))
    assert fired == [("a", 1), ("b", 2)]


async def test_advancing_to_what_is_due_next():
    clock = ManualClock(START)
    fired, at = recorder(clock)
    assert clock.next_due is None
    assert not await clock.advance_to_next()
    at(5, "cancelled").cancel()
    at(10, "a")
    at(10, "b")
    at(20, "later")
    assert clock.next_due == START + timedelta(seconds=10)
    assert await clock.advance_to_next()
    assert fired == [("a", 10), ("b", 10)]
    assert clock.now() == START + timedelta(seconds=10)
    clock.call_later(-5, lambda: fired.append(("overdue", 0)))
    assert clock.next_due == clock.now()
    assert await clock.advance_to_next()
    assert fired[-1] == ("overdue", 0)
    assert await clock.advance_to_next()
    assert not await clock.advance_to_next()
    assert (clock.pending, fired[-1]) == (0, ("later", 20))


async def test_a_moment_that_never_ends_is_an_error_and_not_a_hang(make_rig, monkeypatch):
    monkeypatch.setattr("grctl_engine.clock.MOST_TURNS", 5_000)
    rig = make_rig(restless)
    ref = rig.start("Restless", wf_id="r")
    with pytest.raises(RuntimeError, match=r"does not settle: 5,000 turns .* at 2026-01-01 00:00:00\+00:00.*for ever"):
        await rig.advance(60)
    assert rig.clock.now() == START
    rig.terminate(wf_id="r")
    await rig.advance(60)
    assert rig.clock.now() == START + timedelta(seconds=60)
    assert rig.engine.find_run(ref).status is RunStatus.TERMINATED


async def test_a_long_chain_of_steps_is_no_restless_one(make_rig):
    rig = make_rig(restless)
    assert (await rig.result("Restless", 2_000)).result == 2_000


async def test_the_system_clock_is_aware_and_calls_back():
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    future = asyncio.get_running_loop().create_future()
    clock.call_later(0, lambda: future.set_result("called"))
    cancelled = clock.call_later(0, lambda: future.set_result("cancelled"))
    cancelled.cancel()
    assert await future == "called"
