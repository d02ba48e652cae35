"""grctl_core.codec: what goes over the wire and back."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, RootModel, computed_field

from grctl_core.codec import check_type, convert, decode, encode
from grctl_core.errors import DecodeError, InvalidInputError


class Unsendable:
    pass


class Colour(Enum):
    RED = "red"


@dataclass
class Item:
    sku: str
    at: Any = None


class Line(msgspec.Struct):
    item: Any
    count: int = 1


class Point(NamedTuple):
    x: Any
    y: Any


class Address(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)
    street: str
    since: Any = None


class Customer(BaseModel):
    name: str
    born: date
    address: Address | None = None


class Movie(TypedDict):
    title: str


class Stamped(BaseModel):
    @computed_field  # type: ignore[prop-decorator]
    @property
    def at(self) -> datetime:
        return datetime(2026, 1, 2)  # noqa: DTZ001


class Many(RootModel[list[Any]]):
    pass


UTC_TIME = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
NAIVE = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=20)
    | st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_come_back_as_they_were(value: object) -> None:
    assert decode(encode("value", value)) == value


@given(st.datetimes())
def test_every_naive_datetime_is_refused(value: datetime) -> None:
    with pytest.raises(InvalidInputError, match="without a time zone"):
        encode("value", {"at": value})


@given(st.datetimes())
def test_a_string_that_looks_like_a_datetime_is_none(value: datetime) -> None:
    for text in (value.isoformat(), value.isoformat() + "Z", f"{value!s}", f"at {value.isoformat()}"):
        assert decode(encode("value", [text, {text: text}])) == [text, {text: text}]


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (frozenset(), []),
        (uuid.UUID(int=5), str(uuid.UUID(int=5))),
        (Decimal("1.50"), "1.50"),
        (Colour.RED, "red"),
        (date(2026, 1, 2), "2026-01-02"),
        (timedelta(seconds=90), "PT90S"),
        (Item("a", 1), {"sku": "a", "at": 1}),
        (Line("a"), {"item": "a", "count": 1}),
        (Point(1, 2), [1, 2]),
        (Customer(name="Ada", born=date(1815, 12, 10)), {"name": "Ada", "born": "1815-12-10", "address": None}),
        ({"c": [Many([Item("a")])]}, {"c": [[{"sku": "a", "at": None}]]}),
        (UTC_TIME.astimezone(timezone(timedelta(hours=2))), UTC_TIME),
        ({1: "a", (2, 3): "b"}, {1: "a", (2, 3): "b"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_without_a_type_what_comes_back_is_plain(value: object, back: object) -> None:
    assert decode(encode("value", value)) == back


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        ((1, "a"), tuple[int, str]),
        ({3}, set[int]),
        (uuid.UUID(int=5), uuid.UUID),
        (Decimal("1.50"), Decimal),
        (Colour.RED, Colour),
        (timedelta(seconds=90), timedelta),
        (UTC_TIME, datetime),
        (Item("a", 1), Item),
        ([Line("a")], list[Line]),
        (Point(1, 2), Point),
        (Movie(title="Sunrise"), Movie),
        (5, Annotated[int, msgspec.Meta(ge=1)]),
        (Customer(name="Ada", born=date(1815, 12, 10), address=Address(street="S", floor=3)), Customer),
        ({"ada": Address(street="S")}, dict[str, Address]),
        (None, type(None)),
        (None, Customer | None),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_with_a_type_it_comes_back_as_it_was(value: object, type_: Any) -> None:
    check_type("result_type", type_)
    back = decode(encode("value", value), type_)
    assert back == value
    assert type(back) is type(value)


BAD = Unsendable()


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (BAD, "input cannot"),
        ({"a": [1, {"b": BAD}]}, "input['a'][1]['b'] cannot"),
        ([[], (1, BAD)], "input[1][1] cannot"),
        (Item("a", Item("b", BAD)), "input.at.at cannot"),
        ({"line": Line(item={"k": BAD})}, "input['line'].item['k'] cannot"),
        (Point(1, BAD), "input[1] cannot"),
        (Address(street="S", since={"x": BAD}), "input.since['x'] cannot"),
        (Address(street="S", more=BAD), "input.more cannot"),
        (Many([1, BAD]), "input.root[1] cannot"),
        ({1, 2, frozenset({BAD})}, "input{frozenset}{Unsendable} cannot"),
        ({"a": {BAD: 1}}, "input['a'] (key <"),
        ({"a": {(1, BAD): 1}}, "input['a'] (key (1, <"),
        ({"ä\n": BAD}, r"input['\xe4\n'] cannot"),
        ({"k" * 100: BAD}, "input['kkkkkkkkkk"),
        ({"a": 2**64}, "input['a'] cannot be encoded (int)"),
        ([-(2**63) - 1], "input[0] cannot be encoded (int)"),
        ({"a": "x\ud800"}, "input['a'] cannot be encoded (str)"),
        ({"a\ud800": 1}, r"input (key 'a\ud800') cannot be encoded (str)"),
        ((item for item in "ab"), "input cannot be encoded (generator)"),
        ({"a": NAIVE}, "input['a'] is a datetime without a time zone"),
        ([NAIVE.replace(microsecond=7)], "input[0] is a datetime"),
        ({"a": {NAIVE: 1}}, "input['a'] (key datetime.datetime(2026, 1, 2, 3, 4, 5)) is a datetime"),
        ({NAIVE}, "input{datetime} is a datetime"),
        (Item("a", (NAIVE,)), "input.at[0] is a datetime"),
        (Line(NAIVE), "input.item is a datetime"),
        (Address(street="S", since=[NAIVE]), "input.since[0] is a datetime"),
        (Address(street="S", more=NAIVE), "input.more is a datetime"),
        (Stamped(), "input.at is a datetime"),
        (Many([NAIVE]), "input.root[0] is a datetime"),
        ([NAIVE.isoformat(), {"text": NAIVE.isoformat()}, NAIVE], "input[2] is a datetime"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_message_has_the_path(value: object, where: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        encode("input", value)
    assert str(caught.value).startswith(where)
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 500


def nested(depth: int, innermost: object) -> object:
    for _ in range(depth):
        innermost = [innermost]
    return innermost


def test_what_contains_itself_is_refused() -> None:
    around: dict[str, Any] = {"a": 1}
    around["b"] = [around]
    looped = Address(street="S")
    looped.since = {"again": looped}
    item = Item("a")
    item.at = [item]
    for value in (around, item, {"x": looped}, nested(100_000, 1)):
        with pytest.raises(InvalidInputError, match=r"^input is nested too deeply, or contains itself$"):
            encode("input", value)


@pytest.mark.parametrize("innermost", [BAD, NAIVE])
def test_a_deep_value_has_a_path_too(innermost: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^input(\[0\]){150} "):
        encode("input", nested(150, innermost))


@pytest.mark.parametrize(
    "type_", [5, "int", Unsendable, object, list[Unsendable], dict[str, tuple[int, Unsendable]], int | Unsendable]
)
def test_a_type_that_cannot_be_decoded_to_is_refused_before_anything_is_sent(type_: Any) -> None:
    for _ in range(2):  # not remembered as good either
        with pytest.raises(InvalidInputError, match=r"^result_type=.* is no type that values can be decoded to"):
            check_type("result_type", type_)


def test_a_field_of_such_a_type_is_found_at_any_depth() -> None:
    holder = msgspec.defstruct("Holder", [("deep", list[dict[str, Unsendable]])])
    with pytest.raises(InvalidInputError, match="Unsendable"):
        check_type("result_type", holder)


def test_a_type_that_refers_to_itself_is_fine() -> None:
    check_type("result_type", Tree)
    assert decode(encode("value", {"left": {"left": None}}), Tree) == Tree(Tree(None))


class Tree(msgspec.Struct):
    left: Tree | None


@pytest.mark.parametrize(
    ("value", "type_", "says"),
    [
        ({"sku": 5}, Item, "Expected `str`, got `int` - at `$.sku`"),
        ({}, Item, "missing required field `sku`"),
        ([1, "x"], list[int], "$[1]"),
        ({"name": "Ada", "born": "yesterday"}, Customer, "born"),
        ("blue", Colour, "Invalid enum value"),
    ],
)
def test_a_value_of_another_type_is_a_decode_error(value: object, type_: Any, says: str) -> None:
    for back in (lambda: decode(encode("value", value), type_), lambda: convert(value, type_)):
        with pytest.raises(DecodeError) as caught:
            back()
        assert says in str(caught.value)


@pytest.mark.parametrize("encoded", [b"", b"\xc1", b"\x91", b"\xc0\xc0", b"\xa1\xff"])
def test_bytes_that_are_no_msgpack_are_a_decode_error(encoded: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(encoded)


def test_ints_of_any_width_are_read() -> None:
    assert decode(b"\xd0\x07") == decode(b"\xcf" + b"\0" * 7 + b"\x07") == 7
