"""Workflows that the command line is tried on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from grctl.worker import Context
from grctl.workflow import Directive, Workflow

EVIL = "\x1b[31mred\x1b[0m \x9b2J [bold]loud[/bold] [/] \u202etxt \r\nnext\ttab \x07"
"""What a terminal, or rich, would act on."""

gate = asyncio.Event()
"""What the step of a Slow run waits for."""

greeting = Workflow(workflow_type="Greeting")


@greeting.start()
async def greet(ctx: Context, name: str) -> Directive:
    return ctx.next.complete(f"Hello, {name}!")


evil = Workflow(workflow_type="Evil")


@evil.start()
async def fail(ctx: Context, how: str = "raise") -> Directive:
    if how == "complete":
        return ctx.next.complete({EVIL: EVIL})
    raise RuntimeError(EVIL)


kinds = Workflow(workflow_type="Kinds")


@kinds.start()
async def give_all(ctx: Context) -> Directive:
    return ctx.next.complete(
        {
            "bytes": b"\x00\xff",
            "when": datetime(2026, 7, 1, 12, tzinfo=UTC),
            "nan": float("nan"),
            "text": "Zoë 日本",
            "keys": {7: 1},
        }
    )


order = Workflow(workflow_type="Order")


@order.start()
async def begin(ctx: Context, **details: Any) -> Directive:
    return ctx.next.wait(timeout=timedelta(hours=2))


@order.event()
async def approve(ctx: Context, by: str) -> Directive:
    return ctx.next.complete({"approved_by": by})


slow = Workflow(workflow_type="Slow")


@slow.start()
async def wait_for_gate(ctx: Context) -> Directive:
    await gate.wait()
    return ctx.next.complete("done")


workflows = [greeting, evil, kinds, order, slow]
