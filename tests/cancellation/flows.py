"""The workflows that are interrupted."""

from __future__ import annotations

from grctl.worker import Context
from grctl.workflow import Directive, Workflow

__all__ = ["workflows"]

order = Workflow(workflow_type="Order")


@order.start()
async def start(ctx: Context, at_once: bool = False) -> Directive:
    return ctx.next.complete("at once") if at_once else ctx.next.wait()


@order.event()
async def note(ctx: Context, number: int = 0) -> Directive:
    return ctx.next.wait()


@order.event()
async def ship(ctx: Context) -> Directive:
    return ctx.next.complete("shipped")


@order.query()
async def status(ctx: Context) -> str:
    return "fine"


workflows = [order]
