"""The workflows that a server has to host while TransportContract runs."""

from __future__ import annotations

from typing import Any

from grctl_core.outcome import ErrorDetails
from grctl_engine.context import Context
from grctl_engine.definition import Workflow
from grctl_engine.directive import Directive

__all__ = ["contract_workflows"]

returns = Workflow(workflow_type="ContractReturns")
waits = Workflow(workflow_type="ContractWaits")

contract_workflows: tuple[Workflow, ...] = (returns, waits)


@returns.start()
async def start(ctx: Context, value: Any = None) -> Directive:
    """Complete with the input."""
    return ctx.next.complete(value)


@waits.start()
async def begin(ctx: Context) -> Directive:
    """Wait for an event."""
    return ctx.next.wait()


@waits.event()
async def finish(ctx: Context, value: Any = None) -> Directive:
    """Complete with the payload."""
    return ctx.next.complete(value)


@waits.event()
async def give_up(ctx: Context) -> Directive:
    """Fail."""
    return ctx.next.fail(ErrorDetails("GaveUp", "as asked"))


@waits.query()
async def doubled(ctx: Context, number: int) -> int:  # noqa: ARG001 - a handler takes a context
    """Answer with twice the number."""
    return number * 2
