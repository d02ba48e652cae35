"""Without result_type a result is plain data, of type Any: nothing has to be said about it."""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

import grctl
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


async def have_approved(handle: grctl.WorkflowHandle) -> str:
    await handle.send("approve", {"by": "Ada"})
    result = await handle.result()
    assert_type(result, Any)
    name: str = result["approved_by"]
    return name


async def main() -> None:
    connection = await grctl.connect("memory://", workflows=[wf])
    client = grctl.Client(connection=connection)

    handle = await client.start_workflow("Approval", "order-1", "1", on_conflict="attach")
    assert_type(handle, grctl.WorkflowHandle[Any])
    found = await client.get_handle("order-1")
    assert_type(found, grctl.WorkflowHandle[Any])
    joined = asyncio.create_task(client.run_workflow("Approval", "order-1", on_conflict="attach"))
    await asyncio.sleep(0)
    print(await have_approved(handle))
    assert_type(await joined, Any)
    await assert_type(handle.future, asyncio.Future[Any])
    assert_type(await found.result(), Any)
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
