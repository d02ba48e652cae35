"""Workflows of the recordings that have tasks and children."""

from __future__ import annotations

import asyncio
from typing import Any

from grctl.models.directive import RetryPolicy
from grctl.worker import ChildOutcome, Context, task
from grctl.workflow import Directive, Workflow

process_order = Workflow(workflow_type="ProcessOrder")


@task
async def charge(order_id: str, amount: float) -> dict[str, Any]:
    return {"receipt": f"rc-{order_id}", "amount": amount}


@process_order.start()
async def process(ctx: Context, **order: Any) -> Directive:
    receipt = await charge(order["order_id"], order["amount"])
    return ctx.next.complete({"order_id": order["order_id"], "paid": receipt["amount"], "receipt": receipt["receipt"]})


flaky_type = Workflow(workflow_type="Flaky")
attempts = 0


@task(retry_policy=RetryPolicy(max_attempts=3, initial_delay_ms=50, backoff_multiplier=2, jitter=0))
async def flaky(key: str) -> str:
    global attempts
    attempts += 1
    if attempts < 3:
        raise ConnectionError("try again")
    return "third time"


@flaky_type.start()
async def flaky_start(ctx: Context) -> Directive:
    global attempts
    attempts = 0
    return ctx.next.complete(await flaky("k"))


hopeless_type = Workflow(workflow_type="Hopeless")


@task(retry_policy=RetryPolicy(max_attempts=2, initial_delay_ms=50, jitter=0))
async def hopeless(key: str) -> None:
    raise ConnectionError("down")


@hopeless_type.start()
async def hopeless_start(ctx: Context) -> Directive:
    return ctx.next.complete(await hopeless("k"))


slow_task_type = Workflow(workflow_type="SlowTask")


@task
async def slow_task(seconds: float) -> None:
    await asyncio.Event().wait()


@slow_task_type.start()
async def slow_task_start(ctx: Context, seconds: float) -> Directive:
    return ctx.next.complete(await slow_task(seconds))


child_2 = Workflow(workflow_type="Child2")


@child_2.start()
async def child_2_start(ctx: Context, n: int) -> Directive:
    return ctx.next.complete(n * 2)


parent_runs_child = Workflow(workflow_type="ParentRunsChild")


@parent_runs_child.start()
async def runs_child(ctx: Context) -> Directive:
    return ctx.next.complete(await ctx.run_child("Child2", f"{ctx.run.wf_id}-child", {"n": 4}))


parent_callback = Workflow(workflow_type="ParentCallback")


@parent_callback.start()
async def callback_start(ctx: Context, kind: str) -> Directive:
    wf_type, value = ("Child2", {"n": 21}) if kind == "ok" else ("Boom", None)
    await ctx.start_child(wf_type, f"{ctx.run.wf_id}-child", value, on_completed_step=done)
    return ctx.next.wait()


@parent_callback.step()
async def done(ctx: Context, outcome: ChildOutcome) -> Directive:
    error = None if outcome.error is None else outcome.error.message
    return ctx.next.complete({"status": outcome.status, "result": outcome.result, "error": error})


child = Workflow(workflow_type="Child")


@child.start()
async def child_start(ctx: Context, n: int) -> Directive:
    await ctx.send_to_parent("child_says", {"n": n})
    return ctx.next.complete(n)


parent = Workflow(workflow_type="Parent")


@parent.start()
async def parent_start(ctx: Context) -> Directive:
    await ctx.start_child("Child", f"{ctx.run.wf_id}-child", {"n": 21})
    return ctx.next.wait()


@parent.event()
async def child_says(ctx: Context, n: int) -> Directive:
    return ctx.next.complete({"child": n})


workflows = [
    child,
    child_2,
    flaky_type,
    hopeless_type,
    parent,
    parent_callback,
    parent_runs_child,
    process_order,
    slow_task_type,
]
