"""What the soak runs."""

from __future__ import annotations

from datetime import timedelta

from grctl.worker import Context
from grctl.workflow import Directive, Workflow

__all__ = ["workflows"]

echo = Workflow(workflow_type="Echo")
naps = Workflow(workflow_type="Naps")
counts = Workflow(workflow_type="Counts")
workflows = [echo, naps, counts]


@echo.start()
async def answer(ctx: Context, value: str) -> Directive:
    return ctx.next.complete(value)


@naps.start(timeout=timedelta(minutes=5))
async def nap(ctx: Context, value: str, seconds: float) -> Directive:
    await ctx.sleep(timedelta(seconds=seconds))
    return ctx.next.complete(value)


@counts.start()
async def begin(ctx: Context) -> Directive:
    ctx.store.put("count", 0)
    return ctx.next.wait()


@counts.event()
async def add(ctx: Context) -> Directive:
    ctx.store.put("count", await ctx.store.get("count", int) + 1)
    return ctx.next.wait()


@counts.event()
async def finish(ctx: Context) -> Directive:
    return ctx.next.complete(await ctx.store.get("count", int))
