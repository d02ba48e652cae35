from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypedDict
from uuid import UUID, uuid4

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grctl_core.codec import convert, encode
from grctl_core.run import RunStatus
from grctl_engine.binding import Binder
from grctl_engine.child import ChildOutcome
from grctl_engine.errors import InputMismatchError


@dataclass
class Order:
    order_id: str
    amount: float = 0.0


class OrderStruct(msgspec.Struct):
    order_id: str


class OrderDict(TypedDict):
    order_id: str


class OrderModel(pydantic.BaseModel):
    order_id: str


class Color(Enum):
    RED = "red"


def bind(function, value, *, encoded=None):
    binder = Binder("start() of workflow 'ProcessOrder'", function, "input", "the run was started without input")
    return binder.bind(encode("input", value) if encoded is None and value is not None else encoded)


async def none(ctx): ...
async def one(ctx, order_id: str): ...
async def two(ctx, order_id: str, amount: float = 1.5): ...
async def both(ctx, order_id: str, amount: float): ...
async def anything(ctx, value: Any): ...
async def keyword_only(ctx, *, order_id: str): ...
async def positional_only(ctx, value: int, /): ...
async def variadic(ctx, *values: int): ...
async def keywords(ctx, **values: int): ...
async def mixed(ctx, order_id: str, *values: int, **extra: str): ...
async def takes_order(ctx, order: Order): ...
async def takes_struct(ctx, order: OrderStruct): ...
async def takes_typed_dict(ctx, order: OrderDict): ...
async def takes_model(ctx, order: OrderModel): ...
async def takes_dict(ctx, order: dict[str, Any]): ...
async def takes_mapping(ctx, order: Mapping[str, Any] | None): ...


BINDS = {
    "nil to none": (none, None, (), {}),
    "empty map to none": (none, {}, (), {}),
    "a map": (two, {"order_id": "7", "amount": 2.0}, (), {"order_id": "7", "amount": 2.0}),
    "an int for a float": (two, {"order_id": "7", "amount": 2}, (), {"order_id": "7", "amount": 2.0}),
    "a map and a default": (two, {"order_id": "7"}, (), {"order_id": "7"}),
    "a string": (one, "7", ("7",), {}),
    "a string and a default": (two, "7", ("7",), {}),
    "a list is one value": (anything, [1, 2], ([1, 2],), {}),
    "false is a value": (anything, False, (False,), {}),
    "zero is a value": (anything, 0, (0,), {}),
    "an empty string is a value": (anything, "", ("",), {}),
    "a map with nil in it": (anything, {"value": None}, (), {"value": None}),
    "keyword only": (keyword_only, {"order_id": "7"}, (), {"order_id": "7"}),
    "positional only": (positional_only, 7, (7,), {}),
    "variadic": (variadic, 7, (7,), {}),
    "variadic, nil": (variadic, None, (), {}),
    "keywords": (keywords, {"a": 1, "b": 2}, (), {"a": 1, "b": 2}),
    "mixed": (mixed, {"order_id": "7", "x": "y"}, (), {"order_id": "7", "x": "y"}),
    "a dataclass in a map": (takes_order, {"order": {"order_id": "7"}}, (), {"order": Order("7")}),
    "a struct in a map": (takes_struct, {"order": {"order_id": "7"}}, (), {"order": OrderStruct("7")}),
    "a model in a map": (takes_model, {"order": {"order_id": "7"}}, (), {"order": OrderModel(order_id="7")}),
}


@pytest.mark.parametrize("case", BINDS)
def test_what_binds(case):
    function, value, args, kwargs = BINDS[case]
    assert bind(function, value) == (args, kwargs)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (datetime, datetime(2026, 1, 1, tzinfo=UTC)),
        (UUID, uuid4()),
        (Decimal, Decimal("1.10")),
        (Color, Color.RED),
        (bytes, b"\x00\xff"),
        (tuple[int, str], (1, "a")),
        (set[int], {1, 2}),
        (frozenset[str], frozenset({"a"})),
        (int | None, None),
        (dict[UUID, int], {uuid4(): 1}),
        (list[Order], [Order("7")]),
    ],
)
def test_a_value_comes_back_as_what_it_was(annotation, value):
    async def handler(ctx, value): ...

    handler.__annotations__["value"] = annotation
    _, kwargs = bind(handler, {"value": value})
    assert kwargs == {"value": value}
    assert type(kwargs["value"]) is type(value)


WHOLE_MAP = "A map is spread as keyword arguments, one for each key: send {'order': {...}}"

MISMATCHES = {
    "missing": (one, {"nope": 1}, "needs 'order_id' (str); the input has: nope"),
    "two missing": (both, {}, "needs 'order_id' (str), 'amount' (float); the input is an empty map"),
    "one of two missing": (both, {"order_id": "7"}, "needs 'amount' (float); the input has: order_id"),
    "no input": (one, None, "needs 'order_id' (str); the run was started without input"),
    "unexpected": (one, {"order_id": "7", "nope": 1}, "takes order_id; the input has nope as well"),
    "unexpected, nothing taken": (none, {"nope": 1}, "takes no keys; the input has nope as well"),
    "a key that is no string": (one, {1: "x", "order_id": "7"}, "takes order_id; the input has 1 as well"),
    "the context's own name": (keywords, {"ctx": 1}, "takes no keys; the input has ctx as well"),
    "a single value too much": (none, 7, "takes no input; the input is a single value (int): give it a parameter"),
    "a single value, by keyword": (keyword_only, "7", "takes order_id by keyword only; the input is a single value"),
    "a single value for two": (both, "7", "needs 'amount' (float); the input is a single value (str), for 'order_id'"),
    "a map, by position": (positional_only, {"value": 1}, "needs 'value' (int); the input has: value"),
    "wrong type": (one, {"order_id": 7}, "'order_id' does not fit str: Expected `str`, got `int`"),
    "wrong type, single": (one, 7, "'order_id' does not fit str: Expected `str`, got `int`"),
    "wrong type in variadic": (variadic, "x", "'values' does not fit int: Expected `int`, got `str`"),
    "wrong type in keywords": (keywords, {"a": "x"}, "'a' does not fit int: Expected `int`, got `str`"),
    "deep": (
        takes_order,
        {"order": {"order_id": 7}},
        "'order' does not fit Order: Expected `str`, got `int` - at `$.o",
    ),
    "whole dataclass": (takes_order, {"order_id": "7"}, WHOLE_MAP),
    "whole struct": (takes_struct, {"order_id": "7"}, WHOLE_MAP),
    "whole typed dict": (takes_typed_dict, {"order_id": "7"}, WHOLE_MAP),
    "whole model": (takes_model, {"order_id": "7"}, WHOLE_MAP),
    "whole dict": (takes_dict, {"order_id": "7"}, WHOLE_MAP),
    "whole mapping": (takes_mapping, {"order_id": "7"}, WHOLE_MAP),
    "whole, empty": (takes_dict, {}, WHOLE_MAP),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_what_does_not_bind_says_why(case):
    function, value, message = MISMATCHES[case]
    with pytest.raises(InputMismatchError) as caught:
        bind(function, value)
    assert str(caught.value).startswith("start() of workflow 'ProcessOrder'")
    assert message in str(caught.value)


def test_what_is_no_msgpack_says_so():
    with pytest.raises(InputMismatchError, match="cannot be decoded"):
        bind(one, None, encoded=b"\xc1")


def test_many_keys_are_not_all_listed():
    with pytest.raises(InputMismatchError) as caught:
        bind(one, {f"key{number}" * 30: number for number in range(1000)})
    assert len(str(caught.value)) < 2000
    assert "and 988 more" in str(caught.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text() | st.sampled_from(["order_id", "amount", "order", "value"]) | st.integers(0, 9), inner
        )
    ),
    max_leaves=8,
)
HANDLERS = [function for function, *_ in [*BINDS.values(), *MISMATCHES.values()]]


@settings(deadline=None)  # nothing asserts on wall time
@given(value=values, function=st.sampled_from(HANDLERS))
def test_whatever_comes_binds_or_fails_readably(value, function):
    try:
        args, kwargs = bind(function, value)
    except InputMismatchError as error:
        message = str(error)
    else:
        inspect.signature(function).bind(object(), *args, **kwargs)  # the call itself cannot fail any more
        return
    assert message.startswith("start() of workflow 'ProcessOrder'")


@settings(deadline=None)  # nothing asserts on wall time
@given(value=values)
def test_any_takes_every_single_value_as_it_is(value):
    args, kwargs = bind(anything, value) if value is not None and not isinstance(value, dict) else ((value,), {})
    assert args == (value,)
    assert kwargs == {}


async def named_result(ctx, result: ChildOutcome): ...
async def named_status(ctx, status: ChildOutcome): ...
async def named_error(ctx, error: ChildOutcome): ...
async def named_otherwise(ctx, outcome: ChildOutcome, later: int = 5): ...


OUTCOMES = [
    {"status": "completed", "result": {"a": 1}, "error": None},
    {"status": "failed", "result": None, "error": {"type": "E", "message": "m", "stack_trace": ""}},
    {"status": "completed"},
]


@pytest.mark.parametrize("function", [named_result, named_status, named_error, named_otherwise])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_parameter_of_an_outcome_may_have_any_name(function, outcome):
    name = list(inspect.signature(function).parameters)[1]
    expected = {name: convert(outcome, ChildOutcome)}
    assert bind(function, outcome) == ((), expected)
    assert bind(function, {name: outcome}) == ((), expected)  # as it is sent by hand


def test_an_outcome_by_name_leaves_room_for_others():
    _, bound = bind(named_otherwise, {"outcome": {"status": "completed"}, "later": 3})
    assert bound == {"outcome": ChildOutcome(RunStatus.COMPLETED), "later": 3}
