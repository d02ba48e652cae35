"""grctl_core.wire: what a reply without success means."""

from __future__ import annotations

import pytest

from grctl_core.commands import Reply
from grctl_core.errors import (
    DeliveryUnknownError,
    GrctlError,
    ServerError,
    WorkflowAlreadyRunningError,
    WorkflowFinishedError,
    WorkflowNotFoundError,
    WorkflowTypeNotRegisteredError,
)
from grctl_core.run import RunRef
from grctl_core.wire import refusal

from .scripted import OTHER_RUN, already_running, refused

RUN = RunRef("order-1", "R1", "Order")


@pytest.mark.parametrize(
    ("code", "changing", "reading", "says"),
    [
        (4001, WorkflowAlreadyRunningError, WorkflowAlreadyRunningError, "has an active run already"),
        (4002, WorkflowNotFoundError, WorkflowNotFoundError, "is not known"),
        (4003, WorkflowFinishedError, WorkflowFinishedError, "has ended"),
        (4004, WorkflowTypeNotRegisteredError, WorkflowTypeNotRegisteredError, "workflow type 'Order'"),
        (4000, ServerError, ServerError, "with code 4000: boom (its words)"),
        (4005, ServerError, ServerError, "with code 4005: boom (its words)"),
        (4999, ServerError, ServerError, "with code 4999: boom (its words)"),
        (5000, DeliveryUnknownError, ServerError, "boom (its words)"),
        (0, DeliveryUnknownError, ServerError, "boom (its words)"),
    ],
)
def test_each_code(code: int, changing: type[GrctlError], reading: type[GrctlError], says: str) -> None:
    reply = refused(code, "its words", "boom")
    for changes_state, expected in ((True, changing), (False, reading)):
        error = refusal(reply, "start", RUN, changes_state=changes_state)
        assert type(error) is expected
        assert says in str(error)
        if isinstance(error, DeliveryUnknownError):
            assert (error.operation, error.run, error.link) == ("start", RUN, reply.link)
            assert isinstance(error.__cause__, ServerError)
            assert error.__cause__.code == code
        else:
            assert error.code == code  # type: ignore[attr-defined]
            assert "its words" in error.detail  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("detail", "run_id"),
    [
        (f"workflow already has an active run: {OTHER_RUN}", OTHER_RUN),
        (OTHER_RUN, OTHER_RUN),
        ("", None),
        ("already active", None),
    ],
)
def test_the_active_run_is_read_from_the_detail(detail: str, run_id: str | None) -> None:
    error = refusal(refused(4001, detail), "start", RUN)
    assert isinstance(error, WorkflowAlreadyRunningError)
    assert error.run_id == run_id
    assert ("None" in str(error)) is False


def test_a_reply_that_says_nothing_is_an_internal_error() -> None:
    assert isinstance(refusal(Reply(success=False), "send", RUN), DeliveryUnknownError)
    assert "without saying why" in str(refusal(Reply(success=False), "describe", RUN, changes_state=False))


def test_the_scripted_refusal_is_the_servers() -> None:
    reply = already_running(OTHER_RUN)
    assert reply.error is not None
    assert reply.error.detail.endswith(OTHER_RUN)
