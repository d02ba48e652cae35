"""Typed references: the input is checked, and the result's type known, in both clients."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import NoneType
from typing import NotRequired, TypedDict, assert_type

import grctl
import grctl.sync
from grctl import WorkflowRef
from grctl.protocols import Client, Handle
from grctl.worker import Context
from grctl.workflow import Directive, Workflow


@dataclass
class Order:
    order_id: str
    qty: int = 1


@dataclass
class Receipt:
    order_id: str
    total: float


class Address(TypedDict):
    street: str
    city: NotRequired[str]


process_order = WorkflowRef("ProcessOrder", Order, Receipt)
find_address = WorkflowRef("FindAddress", Address, str)
add_up = WorkflowRef("AddUp", list[float], float)
clean_up = WorkflowRef("CleanUp", NoneType, NoneType)
assert_type(process_order, WorkflowRef[Order, Receipt])
assert_type(process_order.name, str)
assert_type(process_order.input_type, type[Order])
assert_type(process_order.result_type, type[Receipt])
assert_type(clean_up, WorkflowRef[None, None])

orders = Workflow(workflow_type="ProcessOrder")


@orders.start()
async def process(ctx: Context, order_id: str, qty: int) -> Directive:
    return ctx.next.complete(Receipt(order_id, 2.5 * qty))


addresses = Workflow(workflow_type="FindAddress")


@addresses.start()
async def find(ctx: Context, street: str, city: str = "") -> Directive:
    return ctx.next.complete(f"{street} {city}")


sums = Workflow(workflow_type="AddUp")


@sums.start()
async def add(ctx: Context, numbers: list[float]) -> Directive:
    return ctx.next.complete(sum(numbers))


cleaning = Workflow(workflow_type="CleanUp")


@cleaning.start()
async def clean(ctx: Context) -> Directive:
    return ctx.next.complete()


workflows = [orders, addresses, sums, cleaning]


async def with_await(client: grctl.Client) -> None:
    handle = await client.start_workflow(process_order, "order-1", Order("1", 2), on_conflict="attach", retry=None)
    assert_type(handle, grctl.WorkflowHandle[Receipt])
    assert_type(await handle.result(), Receipt)
    assert_type(await client.run_workflow(process_order, "order-2", Order("2"), 60), Receipt)
    found = await client.get_handle("order-1", result_type=process_order)
    assert_type(found, grctl.WorkflowHandle[Receipt])
    assert_type((await found.outcome()).unwrap(), Receipt)


async def with_literals(client: grctl.Client) -> None:
    assert_type(await client.run_workflow(find_address, "a-1", {"street": "Elm Street"}), str)
    assert_type(await client.run_workflow(add_up, "s-1", [1, 2.5]), float)
    await client.run_workflow(clean_up, "c-1", None)


async def with_the_protocol(client: Client) -> Handle[Receipt]:
    handle = await client.start_workflow(process_order, "order-3", workflow_input=Order("3"))
    assert_type(handle, Handle[Receipt])
    assert_type(await client.run_workflow(add_up, "s-2", []), float)
    assert_type(await client.start_workflow("ProcessOrder", "order-4", result_type=Receipt), Handle[Receipt])
    return handle


def without_await(client: grctl.sync.Client) -> None:
    handle = client.start_workflow(process_order, "order-5", Order("5"), workflow_timeout=60)
    assert_type(handle, grctl.sync.Handle[Receipt])
    assert_type(handle.result(timeout=5), Receipt)
    assert_type(client.run_workflow(find_address, "a-2", {"street": "Elm Street", "city": "Springfield"}), str)
    assert_type(client.run_workflow(add_up, "s-3", [1]), float)
    assert_type(client.get_handle("order-5", result_type=process_order), grctl.sync.Handle[Receipt])


async def main() -> None:
    async with await grctl.connect("memory://", workflows=workflows) as connection:
        client = grctl.Client(connection=connection)
        await with_await(client)
        await with_literals(client)
        print(await (await with_the_protocol(client)).result())


if __name__ == "__main__":
    asyncio.run(main())
    with grctl.sync.connect("memory://", workflows=workflows) as opened:
        without_await(grctl.sync.Client(connection=opened))
