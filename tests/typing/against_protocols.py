"""Code that depends on the protocols alone: real clients and handles fit, and so does a stand-in of one's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, TypeVar, assert_type

import grctl
from grctl.protocols import Client, Connection, Handle
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


T = TypeVar("T")


@dataclass
class Receipt:
    approved_by: str


async def order(client: Client, order_id: str) -> Handle[Receipt]:
    handle = await client.start_workflow("Approval", order_id, {"order_id": order_id}, result_type=Receipt)
    assert_type(handle, Handle[Receipt])
    return handle


async def have_approved(handle: Handle[T], by: str) -> T:
    await handle.send("approve", {"by": by})
    result = await handle.result()
    assert_type(await handle.outcome(), grctl.Outcome[T])
    return result


async def any_result(handle: Handle) -> Any:
    return await handle.result()


async def count(client: Client) -> int:
    return len([run async for run in client.list_workflows(workflow_type="Approval")])


class Shop:
    """Embeds a client."""

    def __init__(self, connection: Connection) -> None:
        self.client: Client = grctl.Client(connection=connection)
        self.handles: dict[str, Handle[Receipt]] = {}


async def main() -> None:
    connection = await grctl.connect("memory://", workflows=[wf])
    shop = Shop(connection)
    client = grctl.Client(connection=connection)
    shop.handles["order-1"] = await order(client, "order-1")
    receipt = await have_approved(shop.handles["order-1"], "Ada")
    assert_type(receipt, Receipt)
    real = await client.get_handle("order-1", result_type=Receipt)
    assert_type(await ask_again(real), Receipt)
    print(receipt, await any_result(real), await count(shop.client))
    await connection.close()


async def ask_again(handle: Handle[T]) -> T:
    return await handle.result(timeout=5)


if __name__ == "__main__":
    asyncio.run(main())
