from __future__ import annotations

from datetime import timedelta

import pytest

from grctl_core.codec import decode
from grctl_core.errors import InvalidInputError
from grctl_core.outcome import ErrorDetails
from grctl_engine.directive import Complete, Directive, Fail, NextBuilder, NextStep, Wait


async def charge(ctx): ...


async def elsewhere(ctx): ...


NEXT = NextBuilder("ProcessOrder", ["start", "charge", "go"], {charge: "charge"})


@pytest.mark.parametrize("step", [charge, "charge"])
def test_a_step_by_handler_or_name(step):
    assert NEXT.step(step) == NextStep("charge")
    assert NEXT.wait(on_timeout=step).timeout_step_name == "charge"


@pytest.mark.parametrize("step", [elsewhere, "chrage", "", 7, None, [], lambda: None])
def test_a_step_that_is_none_is_refused_at_once_and_the_others_are_named(step):
    with pytest.raises(InvalidInputError, match=r"ProcessOrder.*charge, go, start"):
        NEXT.step(step)


def test_a_timeout_step_that_is_none_is_refused():
    with pytest.raises(InvalidInputError, match="on_timeout"):
        NEXT.wait(timeout=1, on_timeout="nope")


@pytest.mark.parametrize(
    ("given", "kept"), [(None, None), (2, timedelta(seconds=2)), (timedelta(days=2), timedelta(days=2))]
)
def test_a_wait(given, kept):
    wait = NEXT.wait(timeout=given)
    assert isinstance(wait, Wait)
    assert wait.timeout == kept
    assert wait.timeout_step_name == ""
    assert wait.id.startswith("next.")
    assert len(wait.id) == len("next.") + 26


@pytest.mark.parametrize("timeout", [0, -1, "1", True, float("nan"), timedelta(0)])
def test_a_timeout_that_is_none_is_refused(timeout):
    with pytest.raises(InvalidInputError, match="timeout"):
        NEXT.wait(timeout=timeout)


def test_a_result_is_encoded_at_once():
    result = {"items": [1]}
    directive = NEXT.complete(result)
    result["items"].append(2)
    assert isinstance(directive, Complete)
    assert decode(directive.result) == {"items": [1]}
    assert NEXT.complete() == Complete(b"\xc0")


def test_a_result_that_cannot_be_encoded_names_the_path():
    with pytest.raises(InvalidInputError, match=r"result\['order'\]"):
        NEXT.complete({"order": object()})


def test_failing():
    error = ErrorDetails("Refused", "not today")
    assert NEXT.fail(error) == Fail(error)
    assert isinstance(NEXT.fail(error), Directive)


@pytest.mark.parametrize("error", [ValueError("x"), "x", None, ErrorDetails("T", None), ErrorDetails("T", "\ud800")])
def test_failing_with_something_else_is_refused(error):
    with pytest.raises(InvalidInputError):
        NEXT.fail(error)
