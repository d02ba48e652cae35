"""grctl_core.outcome: an end is data first, and an error at the outermost frame alone."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from grctl_core.codec import encode
from grctl_core.errors import (
    DecodeError,
    GrctlError,
    WorkflowCancelledError,
    WorkflowError,
    WorkflowTerminatedError,
    WorkflowTimeoutError,
)
from grctl_core.outcome import EncodedOutcome, ErrorDetails, Outcome, decode_outcome
from grctl_core.run import RunRef, RunStatus

from .scripted import run_info


def outcome(status: str, **fields: Any) -> Outcome[Any]:
    return Outcome(status=RunStatus(status), run=run_info("R1", status=status, timeout=timedelta(seconds=90)), **fields)


def test_a_completed_run_unwraps_to_its_result() -> None:
    assert outcome("completed", result=[1]).unwrap() == [1]
    assert outcome("completed").unwrap() is None
    assert outcome("completed").completed


@pytest.mark.parametrize(
    ("ended", "error", "says"),
    [
        (outcome("failed", error=ErrorDetails("CardDeclined", "no money", "Tb")), WorkflowError, "CardDeclined: no"),
        (outcome("failed"), WorkflowError, "UnknownError: workflow 'order-1' (run R1) ended as failed"),
        (outcome("timed_out"), WorkflowTimeoutError, "exceeded its workflow_timeout of 0:01:30"),
        (outcome("cancelled", reason="no stock"), WorkflowCancelledError, "(run R1) was cancelled: no stock"),
        (outcome("terminated"), WorkflowTerminatedError, "(run R1) was terminated"),
        (outcome("paused"), WorkflowError, "ended as paused"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Outcome) else None,
)
def test_any_other_end_unwraps_to_its_error(ended: Outcome[Any], error: type[GrctlError], says: str) -> None:
    with pytest.raises(error) as caught:
        ended.unwrap()
    assert type(caught.value) is error
    assert says in str(caught.value)
    assert caught.value.run == RunRef("order-1", "R1", "Order")  # type: ignore[attr-defined]
    assert not ended.completed
    assert ended.to_error() is not ended.to_error()


def test_the_error_has_what_the_run_said() -> None:
    failed = outcome("failed", error=ErrorDetails("CardDeclined", "no money", "Tb")).to_error()
    assert isinstance(failed, WorkflowError)
    assert (failed.type, failed.message, failed.stack_trace) == ("CardDeclined", "no money", "Tb")
    cancelled = outcome("cancelled", reason="no stock").to_error()
    assert isinstance(cancelled, asyncio.CancelledError)
    assert cancelled.reason == "no stock"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("result", "type_"), [(None, Any), (None, type(None)), ({"a": [1]}, dict[str, list[int]])])
def test_decoding_a_completed_run(result: object, type_: Any) -> None:
    encoded = None if result is None else encode("result", result)
    ended = decode_outcome(EncodedOutcome(run=run_info("R1", status="completed"), result=encoded), type_)
    assert ended.unwrap() == result


def test_a_result_of_another_type_says_whose_it_is() -> None:
    encoded = EncodedOutcome(run=run_info("R1", status="completed"), result=encode("result", "seven"))
    with pytest.raises(DecodeError, match=r"workflow 'order-1' \(run R1\) completed, but .* Expected `int`"):
        decode_outcome(encoded, int)


@pytest.mark.parametrize("status", ["failed", "paused", None])
def test_the_result_type_matters_to_completed_runs_alone(status: str | None) -> None:
    ended = decode_outcome(EncodedOutcome(run=run_info("R1", status=status), result=b"\x01", reason="why"), list[str])
    assert (ended.status, ended.result, ended.reason) == (status or "unknown", None, "why")
