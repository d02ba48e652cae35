"""The workflow of an order: reserve the goods, wait for a person's decision, ship.

It imports from ``grctl.workflow`` and ``grctl.worker`` alone, so a worker can host this file as it is, and so can the
development server: ``grctl-client dev examples.fastapi_orders.workflows``.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from grctl.models.common import ErrorDetails
from grctl.worker import Context, task
from grctl.workflow import Directive, Workflow

__all__ = ["ORDER", "workflows"]

ORDER = "Order"
ITEMS = ("tea", "coffee", "cocoa")

order = Workflow(workflow_type=ORDER)
workflows = [order]


@task()
async def reserve(item: str, quantity: int) -> bool:
    """Ask the warehouse; this stands for a request to it."""
    await asyncio.sleep(0.05)
    return item in ITEMS


@task()
async def hand_to_carrier(order_id: str) -> str:
    """Book a parcel; this stands for a request to the carrier. The same order gets the same parcel."""
    await asyncio.sleep(0.05)
    return f"parcel-{order_id}"


@order.start()
async def start(ctx: Context, order_id: str, item: str, quantity: int) -> Directive:
    ctx.store.put("order_id", order_id)
    if not await reserve(item, quantity):
        return ctx.next.fail(ErrorDetails("OutOfStock", f"there is no {item}"))
    return ctx.next.wait(timeout=timedelta(days=2), on_timeout=nobody_decided)


@order.event()
async def decide(ctx: Context, approved: bool, by: str) -> Directive:  # noqa: FBT001 - events have named values
    if not approved:
        return ctx.next.complete({"status": "rejected", "by": by})
    ctx.store.put("by", by)
    return ctx.next.step(ship)


@order.step()
async def ship(ctx: Context) -> Directive:
    parcel = await hand_to_carrier(await ctx.store.get("order_id", str, ""))
    return ctx.next.complete({"status": "shipped", "by": await ctx.store.get("by", str), "parcel": parcel})


@order.step()
async def nobody_decided(ctx: Context) -> Directive:
    return ctx.next.complete({"status": "expired"})
