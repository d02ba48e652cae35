"""Calls: one frozen object for each operation by the user, on its way through the layers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, TypeAlias

import msgspec

from grctl_core.protocols import OnConflict
from grctl_core.run import RunRef
from grctl_core.run_end import RunEnd

__all__ = [
    "Call",
    "CancelCall",
    "DescribeCall",
    "QueryCall",
    "ResultCall",
    "SendCall",
    "StartCall",
    "TerminateCall",
]


class _BaseCall(msgspec.Struct, frozen=True, kw_only=True):
    """What all calls have.

    Attributes:
        run: the run that it is for; of a start, the run that it would make.
    """

    run: RunRef


class _Call(_BaseCall, frozen=True, kw_only=True):
    """What all calls have that send commands.

    Attributes:
        request_timeout: seconds that one attempt may take.
    """

    request_timeout: float


class StartCall(_Call, frozen=True, kw_only=True):
    """Start a run. ``workflow_input`` is the value, not yet encoded."""

    operation: ClassVar[str] = "start"
    workflow_type: str
    workflow_input: object = None
    workflow_timeout: timedelta | None = None
    on_conflict: OnConflict = "raise"


class SendCall(_Call, frozen=True, kw_only=True):
    """Send an event. ``payload`` is the value, not yet encoded."""

    operation: ClassVar[str] = "send"
    event_name: str
    payload: object = None
    check_event: bool = True
    idempotent: bool = False


class CancelCall(_Call, frozen=True, kw_only=True):
    """Cancel a run."""

    operation: ClassVar[str] = "cancel"
    reason: str = ""


class TerminateCall(_Call, frozen=True, kw_only=True):
    """Terminate a run."""

    operation: ClassVar[str] = "terminate"
    reason: str = ""


class DescribeCall(_Call, frozen=True, kw_only=True):
    """Ask for a run's record; of the latest run of the id where ``run.run_id`` is empty."""

    operation: ClassVar[str] = "describe"


class QueryCall(_Call, frozen=True, kw_only=True):
    """Ask a query handler. ``arguments`` are values, not yet encoded."""

    operation: ClassVar[str] = "query"
    query_name: str
    arguments: dict[str, Any]


class ResultCall(_BaseCall, frozen=True, kw_only=True):
    """Wait for a run's end. ``end`` is where the handle keeps it."""

    operation: ClassVar[str] = "result"
    end: RunEnd


Call: TypeAlias = StartCall | SendCall | CancelCall | TerminateCall | DescribeCall | QueryCall | ResultCall
