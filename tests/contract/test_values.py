"""What goes in comes out, on this transport as on any other: values are encoded and decoded in the core."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, TypedDict

import msgspec
import pytest

from grctl import DecodeError, WorkflowError

from .workflows import RESULTS


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Line:
    sku: str
    qty: int
    note: str | None = None


class Order(msgspec.Struct):
    id: uuid.UUID
    due: datetime
    price: Decimal
    lines: list[Line]
    colour: Colour = Colour.RED


class Address(TypedDict):
    street: str
    number: int


@pytest.mark.parametrize("kind", RESULTS)
async def test_every_kind_of_result(client, unique_id, kind):
    result = await client.run_workflow("ReturnsA", unique_id(), {"kind": kind})
    assert result == RESULTS[kind]
    assert type(result) is type(RESULTS[kind])


@pytest.mark.parametrize("kind", RESULTS)
async def test_every_kind_of_result_of_a_run_that_had_ended_before_we_looked(client, unique_id, kind):
    wf_id = unique_id()
    await client.run_workflow("ReturnsA", wf_id, {"kind": kind})
    result = await (await client.get_handle(wf_id)).result()
    assert result == RESULTS[kind]
    assert type(result) is type(RESULTS[kind])


PLAIN = [
    True,
    0,
    -1,
    2**64 - 1,
    -(2**63),
    1.5,
    float("inf"),
    "",
    "text",
    "h\u00e9llo \u2713 \U0001f680 \x00 \n",
    b"",
    b"\x00\xff",
    [],
    [1, [2, [3]]],
    ["a", None, True, 1.5],
    [{"deep": {"er": [1, {"est": None}]}}],
    datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: ascii(value)[:30])
async def test_plain_values_come_back_as_they_went_in(client, unique_id, value):
    result = await client.run_workflow("ReturnsItsInput", unique_id(), value)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize("value", [{}, {"a": 1, "": 2, "with space": {"3": 4}}, {"nested": {"1": [b"x"]}}], ids=ascii)
async def test_maps_come_back_as_they_went_in(client, unique_id, value):
    assert await client.run_workflow("ReturnsItsInput", unique_id(), {"value": value}) == value


@pytest.mark.parametrize(
    ("value", "comes_back_as"),
    [
        ((1, "a"), [1, "a"]),
        ({3}, [3]),
        (frozenset({"x"}), ["x"]),
        (bytearray(b"ab"), b"ab"),
        (Colour.RED, "red"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Decimal("1.10"), "1.10"),
        (date(2026, 1, 2), "2026-01-02"),
        (timedelta(seconds=90), "PT90S"),
        (Line("sku-1", 2), {"sku": "sku-1", "qty": 2, "note": None}),
        (Address(street="Main", number=1), {"street": "Main", "number": 1}),
        (
            datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 1, 2, 1, tzinfo=UTC),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_richer_values_come_back_plain(client, unique_id, value, comes_back_as):
    result = await client.run_workflow("ReturnsItsInput", unique_id(), {"value": value})
    assert result == comes_back_as
    assert type(result) is type(comes_back_as)


@pytest.mark.parametrize(
    ("value", "arrives_as"),
    [
        ((1, 2), "list"),
        ([1], "list"),
        (True, "bool"),
        (7, "int"),
        ("text", "str"),
        (b"bytes", "bytes"),
        (datetime(2026, 1, 1, tzinfo=UTC), "datetime"),
        (uuid.UUID(int=7), "str"),
        (Colour.RED, "str"),
    ],
    ids=lambda value: ascii(value)[:30],
)
async def test_the_workflow_gets_what_a_worker_elsewhere_would_get(client, unique_id, value, arrives_as):
    """The embedded engine hands no Python object over: a tuple is a list there, as it is on a server."""
    assert await client.run_workflow("NamesItsInputsType", unique_id(), value) == arrives_as


async def test_a_map_reaches_the_workflow_as_a_dict(client, unique_id):
    assert await client.run_workflow("NamesItsInputsType", unique_id(), {"value": {"a": 1}}) == "dict"


async def test_richer_values_come_back_with_a_result_type(client, unique_id):
    order = Order(uuid.UUID(int=7), datetime(2026, 1, 2, tzinfo=UTC), Decimal("9.90"), [Line("sku-1", 2)])
    result = await client.run_workflow("ReturnsItsInput", unique_id(), {"value": order}, result_type=Order)
    assert result == order
    assert result.lines == [Line("sku-1", 2)]


@pytest.mark.parametrize(
    ("result_type", "value"),
    [(int, 7), (str, "x"), (list[int], [1, 2]), (dict[str, int], {"a": 1}), (Address, {"street": "M", "number": 1})],
)
async def test_result_types(client, unique_id, result_type, value):
    assert await client.run_workflow("ReturnsItsInput", unique_id(), {"value": value}, result_type=result_type) == value


@pytest.mark.parametrize(("result_type", "value"), [(int, "7"), (list[int], ["a"]), (Line, {"sku": "1"}), (str, None)])
async def test_a_result_that_does_not_fit_its_type(client, unique_id, result_type, value):
    with pytest.raises(DecodeError):
        await client.run_workflow("ReturnsItsInput", unique_id(), {"value": value}, result_type=result_type)


async def test_a_pydantic_model_goes_in_and_comes_out(client, unique_id):
    pydantic = pytest.importorskip("pydantic")

    class Receipt(pydantic.BaseModel):
        number: str
        paid: float = 0.0

    receipt = Receipt(number="rc-1", paid=9.5)
    assert await client.run_workflow("ReturnsItsInput", unique_id(), {"value": receipt}) == receipt.model_dump()
    assert await client.run_workflow("ReturnsItsInput", unique_id(), {"value": receipt}, result_type=Receipt) == receipt


async def test_what_is_changed_after_the_call_changes_nothing(client, unique_id):
    items = [1, 2]
    handle = await client.start_workflow("ReturnsItsInput", unique_id(), {"value": items})
    items.append(3)
    result = await handle.result()
    assert result == [1, 2]
    result.append(4)
    again = await (await client.get_handle(handle.run_info.wf_id)).result()
    assert again == [1, 2]


@pytest.mark.parametrize("size", [0, 1_000, 100_000, 1_000_000])
async def test_large_results(client, unique_id, size):
    assert await client.run_workflow("ReturnsManyBytes", unique_id(), {"size": size}) == b"x" * size


async def test_large_input(client, unique_id):
    value = "y" * 500_000
    assert await client.run_workflow("ReturnsItsInput", unique_id(), {"value": value}) == value


# --- input to parameters: PROTOCOL.md section 6


@pytest.mark.parametrize(
    ("workflow_input", "result"),
    [
        ({"order_id": "1", "qty": 2}, {"order_id": "1", "qty": 2}),
        ({"order_id": "1"}, {"order_id": "1", "qty": 1}),
        ("1", {"order_id": "1", "qty": 1}),
    ],
)
async def test_a_map_is_spread_and_another_value_is_the_single_argument(client, unique_id, workflow_input, result):
    assert await client.run_workflow("SpreadsAMap", unique_id(), workflow_input) == result


async def test_input_is_converted_to_the_annotations(client, unique_id, ours):
    given: dict[str, Any] = {"item": Line("sku-1", 2), "due": datetime(2026, 5, 1, tzinfo=UTC)}
    given["item"] = {"sku": "sku-1", "qty": 2}
    result = await client.run_workflow("ConvertsItsInput", unique_id(), given)
    assert result == {"sku": "sku-1", "qty": 3, "year": 2026}


async def test_missing_input_fails_the_run_with_a_readable_error(client, unique_id):
    with pytest.raises(WorkflowError, match="order_id"):
        await client.run_workflow("SpreadsAMap", unique_id(), {"nope": 1})


@pytest.mark.parametrize(
    ("workflow_input", "readable"),
    [
        ({"order_id": "1", "qty": "two"}, r"'qty'.*int"),
        ({"order_id": 1}, r"'order_id'.*str"),
        ({"order_id": "1", "colour": "red"}, "colour"),
        (None, "order_id"),
        ({}, "order_id"),
        (7, r"'order_id'.*str"),
    ],
)
async def test_wrong_input_fails_the_run_with_a_readable_error(client, unique_id, ours, workflow_input, readable):
    with pytest.raises(WorkflowError, match=readable) as caught:
        await client.run_workflow("SpreadsAMap", unique_id(), workflow_input)
    assert "SpreadsAMap" in caught.value.message


async def test_a_result_that_cannot_be_sent_fails_the_run_and_names_the_path(client, unique_id, ours):
    with pytest.raises(WorkflowError, match="receipt"):
        await client.run_workflow("ReturnsWhatCannotBeSent", unique_id())


async def test_a_handler_that_decides_nothing_fails_the_run(client, unique_id):
    with pytest.raises(WorkflowError) as caught:
        await client.run_workflow("DecidesNothing", unique_id())
    assert caught.value.message


async def test_a_handler_that_decides_nothing_is_told_what_to_return(client, unique_id, ours):
    with pytest.raises(WorkflowError, match=r"ctx\.next") as caught:
        await client.run_workflow("DecidesNothing", unique_id())
    assert "None" in caught.value.message
