"""State: where one run stands. Only the state machine changes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum

import msgspec

from grctl_engine.directive import Wait
from grctl_engine.effects import Step

__all__ = ["START_STEP", "RunState", "StateKind"]

START_STEP = "start"
"""Name of the step that a run begins with (docs/protocol.md, section 6)."""


class StateKind(Enum):
    """The states of a run (docs/protocol.md, sections 5 and 6); from ``COMPLETE`` on it has ended."""

    START = "start"
    STEP = "step"
    WAIT = "wait"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"
    TERMINATE = "terminate"
    TIMEOUT = "timeout"


class RunState(msgspec.Struct, kw_only=True, eq=False):
    """Where a run stands.

    Attributes:
        accepted_at: when the start was accepted; the workflow timeout counts from here.
        timeout: the workflow timeout, None for no limit.
        step_timeouts: the steps that have a handler, each with how long it may run.
        kind: the state.
        entered_at: when it was entered.
        started_at: when the start step was taken. Durations of the run count from here, as the server's do.
        step: the step under way, None while waiting.
        wait: the wait under way, None otherwise.
        inbox: events that wait for their turn, oldest first; None for none, as an empty deque takes 600 bytes.
        cancel_reason: why the run is to be cancelled after its step; None when it is not.
        dispatched: how many steps have been dispatched.
    """

    accepted_at: datetime
    timeout: timedelta | None
    step_timeouts: Mapping[str, timedelta]
    kind: StateKind = StateKind.START
    entered_at: datetime
    started_at: datetime | None = None
    step: Step | None = None
    wait: Wait | None = None
    inbox: deque[tuple[str, bytes | None]] | None = None
    cancel_reason: str | None = None
    dispatched: int = 0
