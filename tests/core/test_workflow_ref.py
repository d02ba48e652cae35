"""WorkflowRef: what the type checker refuses is refused at run time too, as far as one look tells."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypedDict

import msgspec
import pytest

import grctl
from grctl import InvalidInputError, WorkflowNotFoundError, WorkflowRef
from grctl.worker import Context
from grctl.workflow import Directive, Workflow


@dataclass
class Order:
    order_id: str
    qty: int = 1


@dataclass
class Rush(Order):
    by: str = "noon"


@dataclass
class Receipt:
    order_id: str
    total: float


class Address(TypedDict):
    street: str


class Point(msgspec.Struct):
    x: int


class Color(Enum):
    RED = "red"


class Named(Protocol):
    name: str


OrderId = NewType("OrderId", str)

process_order = WorkflowRef("ProcessOrder", Order, Receipt)
orders = Workflow(workflow_type="ProcessOrder")


@orders.start()
async def start(ctx: Context, order_id: str, qty: int = 1) -> Directive:
    return ctx.next.complete({"order_id": order_id, "total": 2.5 * qty})


@pytest.fixture
async def client():
    async with await grctl.connect("memory://", workflows=[orders]) as connection:
        yield grctl.Client(connection=connection)


async def test_a_typed_run(client):
    handle = await client.start_workflow(process_order, "order-1", Order("1", 2))
    assert await handle.result() == Receipt("1", 5.0)
    again = await client.get_handle("order-1", result_type=process_order)
    assert await again.result() == Receipt("1", 5.0)
    assert await (await client.get_handle("order-1")).result() == {"order_id": "1", "total": 5.0}


async def test_a_run_of_another_type(client):
    await client.run_workflow("ProcessOrder", "order-1", {"order_id": "1"})
    with pytest.raises(WorkflowNotFoundError, match="is of type 'ProcessOrder', not 'Refund', as the WorkflowRef says"):
        await client.get_handle("order-1", result_type=WorkflowRef("Refund", Order, Receipt))


async def test_what_contradicts_it(client):
    with pytest.raises(InvalidInputError, match="must be Order, as the WorkflowRef of 'ProcessOrder' says, not dict"):
        await client.run_workflow(process_order, "order-1", {"order_id": "1"})
    with pytest.raises(InvalidInputError, match=r"must be Order, .* not NoneType"):
        await client.start_workflow(process_order, "order-1")
    with pytest.raises(InvalidInputError, match="result_type is what the WorkflowRef says: leave it out"):
        await client.start_workflow(process_order, "order-1", Order("1"), result_type=dict)
    assert [run async for run in client.list_workflows()] == []


@pytest.mark.parametrize(
    ("input_type", "good", "bad"),
    [
        (Order, [Order("1"), Rush("1")], [{"order_id": "1"}, None, Order]),
        (Point, [Point(1)], [{"x": 1}, (1,)]),
        (Address, [{"street": "Elm"}, {}], [[], "Elm"]),
        (NoneType, [None], [{}, False]),
        (None, [None], [{}]),
        (str, ["a"], [b"a", 1]),
        (float, [1.5, 1], ["1", None]),
        (int, [1, True], [1.5]),
        (list[float], [[1, 2.5], ["what is inside is not looked at"]], [(1, 2), 1.5]),
        (dict[str, int], [{"a": 1}], [["a"]]),
        (Sequence[int], [[1], (1,)], [1]),
        (Optional[Order], [None, Order("1")], [{}]),  # noqa: UP045
        (int | str, [1, "a"], [1.5]),
        (Literal["a", "b"], ["a"], ["c"]),
        (Color, [Color.RED], ["red"]),
        (Any, [1, None], []),
        (object, [1, None], []),
        (OrderId, ["a", 7], []),
        (Annotated[int, "what is said of it is not looked at"], [1], ["a"]),
        (Named, [1], []),
    ],
    ids=repr,
)
def test_inputs(input_type, good, bad):
    ref = WorkflowRef("Type", input_type, Any)
    for value in good:
        ref.check_input(value)
    for value in bad:
        with pytest.raises(InvalidInputError, match="workflow_input must be"):
            ref.check_input(value)


@pytest.mark.parametrize("name", ["two words", "", "a.b", 7, None])
def test_a_wrong_name(name):
    with pytest.raises(InvalidInputError, match="name"):
        WorkflowRef(name, Order, Receipt)


def test_a_wrong_result_type():
    with pytest.raises(InvalidInputError, match=r"result_type=.* is no type that values can be decoded to"):
        WorkflowRef("ProcessOrder", Order, "Receipt | str")


def test_it_is_a_value():
    same = WorkflowRef("ProcessOrder", Order, Receipt)
    assert process_order == same == copy.copy(same)
    assert len({process_order, same}) == 1
    with pytest.raises(AttributeError):
        process_order.name = "other"
