"""The workflow of an order: it waits for somebody's approval, for two days at most."""

from __future__ import annotations

from datetime import timedelta

from grctl.worker import Context
from grctl.workflow import Directive, Workflow

__all__ = ["workflows"]

order = Workflow(workflow_type="DjangoOrder")
workflows = [order]


@order.start()
async def start(ctx: Context, item: str) -> Directive:
    ctx.store.put("item", item)
    return ctx.next.wait(timeout=timedelta(days=2), on_timeout=nobody_approved)


@order.event()
async def approve(ctx: Context, by: str) -> Directive:
    return ctx.next.complete(f"{await ctx.store.get('item', str)} shipped, approved by {by}")


@order.step()
async def nobody_approved(ctx: Context) -> Directive:
    return ctx.next.complete("given up, as nobody approved it")
