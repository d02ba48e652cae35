from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grctl_core.errors import InvalidInputError
from grctl_engine import RetryPolicy
from grctl_engine.retry_policy import qualified_name


class CardError(Exception):
    pass


class DeclinedError(CardError):
    pass


def test_defaults():
    policy = RetryPolicy()
    assert policy.attempts == 1
    assert [policy.delay_ms(attempt) for attempt in range(1, 9)] == [100, 200, 400, 800, 1600, 3200, 5000, 5000]
    assert policy.retries(ValueError())


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (RetryPolicy(initial_delay_ms=50, backoff_multiplier=2.0), [50, 100, 200]),
        (RetryPolicy(initial_delay_ms=0), [0, 0, 0]),
        (RetryPolicy(initial_delay_ms=10, backoff_multiplier=1), [10, 10, 10]),
        (RetryPolicy(initial_delay_ms=300, max_delay_ms=500), [300, 500, 500]),
        (RetryPolicy(initial_delay_ms=300, max_delay_ms=0), [0, 0, 0]),
        (RetryPolicy(initial_delay_ms=1, backoff_multiplier=1.5), [1, 2, 2]),
    ],
)
def test_delays(policy, delays):
    assert [policy.delay_ms(attempt) for attempt in (1, 2, 3)] == delays


def test_ten_thousand_attempts_do_not_overflow():
    assert RetryPolicy(backoff_multiplier=10).delay_ms(10_000) == 5000
    assert RetryPolicy(initial_delay_ms=0, backoff_multiplier=10).delay_ms(10_000) == 0


@given(st.integers(1, 50), st.floats(0, 3), st.integers(0, 10_000))
def test_jitter_adds_its_share_at_most(attempt, jitter, initial):
    plain = RetryPolicy(initial_delay_ms=initial).delay_ms(attempt)
    delay = RetryPolicy(initial_delay_ms=initial, jitter=jitter).delay_ms(attempt)
    assert plain - 1 <= delay <= plain * (1 + jitter) + 1


@pytest.mark.parametrize(
    ("only", "never", "error", "retried"),
    [
        (None, None, ValueError(), True),
        (["ValueError"], None, ValueError(), True),
        (["builtins.ValueError"], None, ValueError(), True),
        (["ValueError"], None, KeyError(), False),
        ([], None, ValueError(), False),
        (None, ["ValueError"], ValueError(), False),
        (None, [], ValueError(), True),
        (None, ["ValueError"], KeyError(), True),
        (["ValueError"], ["ValueError"], ValueError(), False),
        # A base class does not stand for its subclasses.
        (["CardError"], None, DeclinedError(), False),
        (None, ["CardError"], DeclinedError(), True),
        (("DeclinedError",), None, DeclinedError(), True),
        ([f"{__name__}.DeclinedError"], None, DeclinedError(), True),
    ],
)
def test_names_of_errors(only, never, error, retried):
    assert RetryPolicy(retryable_errors=only, non_retryable_errors=never).retries(error) is retried


@pytest.mark.parametrize("name", ["initial_delay_ms", "max_delay_ms"])
def test_delays_are_100_years_at_most(name):
    century = 36_500 * 24 * 3600 * 1000
    RetryPolicy(**{name: century})
    with pytest.raises(InvalidInputError, match=rf"RetryPolicy\.{name} must be 100 years at most"):
        RetryPolicy(**{name: century + 1})
    longest = RetryPolicy(initial_delay_ms=century, max_delay_ms=century, jitter=1e9)
    assert longest.delay_ms(1) == century


def test_qualified_name():
    class InnerError(Exception):
        pass

    assert qualified_name(ConnectionError()) == "builtins.ConnectionError"
    assert qualified_name(InnerError()).endswith("test_qualified_name.<locals>.InnerError")


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": -1},
        {"max_attempts": 2.0},
        {"max_attempts": True},
        {"initial_delay_ms": -1},
        {"initial_delay_ms": 0.5},
        {"initial_delay_ms": "50"},
        {"backoff_multiplier": 0.5},
        {"backoff_multiplier": math.nan},
        {"backoff_multiplier": math.inf},
        {"max_delay_ms": -1},
        {"jitter": -0.1},
        {"jitter": math.nan},
        {"jitter": True},
        {"retryable_errors": "ValueError"},
        {"retryable_errors": [ValueError]},
        {"non_retryable_errors": {"ValueError"}},
    ],
)
def test_what_is_wrong(wrong):
    (name,) = wrong
    with pytest.raises(InvalidInputError, match=rf"RetryPolicy\.{name} must be"):
        RetryPolicy(**wrong)
