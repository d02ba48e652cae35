"""Moved time: the same scenario always happens in the same way."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from grctl_core.errors import UnsupportedOperationError
from grctl_engine import ChildOutcome, Context, Directive, Engine, RetryPolicy, Workflow, task

from .rig import Rig

trial = Workflow(workflow_type="Trial")
reminder = Workflow(workflow_type="Reminder")
attempts: dict[str, int] = {}


@task(retry_policy=RetryPolicy(max_attempts=4, initial_delay_ms=2_000, max_delay_ms=60_000))
async def notify(run_id: str, who: str) -> str:
    attempts[run_id] = attempts.get(run_id, 0) + 1
    if attempts[run_id] % 3:
        raise ConnectionError("mail server is away")
    return f"told {who}"


@trial.start()
async def start_trial(ctx: Context, who: str) -> Directive:
    ctx.store.put("who", who)
    ctx.store.put("log", [await notify(ctx.run.id, who)])
    await asyncio.gather(ctx.sleep(3), ctx.sleep(1), ctx.sleep(2))
    await ctx.start_child("Reminder", f"{ctx.run.wf_id}-reminder", {"days": 20}, on_completed_step=reminded)
    return ctx.next.wait(timeout=timedelta(days=30), on_timeout=expired)


@trial.step()
async def reminded(ctx: Context, outcome: ChildOutcome[str]) -> Directive:
    ctx.store.put("log", [*await ctx.store.get("log", list), outcome.unwrap()])
    return ctx.next.wait(timeout=timedelta(days=10), on_timeout=expired)


@trial.step()
async def expired(ctx: Context) -> Directive:
    log = [*await ctx.store.get("log", list), (await ctx.now()).isoformat()]
    return ctx.next.complete(log)


@reminder.start()
async def start_reminder(ctx: Context, days: int) -> Directive:
    return ctx.next.wait(timeout=timedelta(days=days), on_timeout=remind)


@reminder.step()
async def remind(ctx: Context) -> Directive:
    return ctx.next.complete(f"reminded at {(await ctx.now()).isoformat()}")


async def thirty_days(rig: Rig) -> list[Any]:
    """Run three trials; return what happened, without ids."""
    attempts.clear()
    refs = [rig.start("Trial", {"who": name}, wf_id=name) for name in ("ada", "bob", "cem")]
    await rig.engine.clock.advance(days=29)
    assert not any(rig.describe(ref.wf_id).is_finished for ref in refs)
    await rig.engine.clock.advance(days=2)
    happened = []
    for run in sorted(rig.engine._runs.all(), key=lambda run: run.info.wf_id):
        for event in await rig.history(run.info.ref):
            stable = {
                key: value
                for key, value in event.data.items()
                if not key.endswith("_id") and key not in {"error", "args"}
            }
            happened.append((run.info.wf_id, event.timestamp, event.kind, stable))
    return happened


async def test_the_same_scenario_fifty_times_gives_the_same_history():
    histories = []
    for _ in range(50):
        rig = Rig(trial, reminder)
        histories.append(await thirty_days(rig))
        assert not rig.clock.pending
        await rig.engine.close(grace=0)
    assert all(history == histories[0] for history in histories)


async def test_thirty_days_in_order(make_rig):
    rig = make_rig(trial, reminder)
    began = rig.clock.now()
    happened = [entry for entry in await thirty_days(rig) if entry[0] == "ada"]
    after = [(timestamp - began, kind) for _, timestamp, kind, _ in happened]
    assert after == sorted(after, key=lambda entry: entry[0])
    assert [when.total_seconds() for when, kind in after if kind == "task.attempt_failed"] == [0, 2]
    assert [when.total_seconds() for when, kind in after if kind == "task.completed"] == [6]
    assert [when.total_seconds() for when, kind in after if kind == "sleep.recorded"] == [7, 8, 9]
    assert after[-1] == (timedelta(days=30, seconds=9), "run.completed")
    outcome = rig.engine._runs.latest("ada").outcome()
    assert b"told ada" in outcome.result
    assert b"reminded at 2026-01-21T00:00:09+00:00" in outcome.result
    assert b"2026-01-31T00:00:09+00:00" in outcome.result


async def test_the_machines_time_is_not_moved():
    engine = Engine()
    with pytest.raises(UnsupportedOperationError, match="ManualClock"):
        await engine.clock.advance(days=30)
    await engine.close()
