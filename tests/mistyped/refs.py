"""What is wrong with a WorkflowRef: the comments say what each checker says of the statement below them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import grctl
import grctl.sync
from grctl import WorkflowRef
from grctl.protocols import Client


@dataclass
class Order:
    order_id: str


@dataclass
class Receipt:
    total: float


class Address(TypedDict):
    street: str


process_order = WorkflowRef("ProcessOrder", Order, Receipt)
find_address = WorkflowRef("FindAddress", Address, str)


async def wrong_inputs(client: grctl.Client) -> None:
    # expect mypy: No overload variant of "run_workflow" of "WorkflowClient" matches argument types "WorkflowRef[Order, Receipt]", "str", "int"
    # expect pyright: "Literal[7]" is not assignable to "Order"
    await client.run_workflow(process_order, "order-1", 7)
    # expect mypy: matches argument types "WorkflowRef[Order, Receipt]", "str", "dict[str, str]"
    # expect pyright: cannot be assigned to parameter "workflow_input" of type "Order"
    await client.run_workflow(process_order, "order-1", {"order_id": "1"})
    # expect mypy: matches argument types "WorkflowRef[Order, Receipt]", "str"
    # expect pyright: Argument missing for parameter "workflow_input"
    await client.run_workflow(process_order, "order-1")
    # expect mypy: matches argument types "WorkflowRef[Address, str]", "str", "dict[str, str]"
    # expect pyright: "road" is an undefined item in type "Address"
    await client.run_workflow(find_address, "a-1", {"road": "Elm Street"})
    # expect mypy: Argument "on_conflict" to "run_workflow" of "WorkflowClient" has incompatible type "Literal['ignore']"
    # expect pyright: "Literal['ignore']" is not assignable to type "OnConflict"
    await client.run_workflow(process_order, "order-1", Order("1"), on_conflict="ignore")
    # expect mypy: Unexpected keyword argument "result_type"
    # expect pyright: No parameter named "result_type"
    await client.run_workflow(process_order, "order-1", Order("1"), result_type=int)


async def wrong_results(client: grctl.Client, others: Client) -> None:
    # expect mypy: No overload variant of "run_workflow" of "WorkflowClient" matches
    # expect pyright: "Receipt" is not assignable to "Order"
    _order: Order = await client.run_workflow(process_order, "order-1", Order("1"))
    handle = await client.start_workflow(process_order, "order-2", Order("2"))
    # expect mypy: Incompatible types in assignment (expression has type "Receipt", variable has type "str")
    # expect pyright: "Receipt" is not assignable to "str"
    _text: str = await handle.result()
    # expect mypy: "Receipt" has no attribute "sum"
    # expect pyright: Cannot access attribute "sum" for class "Receipt"
    print((await (await client.get_handle("order-2", result_type=process_order)).result()).sum)
    # expect mypy: No overload variant of "start_workflow" of "Client" matches argument types "WorkflowRef[Order, Receipt]", "str", "str"
    # expect pyright: "Literal['1']" is not assignable to "Order"
    await others.start_workflow(process_order, "order-3", "1")


def without_await(client: grctl.sync.Client) -> None:
    # expect mypy: No overload variant of "run_workflow" of "Client" matches argument types "WorkflowRef[Order, Receipt]", "str", "int"
    # expect pyright: "Literal[7]" is not assignable to "Order"
    client.run_workflow(process_order, "order-1", 7)
    # expect mypy: Incompatible types in assignment (expression has type "Receipt", variable has type "Order")
    # expect pyright: "Receipt" is not assignable to "Order"
    _order: Order = client.start_workflow(process_order, "order-1", Order("1")).result()


def wrong_refs() -> None:
    # expect mypy: Argument 1 to "WorkflowRef" has incompatible type "int"; expected "str"
    # expect pyright: "Literal[7]" is not assignable to "str"
    WorkflowRef(7, Order, Receipt)
    # expect mypy: Argument 2 to "WorkflowRef" has incompatible type "str"
    # expect pyright: Type "Literal['Order']" is not assignable to type "type[InputT@WorkflowRef]"
    WorkflowRef("ProcessOrder", "Order", Receipt)
