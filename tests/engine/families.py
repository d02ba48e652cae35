"""Parents, and a child that talks to them."""

from __future__ import annotations

from typing import Any

from grctl_engine import ChildOutcome, Context, Directive, Workflow


def parent(body, timeout=None):
    """A workflow whose only step returns a directive, or completes with what ``body(ctx)`` returns."""
    wf = Workflow(workflow_type="Parent")

    @wf.start(timeout=timeout)
    async def start(ctx: Context) -> Directive:
        returned = await body(ctx)
        return returned if isinstance(returned, Directive) else ctx.next.complete(returned)

    @wf.event()
    async def says(ctx: Context, value: Any = None) -> Directive:
        heard = [*await ctx.store.get("heard", list, []), value]
        ctx.store.put("heard", heard)
        return ctx.next.complete(heard) if value == "end" else ctx.next.wait()

    @wf.step()
    async def ended(ctx: Context, outcome: ChildOutcome) -> Directive:
        error = None if outcome.error is None else [outcome.error.type, outcome.error.message]
        return ctx.next.complete([outcome.status, outcome.ok, outcome.result, error])

    return wf


talks = Workflow(workflow_type="Talks")


@talks.start()
async def start_talks(ctx: Context, what: list[Any]) -> Directive:
    for value in what:
        await ctx.send_to_parent("says", {"value": value})
    return ctx.next.complete("talked")
