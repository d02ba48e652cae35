"""outcome(): how a run ended, as a value."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, assert_type

import grctl
from grctl import ErrorDetails, Outcome, RunStatus
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

wf = Workflow(workflow_type="Approval")


@wf.start()
async def start(ctx: Context, order_id: str) -> Directive:
    ctx.store.put("order_id", order_id)
    return ctx.next.wait()


@wf.event()
async def approve(ctx: Context, by: str = "nobody") -> Directive:
    return ctx.next.complete({"approved_by": by})


@wf.event(name="order.rejected")
async def order_rejected(ctx: Context) -> Directive:
    return ctx.next.fail(ErrorDetails("Rejected", "not today", ""))


@dataclass
class Receipt:
    approved_by: str


def tell(outcome: Outcome[Receipt]) -> str:
    assert_type(outcome.status, RunStatus)
    assert_type(outcome.result, Receipt | None)
    assert_type(outcome.error, ErrorDetails | None)
    assert_type(outcome.reason, str)
    if outcome.completed:
        receipt = outcome.unwrap()
        assert_type(receipt, Receipt)
        return f"approved by {receipt.approved_by}"
    match outcome:
        case Outcome(error=ErrorDetails(type="Rejected", message=message)):
            return f"rejected: {message}"
        case Outcome(error=ErrorDetails() as error):
            return f"failed: {error.type}"
        case Outcome(status=RunStatus.TIMED_OUT):
            return "too slow"
        case Outcome(status=RunStatus.CANCELLED | RunStatus.TERMINATED, reason=reason):
            return f"stopped: {reason}"
        case _:
            return f"ended as {outcome.status}"


def tell_any(outcome: Outcome) -> object:
    assert_type(outcome.unwrap(), Any)
    return outcome.result


async def main() -> None:
    connection = await grctl.connect("memory://", workflows=[wf])
    client = grctl.Client(connection=connection)
    handles = [await client.start_workflow("Approval", f"order-{n}", "1", result_type=Receipt) for n in range(3)]
    assert_type(handles, list[grctl.WorkflowHandle[Receipt]])
    await handles[0].send("approve", {"by": "Ada"})
    await handles[1].send("order.rejected")
    await handles[2].terminate("out of business")
    outcomes = await asyncio.gather(*(handle.outcome(timeout=10) for handle in handles))
    assert_type(outcomes, list[Outcome[Receipt]])
    for outcome in outcomes:
        print(outcome.run.wf_id, tell(outcome))
    print(tell_any(outcomes[0]))
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
