"""Workflows that are in the middle of all kinds of things until the gate, a file, is there."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from grctl.models.directive import RetryPolicy
from grctl.worker import ChildOutcome, Context, task
from grctl.workflow import Directive, Workflow

LONG = timedelta(minutes=5)
GATE = "GRCTL_TEST_GATE"


async def gate() -> None:
    while not Path(os.environ[GATE]).exists():
        await asyncio.sleep(0.01)


# --- a step that works, sleeps, calls a task, tries one again

works = Workflow(workflow_type="Works")


@works.start()
async def works_first(ctx: Context, n: int) -> Directive:
    ctx.store.put("n", n)
    return ctx.next.step(works_second)


@works.step(timeout=LONG)
async def works_second(ctx: Context) -> Directive:
    await gate()
    return ctx.next.complete(await ctx.store.get("n", int))


sleeps = Workflow(workflow_type="Sleeps")


@sleeps.start(timeout=LONG)
async def sleeps_start(ctx: Context, n: int) -> Directive:
    while not Path(os.environ[GATE]).exists():
        await ctx.sleep(timedelta(milliseconds=100))
    return ctx.next.complete(n)


calls_a_task = Workflow(workflow_type="CallsATask")


@task
async def slow_task(n: int) -> int:
    await gate()
    return n


@calls_a_task.start(timeout=LONG)
async def calls_a_task_start(ctx: Context, n: int) -> Directive:
    return ctx.next.complete(await slow_task(n))


retries = Workflow(workflow_type="Retries")


@task(retry_policy=RetryPolicy(max_attempts=10_000, initial_delay_ms=50, max_delay_ms=50, jitter=0))
async def unreliable(n: int) -> int:
    if not Path(os.environ[GATE]).exists():
        raise ConnectionError("try again")
    return n


@retries.start(timeout=LONG)
async def retries_start(ctx: Context, n: int) -> Directive:
    return ctx.next.complete(await unreliable(n))


# --- waits

takes_events = Workflow(workflow_type="TakesEvents")


@takes_events.start(timeout=LONG)
async def takes_events_start(ctx: Context, n: int) -> Directive:
    ctx.store.put("sum", n)
    await gate()
    return ctx.next.wait()


@takes_events.event()
async def add(ctx: Context, n: int) -> Directive:
    total = await ctx.store.get("sum", int) + n
    ctx.store.put("sum", total)
    return ctx.next.wait()


@takes_events.event()
async def done(ctx: Context) -> Directive:
    return ctx.next.complete(await ctx.store.get("sum", int))


falls_back = Workflow(workflow_type="FallsBack")


@falls_back.start()
async def falls_back_start(ctx: Context, n: int) -> Directive:
    ctx.store.put("n", n)
    return ctx.next.wait(timeout=timedelta(seconds=1), on_timeout=fallback)


@falls_back.step(timeout=LONG)
async def fallback(ctx: Context) -> Directive:
    await gate()
    return ctx.next.complete(await ctx.store.get("n", int))


# --- children

runs_a_child = Workflow(workflow_type="RunsAChild")


@runs_a_child.start(timeout=LONG)
async def runs_a_child_start(ctx: Context, n: int) -> Directive:
    return ctx.next.complete(await ctx.run_child("Works", f"{ctx.run.wf_id}-child", {"n": n}))


runs_a_family = Workflow(workflow_type="RunsAFamily")


@runs_a_family.start(timeout=LONG)
async def runs_a_family_start(ctx: Context, n: int) -> Directive:
    return ctx.next.complete(await ctx.run_child("RunsAChild", f"{ctx.run.wf_id}-child", {"n": n}))


waits_for_children = Workflow(workflow_type="WaitsForChildren")
CHILDREN = 3


@waits_for_children.start()
async def waits_for_children_start(ctx: Context, n: int) -> Directive:
    for number in range(CHILDREN):
        await ctx.start_child("Works", f"{ctx.run.wf_id}-{number}", {"n": n + number}, on_completed_step=one_is_done)
    return ctx.next.wait()


@waits_for_children.step()
async def one_is_done(ctx: Context, outcome: ChildOutcome[Any]) -> Directive:
    results = sorted([*await ctx.store.get("results", list, []), outcome.result])
    ctx.store.put("results", results)
    return ctx.next.wait() if len(results) < CHILDREN else ctx.next.complete(sum(results) - CHILDREN)


starts_children_and_works = Workflow(workflow_type="StartsChildrenAndWorks")


@starts_children_and_works.start(timeout=LONG)
async def starts_children_and_works_start(ctx: Context, n: int) -> Directive:
    await ctx.start_child("Works", f"{ctx.run.wf_id}-0", {"n": n}, on_completed_step=only_one_is_done)
    await gate()
    return ctx.next.wait()


@starts_children_and_works.step()
async def only_one_is_done(ctx: Context, outcome: ChildOutcome[Any]) -> Directive:
    return ctx.next.complete(outcome.result)


workflows = [
    works,
    sleeps,
    calls_a_task,
    retries,
    takes_events,
    falls_back,
    runs_a_child,
    runs_a_family,
    waits_for_children,
    starts_children_and_works,
]

IN_THE_MIDDLE = {
    "Works": "step.started works_second",
    "Sleeps": "sleep.recorded",
    "CallsATask": "task.started",
    "Retries": "task.attempt_failed",
    "TakesEvents": "step.started start",
    "FallsBack": "wait.started",
    "RunsAChild": "child.started",
    "RunsAFamily": "child.started",
    "WaitsForChildren": "wait.started",
    "StartsChildrenAndWorks": "child.started",
}
"""What tells that a run of each type is in the middle of things."""
