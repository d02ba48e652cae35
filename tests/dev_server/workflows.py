"""The workflows that the fixtures were recorded with, as far as their histories and records tell."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from grctl.models.common import ErrorDetails
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

gate = asyncio.Event()
"""What steps wait for that a test wants to act in the middle of."""

process_order = Workflow(workflow_type="ProcessOrder")


@process_order.start()
async def process(ctx: Context, **order: Any) -> Directive:
    return ctx.next.complete({"order_id": order["order_id"], "paid": order["amount"], "receipt": "rc-abc-123"})


order_approval = Workflow(workflow_type="OrderApproval")


@order_approval.start()
async def order_start(ctx: Context, order_id: str, qty: int) -> Directive:
    ctx.store.put("qty", qty)
    return ctx.next.wait()


@order_approval.event()
async def approve(ctx: Context) -> Directive:
    return ctx.next.complete({"approved": True, "qty": await ctx.store.get("qty", int)})


@order_approval.event()
async def update_quantity(ctx: Context, item_id: str, qty: int) -> Directive:
    ctx.store.put("qty", qty)
    return ctx.next.wait()


boom = Workflow(workflow_type="Boom")


@boom.start()
async def boom_start(ctx: Context) -> Directive:
    raise ValueError("card declined")


fail_by_decision = Workflow(workflow_type="FailByDecision")


@fail_by_decision.start()
async def refuse(ctx: Context) -> Directive:
    return ctx.next.fail(ErrorDetails("Refused", "not today", ""))


greet_events = Workflow(workflow_type="GreetEvents")


@greet_events.start()
async def greet_start(ctx: Context, name: str) -> Directive:
    await gate.wait()
    ctx.store.put("name", name)
    return ctx.next.wait()


@greet_events.event()
async def greet(ctx: Context) -> Directive:
    ctx.store.put("greeting", f"Hello, {await ctx.store.get('name', str)}!")
    return ctx.next.wait()


@greet_events.event()
async def farewell(ctx: Context) -> Directive:
    return ctx.next.complete(f"{await ctx.store.get('greeting', str)} Goodbye, {await ctx.store.get('name', str)}!")


slow = Workflow(workflow_type="Slow")


@slow.start()
async def slow_start(ctx: Context, seconds: float) -> Directive:
    await gate.wait()
    return ctx.next.complete(None)


step_too_slow = Workflow(workflow_type="StepTooSlow")


@step_too_slow.start(timeout=timedelta(milliseconds=50))
async def too_slow(ctx: Context) -> Directive:
    await asyncio.Event().wait()
    return ctx.next.complete(None)


wait_times_out = Workflow(workflow_type="WaitTimesOut")


@wait_times_out.start()
async def wait_start(ctx: Context) -> Directive:
    return ctx.next.wait(timeout=timedelta(milliseconds=400))


wait_fallback = Workflow(workflow_type="WaitFallback")


@wait_fallback.start()
async def wait_fallback_start(ctx: Context) -> Directive:
    return ctx.next.wait(timeout=timedelta(milliseconds=400), on_timeout=fallback)


@wait_fallback.step()
async def fallback(ctx: Context) -> Directive:
    return ctx.next.complete("fallback")


steps = Workflow(workflow_type="Steps")


@steps.start()
async def steps_start(ctx: Context) -> Directive:
    await ctx.now()
    await ctx.random()
    await ctx.uuid4()
    await ctx.sleep(timedelta(milliseconds=50))
    return ctx.next.step(second)


@steps.step()
async def second(ctx: Context) -> Directive:
    return ctx.next.complete("two")


values = Workflow(workflow_type="Values")
VALUES = {
    "none": None,
    "int": 7,
    "big": 4611686018427387904,
    "str": "h\xe9llo \u2713",
    "bytes": b"\x00\xff",
    "list": [1, "a", None],
    "map": {"a": {"b": [1.5]}},
    "bool": True,
    "float": 1e300,
    "datetime": datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC),
}


@values.start()
async def values_start(ctx: Context, kind: str) -> Directive:
    return ctx.next.complete(VALUES[kind])


workflows = [
    boom,
    fail_by_decision,
    greet_events,
    order_approval,
    process_order,
    slow,
    step_too_slow,
    steps,
    values,
    wait_fallback,
    wait_times_out,
]
