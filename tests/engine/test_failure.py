from __future__ import annotations

from grctl_core.codec import encode
from grctl_engine.failure import describe_exception


def describe(function):
    try:
        function()
    except BaseException as error:
        return describe_exception(error)
    raise AssertionError


class CardDeclinedError(Exception):
    pass


def test_class_name_text_and_traceback():
    def charge():
        raise CardDeclinedError("card declined")

    details = describe(charge)
    assert details.type == "CardDeclinedError"
    assert details.message == "card declined"
    assert details.stack_trace.startswith("Traceback (most recent call last):\n")
    assert ", in charge\n" in details.stack_trace
    assert details.stack_trace.endswith("CardDeclinedError: card declined\n")


def test_the_engines_own_frames_are_left_out_also_of_the_cause():
    def charge():
        try:
            encode("amount", object())
        except ValueError as error:
            raise RuntimeError("outer") from error

    details = describe(charge)
    assert "grctl_core" + "/" not in details.stack_trace
    assert "amount cannot be encoded" in details.stack_trace
    assert ", in charge\n" in details.stack_trace
    assert "direct cause" in details.stack_trace


def test_groups_and_cycles_are_no_problem():
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first

    def fail():
        raise ExceptionGroup("several", [first, second])

    details = describe(fail)
    assert details.type == "ExceptionGroup"
    assert "first" in details.stack_trace


def test_a_text_that_cannot_be_had():
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise KeyError("no")

    def fail():
        raise BrokenError

    assert describe(fail).message == "(its text cannot be had: KeyError in __str__)"


def test_a_text_that_cannot_be_sent_is_made_so():
    def fail():
        raise ValueError("bad \ud800 text")

    details = describe(fail)
    assert details.message == "bad \\ud800 text"
    encode("error", details)
