"""Workflows that do what those of the recorded scenarios did (tests/fixtures/wire), as far as their records tell."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from grctl_core.outcome import ErrorDetails
from grctl_engine import ChildOutcome, Context, Directive, RetryPolicy, Workflow, task

from . import flows


@task
async def charge(order_id: str, amount: float) -> dict[str, Any]:
    return {"receipt": f"rc-{order_id}", "amount": amount}


order = Workflow(workflow_type="ProcessOrder")


@order.start()
async def start_order(ctx: Context, order_id: str, amount: float) -> Directive:
    receipt = await charge(order_id, amount)
    return ctx.next.complete({"order_id": order_id, "paid": amount, "receipt": receipt["receipt"]})


class Slow:
    """``Slow`` and ``SlowTask`` wait for something outside of the engine, until the test lets them go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.step = Workflow(workflow_type="Slow")
        self.step.start()(self.start_step)
        self.task = Workflow(workflow_type="SlowTask")
        self.task.start()(self.start_task)

    async def start_step(self, ctx: Context, seconds: float) -> Directive:
        await self.go_on.wait()
        return ctx.next.complete("slept")

    async def start_task(self, ctx: Context, seconds: float) -> Directive:
        @task
        async def slow_task(seconds: float) -> None:
            await self.go_on.wait()

        await slow_task(seconds)
        return ctx.next.complete("slept")


hopeless_wf = Workflow(workflow_type="Hopeless")


@task(retry_policy=RetryPolicy(max_attempts=2, initial_delay_ms=50))
async def hopeless(key: str) -> None:
    raise ConnectionError("down")


class Flaky:
    def __init__(self) -> None:
        self.calls = 0
        self.workflow = Workflow(workflow_type="Flaky")
        self.workflow.start()(self.start)

    async def start(self, ctx: Context) -> Directive:
        @task(retry_policy=RetryPolicy(max_attempts=3, initial_delay_ms=50, backoff_multiplier=2.0))
        async def flaky(key: str) -> str:
            self.calls += 1
            if self.calls < 3:
                raise ConnectionError("try again")
            return "third time"

        return ctx.next.complete(await flaky("k"))


@hopeless_wf.start()
async def start_hopeless(ctx: Context) -> Directive:
    return ctx.next.complete(await hopeless("k"))


parent = Workflow(workflow_type="Parent")


@parent.start()
async def start_parent(ctx: Context) -> Directive:
    await ctx.start_child("Child", "parent-child", {"n": 21})
    return ctx.next.wait()


@parent.event()
async def child_says(ctx: Context, n: int) -> Directive:
    return ctx.next.complete({"child": n})


child = Workflow(workflow_type="Child")


@child.start()
async def start_child(ctx: Context, n: int) -> Directive:
    await ctx.send_to_parent("child_says", {"n": n})
    return ctx.next.complete(n)


child2 = Workflow(workflow_type="Child2")


@child2.start()
async def start_child2(ctx: Context, n: int) -> Directive:
    return ctx.next.complete(2 * n)


parent_callback = Workflow(workflow_type="ParentCallback")


@parent_callback.start()
async def start_parent_callback(ctx: Context, kind: str) -> Directive:
    wf_id = f"{ctx.run.wf_id}-child"
    if kind == "ok":
        await ctx.start_child("Child2", wf_id, {"n": 21}, on_completed_step=done)
    else:
        await ctx.start_child("Boom", wf_id, on_completed_step=done)
    return ctx.next.wait()


@parent_callback.step()
async def done(ctx: Context, outcome: ChildOutcome) -> Directive:
    error = None if outcome.error is None else outcome.error.message
    return ctx.next.complete({"status": outcome.status, "result": outcome.result, "error": error})


parent_runs_child = Workflow(workflow_type="ParentRunsChild")


@parent_runs_child.start()
async def start_parent_runs_child(ctx: Context) -> Directive:
    return ctx.next.complete(await ctx.run_child("Child2", f"{ctx.run.wf_id}-child", {"n": 4}))


VALUES: dict[str, Any] = {
    "none": None,
    "int": 7,
    "big": 2**62,
    "bool": True,
    "float": 1e300,
    "str": "héllo ✓",
    "bytes": b"\x00\xff",
    "list": [1, "a", None],
    "map": {"a": {"b": [1.5]}},
    "datetime": datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC),
}

values = Workflow(workflow_type="Values")


@values.start()
async def start_values(ctx: Context, kind: str) -> Directive:
    return ctx.next.complete(VALUES[kind])


fails = Workflow(workflow_type="FailByDecision")


@fails.start()
async def start_fails(ctx: Context) -> Directive:
    return ctx.next.fail(ErrorDetails("Refused", "not today"))


too_slow = Workflow(workflow_type="StepTooSlow")


@too_slow.start(timeout=timedelta(seconds=1))
async def start_too_slow(ctx: Context) -> Directive:
    await ctx.sleep(5)
    return ctx.next.complete("too late")


def replayed(slow: Slow) -> list[Workflow]:
    """Return the workflows of all scenarios."""
    same = [flows.approval, flows.boom, flows.times_out, flows.fallback, flows.steps, flows.greet]
    own = [order, hopeless_wf, parent, child, child2, parent_callback, parent_runs_child, values, fails, too_slow]
    return [*same, *own, slow.step, slow.task, Flaky().workflow]
