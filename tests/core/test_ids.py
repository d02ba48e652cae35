"""grctl_core.ids: which ids are allowed, and how new ones are made."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grctl_core.errors import InvalidInputError
from grctl_core.ids import MAX_ID_BYTES, check_event_name, check_id, new_ulid

ANY_TEXT = st.text(st.characters(), max_size=30) | st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
TOKENS = st.text("abzAZ09_:/@+=-$#é漢🙂", min_size=1, max_size=40)


def encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def is_token(text: str) -> bool:
    """The rule again, in other words: one NATS subject token that a person can read."""
    return (
        len(text) > 0
        and encodable(text)
        and len(text.encode()) <= MAX_ID_BYTES
        and re.search(r"[\s.*>]", text) is None
        and text.isprintable()
    )


@given(ANY_TEXT | TOKENS)
@example("order-1")
@example("a" * MAX_ID_BYTES)
@example("a" * (MAX_ID_BYTES + 1))
@example("é" * (MAX_ID_BYTES // 2 + 1))
@example("")
@example("\ud800")
@example("a\x00b")
@example("order 1")
@example("order\u200b1")
@example("order\n")
@example("*")
@example(">")
@example("a.b")
def test_an_id_is_accepted_or_refused_with_a_message_that_any_terminal_can_show(text: str) -> None:
    if is_token(text):
        assert check_id("workflow_id", text) is text
        return
    with pytest.raises(InvalidInputError) as caught:
        check_id("workflow_id", text)
    message = str(caught.value)
    assert message.startswith("workflow_id ")
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 1000


@given(ANY_TEXT)
@example("")
@example("order.rejected now")
@example("x" * (MAX_ID_BYTES + 1))
def test_an_event_name_is_any_text_that_fits(text: str) -> None:
    if encodable(text) and len(text.encode()) <= MAX_ID_BYTES:
        assert check_event_name(text) is text
        return
    with pytest.raises(InvalidInputError) as caught:
        check_event_name(text)
    assert str(caught.value).isascii()


@pytest.mark.parametrize("value", [None, 1, b"order-1", ["order-1"], object()])
def test_what_is_no_string_is_refused_by_its_type(value: object) -> None:
    for check in (lambda v: check_id("run_id", v), check_event_name):
        with pytest.raises(InvalidInputError, match=f"must be a string, not {type(value).__name__}"):
            check(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("a b", "' ' at position 1"),
        ("a.b", "'.' at position 1"),
        ("tab\t", r"'\t' at position 3"),
        ("x\ud800", r"lone surrogate at position 1"),
        ("a" * 2000, "has 2000 bytes: 1024 at most"),
    ],
)
def test_the_message_says_what_and_where(text: str, says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_id("workflow_id", text)
    assert says in str(caught.value)


def test_ulids_have_the_shape_and_are_unique() -> None:
    ulids = [new_ulid() for _ in range(20_000)]
    assert len(set(ulids)) == len(ulids)
    assert all(re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", ulid) for ulid in ulids)
    assert all(check_id("run_id", ulid) for ulid in ulids[:10])


def test_ulids_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ulids = []
    for milliseconds in (0, 1, 31, 32, 1_000, 1_700_000_000_000, 1_700_000_000_001, 2**48 - 1):
        monkeypatch.setattr(time, "time_ns", lambda at=milliseconds: at * 1_000_000 + 999_999)
        ulids.append(new_ulid())
    assert ulids == sorted(ulids)
    assert ulids[0].startswith("0" * 10)
    assert ulids[-1].startswith("7ZZZZZZZZZ")
