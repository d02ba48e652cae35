"""Workflows that the tests run. A ``Gate`` lets a test hold a step inside its handler."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from grctl_core.outcome import ErrorDetails
from grctl_engine.context import Context
from grctl_engine.definition import Workflow
from grctl_engine.directive import Directive

SECOND = timedelta(seconds=1)

echo = Workflow(workflow_type="Echo")


@echo.start()
async def start_echo(ctx: Context, value: Any = None) -> Directive:
    return ctx.next.complete(value)


approval = Workflow(workflow_type="OrderApproval")


@approval.start()
async def start_approval(ctx: Context, order_id: str = "9", qty: int = 1) -> Directive:
    ctx.store.put("qty", qty)
    return ctx.next.wait()


@approval.event()
async def update_quantity(ctx: Context, item_id: str, qty: int) -> Directive:
    ctx.store.put("qty", qty)
    return ctx.next.wait()


@approval.event()
async def approve(ctx: Context) -> Directive:
    return ctx.next.complete({"approved": True, "qty": await ctx.store.get("qty", int)})


slow = Workflow(workflow_type="Slow")


@slow.start(timeout=timedelta(minutes=1))
async def start_slow(ctx: Context, seconds: float = 1.0) -> Directive:
    ctx.store.put("slept", seconds)
    await ctx.sleep(seconds)
    return ctx.next.complete("slept")


boom = Workflow(workflow_type="Boom")


@boom.start()
async def start_boom(ctx: Context) -> Directive:
    raise ValueError("card declined")


fails = Workflow(workflow_type="FailByDecision")


@fails.start()
async def start_fails(ctx: Context) -> Directive:
    return ctx.next.fail(ErrorDetails("Refused", "not today"))


times_out = Workflow(workflow_type="WaitTimesOut")


@times_out.start()
async def start_times_out(ctx: Context) -> Directive:
    return ctx.next.wait(timeout=0.4)


fallback = Workflow(workflow_type="WaitFallback")


@fallback.start()
async def start_fallback(ctx: Context) -> Directive:
    return ctx.next.wait(timeout=timedelta(milliseconds=400), on_timeout="fallback")


@fallback.step(name="fallback")
async def fallback_step(ctx: Context) -> Directive:
    return ctx.next.complete("fallback")


step_too_slow = Workflow(workflow_type="StepTooSlow")


@step_too_slow.start(timeout=1)
async def start_step_too_slow(ctx: Context) -> Directive:
    await ctx.sleep(5)
    return ctx.next.complete("too late")


steps = Workflow(workflow_type="Steps")


@steps.start()
async def start_steps(ctx: Context) -> Directive:
    await ctx.now()
    await ctx.random()
    await ctx.uuid4()
    await ctx.sleep(timedelta(milliseconds=50))
    return ctx.next.step(second)


@steps.step()
async def second(ctx: Context) -> Directive:
    return ctx.next.complete("two")


greet = Workflow(workflow_type="GreetEvents")


@greet.start()
async def start_greet(ctx: Context, name: str) -> Directive:
    ctx.store.put("name", name)
    return ctx.next.wait()


@greet.event(name="greet")
async def say_hello(ctx: Context) -> Directive:
    ctx.store.put("said", f"Hello, {await ctx.store.get('name')}!")
    return ctx.next.wait()


@greet.event(name="farewell")
async def say_goodbye(ctx: Context) -> Directive:
    return ctx.next.complete(f"{await ctx.store.get('said')} Goodbye, {await ctx.store.get('name')}!")


order = Workflow(workflow_type="ProcessOrder")


@order.start()
async def start_order(ctx: Context, order_id: str, amount: float = 1.0) -> Directive:
    return ctx.next.complete({"order_id": order_id, "paid": amount})


ALL = [echo, approval, slow, boom, fails, times_out, fallback, step_too_slow, steps, greet, order]


class Gate:
    """A workflow whose start step stays in its handler until the test opens the gate."""

    def __init__(self, workflow_type: str = "Gated") -> None:
        self.workflow = Workflow(workflow_type=workflow_type)
        self.inside = 0
        self.opened = asyncio.Event()
        self.log: list[str] = []
        self.workflow.start()(self.begin)
        self.workflow.event(name="go")(self.go)

    async def begin(self, ctx: Context, value: Any = None) -> Directive:
        self.inside += 1
        ctx.store.put("k", "v")
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.log.append("abandoned")
            raise
        return ctx.next.wait() if value == "wait" else ctx.next.complete(value)

    async def go(self, ctx: Context, value: Any = None) -> Directive:
        self.log.append(f"go {value}")
        return ctx.next.complete(self.log) if value == "end" else ctx.next.wait()
