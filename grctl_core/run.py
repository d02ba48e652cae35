"""A run: one execution of a workflow, with an id of its own."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

import msgspec

__all__ = ["RunFilter", "RunInfo", "RunRef", "RunStatus"]


class RunStatus(StrEnum):
    """Where a run stands. A status that a newer server sends is kept as it is: ``RunStatus("paused").value``."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    TERMINATED = "terminated"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = value
        member._value_ = value
        return member

    @property
    def is_terminal(self) -> bool:
        """Whether a run with this status has ended. An unknown status counts as going on."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.TIMED_OUT, RunStatus.TERMINATED}
)


class RunRef(msgspec.Struct, gc=False, frozen=True):
    """Names one run.

    Attributes:
        wf_id: the workflow id, chosen by the caller.
        run_id: the run's own id, a ULID.
        wf_type: the workflow type, None where it is not known.
    """

    wf_id: str
    run_id: str
    wf_type: str | None = None


class RunInfo(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """What is known of a run at one moment (docs/protocol.md, "RunInfo"). It does not follow the run: ask again.

    Attributes:
        id: the run id, a ULID.
        wf_id: the workflow id.
        wf_type: the workflow type.
        status: where the run stands; None while no server has said.
        timeout: the run's ``workflow_timeout``; None for no limit.
        created_at: when the client made the start, by the client's clock. The other times are the server's.
        started_at: when a worker took the first step.
        completed_at: when the run ended, however it ended.
    """

    id: str
    wf_id: str
    wf_type: str
    created_at: datetime
    status: RunStatus | None = None
    worker_name: str | None = None
    parent_wf_id: str | None = None
    parent_wf_type: str | None = None
    parent_run_id: str | None = None
    parent_callback_step: str | None = None
    timeout: timedelta | None = None
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    history_seq_id: int | None = None

    @property
    def ref(self) -> RunRef:
        """The run's name."""
        return RunRef(self.wf_id, self.id, self.wf_type)

    @property
    def is_finished(self) -> bool:
        """Whether the run had ended."""
        return self.status is not None and self.status.is_terminal


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list; what is None does not restrict.

    Attributes:
        workflow_type: runs of this type.
        status: runs with this status.
        workflow_id_prefix: runs whose workflow id begins so.
        created_after: runs created at this time or later (aware).
        created_before: runs created before this time (aware).
    """

    workflow_type: str | None = None
    status: RunStatus | None = None
    workflow_id_prefix: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    def admits(self, run: RunInfo) -> bool:
        """Whether the run is one of those asked for."""
        return (
            (self.workflow_type is None or run.wf_type == self.workflow_type)
            and (self.status is None or run.status == self.status)
            and (self.workflow_id_prefix is None or run.wf_id.startswith(self.workflow_id_prefix))
            and (self.created_after is None or run.created_at >= self.created_after)
            and (self.created_before is None or run.created_at < self.created_before)
        )
