"""Types that a workflow's author sees: tasks keep their signature, outcomes their type."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from grctl.models.directive import RetryPolicy
from grctl.worker import ChildOutcome, Context, task
from grctl.workflow import Directive, Workflow


@dataclass
class Receipt:
    number: str


@task
async def charge(order_id: str, amount: float = 1.0) -> Receipt:
    return Receipt(order_id)


@task(retry_policy=RetryPolicy(max_attempts=3, initial_delay_ms=50, retryable_errors=["ConnectionError"]))
async def notify(who: str) -> None: ...


wf = Workflow(workflow_type="Typed")


@wf.start(timeout=timedelta(minutes=1))
async def start(ctx: Context, order_id: str) -> Directive:
    assert_type(await charge(order_id, amount=5.0), Receipt)
    await notify("Mia")
    await charge(5)  # type: ignore[arg-type]
    handle = await ctx.start_child("Other", "other", {"a": 1}, timedelta(days=1), on_completed_step=ended)
    assert_type(handle.run_info.id, str)
    assert_type(await ctx.run_child("Other", "another"), Any)
    await ctx.send_to_parent("says", {"n": 1})
    return ctx.next.wait()


@wf.step()
async def ended(ctx: Context, outcome: ChildOutcome[Receipt]) -> Directive:
    assert_type(outcome.unwrap(), Receipt)
    assert_type(outcome.result, Receipt | None)
    return ctx.next.complete(outcome.ok)


@wf.query()
async def receipt(ctx: Context) -> Receipt | None:
    return await ctx.store.get("receipt", Receipt)
