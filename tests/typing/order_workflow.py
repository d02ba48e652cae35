"""A workflow definition: the decorators keep the types of the handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

from grctl.models.common import ErrorDetails
from grctl.worker import Context
from grctl.workflow import Directive, Workflow


@dataclass
class Order:
    order_id: str
    qty: int
    notes: list[str]


wf = Workflow(workflow_type="ProcessOrder")


@wf.start(timeout=timedelta(seconds=30))
async def start(ctx: Context, order: Order, due: datetime | None = None) -> Directive:
    assert_type(ctx.run.wf_id, str)
    ctx.store.put("order", order)
    ctx.logger.info("order %s is due %s", order.order_id, due)
    if order.qty < 1:
        return ctx.next.fail(ErrorDetails(type="BadOrder", message="nothing to deliver", stack_trace=""))
    return ctx.next.step(reserve)


@wf.step(name="reserve_items", timeout=5)
async def reserve(ctx: Context) -> Directive:
    order = await ctx.store.get("order", Order)
    assert_type(order, Order | None)
    assert_type(await ctx.store.get("order", Order, Order("none", 0, [])), Order)
    assert_type(await ctx.store.get("notes", list[str], []), list[str])
    assert_type(await ctx.store.get("qty", int, None), int | None)
    assert_type(await ctx.store.get("qty", default=1), Any)
    anything = await ctx.store.get("order")
    assert_type(anything, Any)
    assert_type(await ctx.now(), datetime)
    assert_type(await ctx.random(), float)
    assert_type(await ctx.uuid4(), UUID)
    await ctx.sleep(timedelta(milliseconds=1))
    return ctx.next.wait(timeout=timedelta(hours=1), on_timeout=give_up)


@wf.event()
async def approve(ctx: Context, by: str = "nobody") -> Directive:
    return ctx.next.complete({"approved_by": by})


@wf.event(name="order.rejected")
async def order_rejected(ctx: Context) -> Directive:
    return ctx.next.fail(ErrorDetails("Rejected", "not today", ""))


@wf.step
async def give_up(ctx: Context) -> Directive:
    return ctx.next.complete(None)


unchanged: Callable[[Context, str], Awaitable[Directive]] = approve

workflows = [wf]
assert_type(workflows, list[Workflow])
