"""grctl_core.durations: a timedelta, or seconds as a number."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grctl_core.durations import optional_timedelta, to_seconds, to_timedelta
from grctl_core.errors import InvalidInputError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(1, 1.0), (0.25, 0.25), (timedelta(minutes=5), 300.0), (timedelta.resolution, 1e-6), (1e-300, 1e-300)],
)
def test_accepted(value: object, seconds: float) -> None:
    assert to_seconds("timeout", value) == seconds
    assert to_timedelta("timeout", value) == max(timedelta(seconds=seconds), timedelta.resolution)
    assert optional_timedelta("timeout", value) == to_timedelta("timeout", value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0, "above zero"),
        (-1, "above zero"),
        (-0.0, "above zero"),
        (timedelta(0), "above zero"),
        (timedelta(seconds=-1), "above zero"),
        (float("nan"), "above zero"),
        (float("inf"), "100 years at most"),
        (10**400, "100 years at most"),
        (timedelta.max, "100 years at most"),
        (True, "not bool"),
        ("5", "not str"),
        (Decimal(5), "not Decimal"),
        (None, "not NoneType"),
        ([5], "not list"),
    ],
)
def test_refused(value: object, says: str) -> None:
    for check in (to_seconds, to_timedelta):
        with pytest.raises(InvalidInputError, match=says) as caught:
            check("workflow_timeout", value)
        assert str(caught.value).startswith("workflow_timeout must be")


def test_none_is_no_duration_unless_asked_for() -> None:
    assert optional_timedelta("workflow_timeout", None) is None


@given(st.floats(min_value=1e-9, max_value=3e9) | st.timedeltas(timedelta.resolution, timedelta(days=36_500)))
def test_both_forms_agree(value: float | timedelta) -> None:
    seconds, delta = to_seconds("timeout", value), to_timedelta("timeout", value)
    assert delta >= timedelta.resolution
    assert abs(delta.total_seconds() - seconds) <= 1e-6 + seconds * 1e-12
