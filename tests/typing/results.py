"""result_type: what it says is what a handle, its future, its outcome and run_workflow give."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

import grctl
from grctl.client.client import Client
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


@dataclass
class Receipt:
    approved_by: str


async def main() -> None:
    connection = await grctl.connect("memory://", workflows=[wf])
    client = Client(connection=connection, request_timeout=timedelta(seconds=5))
    assert_type(client, grctl.WorkflowClient)

    handle = await client.start_workflow("Approval", "order-1", "1", result_type=Receipt)
    assert_type(handle, grctl.WorkflowHandle[Receipt])
    assert_type(handle.run_info, grctl.RunInfo)
    await handle.send("approve", {"by": "Ada"})
    await assert_type(handle.future, asyncio.Future[Receipt])
    receipt = await handle.result()
    assert_type(receipt, Receipt)
    assert_type(receipt.approved_by, str)
    assert_type(await handle.result(timeout=timedelta(seconds=1)), Receipt)
    assert_type(await asyncio.wait_for(handle.future, 5), Receipt)
    assert_type(await handle.describe(), grctl.RunInfo)

    found = await client.get_handle("order-1", run_id=handle.run_info.id, result_type=Receipt)
    assert_type(found, grctl.WorkflowHandle[Receipt])

    ran = asyncio.create_task(
        client.run_workflow("Approval", "order-2", "1", timedelta(minutes=1), result_type=dict[str, str])
    )
    second: grctl.WorkflowHandle[Any] | None = None
    while second is None:
        try:
            second = await client.get_handle("order-2")
        except grctl.WorkflowNotFoundError:
            await asyncio.sleep(0)
    await second.send("approve")
    assert_type(await ran, dict[str, str])
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
