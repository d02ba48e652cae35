"""History: what happened in a run, one event after the other."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from grctl_core.codec import decode
from grctl_core.errors import DecodeError
from grctl_core.run import RunStatus

__all__ = ["TERMINAL_KINDS", "HistoryEvent"]

TERMINAL_KINDS = {
    "run.completed": RunStatus.COMPLETED,
    "run.failed": RunStatus.FAILED,
    "run.cancelled": RunStatus.CANCELLED,
    "run.terminated": RunStatus.TERMINATED,
    "run.timeout": RunStatus.TIMED_OUT,
}
"""The kinds that end a run, each with the status that it leaves. Such an event need not be the last of its run."""


class HistoryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a run's history (docs/protocol.md, "History"). Unknown kinds and keys are kept as they came.

    Attributes:
        seq: its place in the history; rises, with gaps.
        kind: what happened, such as ``"step.started"``.
        timestamp: when, by the clock of the one who wrote it.
        wf_id: the workflow id.
        run_id: the run id.
        worker_id: the worker that wrote it, empty where the server did.
        operation_id: names what a worker did, such as one task; None for most kinds.
        encoded: the event's own map, still encoded.
        extra: keys of the event beside its map that this version does not know.
    """

    seq: int
    kind: str
    timestamp: datetime
    wf_id: str
    run_id: str
    worker_id: str = ""
    operation_id: str | None = None
    encoded: bytes = b"\x80"
    extra: dict[str, Any] = {}

    def __repr__(self) -> str:
        """Show what happened and to which run, never a payload."""
        return f"<HistoryEvent {self.seq} {self.kind!r} of run {self.run_id!r} of workflow {self.wf_id!r}>"

    @property
    def data(self) -> dict[str, Any]:
        """The event's own map, decoded: the keys depend on the kind. Decoded again at each look.

        Raises:
            DecodeError: it is no map.

        """
        data = decode(self.encoded)
        if not isinstance(data, dict):
            raise DecodeError(f"event {self.seq} ({self.kind}) of run {self.run_id} holds no map")
        return data

    @property
    def is_terminal(self) -> bool:
        """Whether this event ended the run."""
        return self.kind in TERMINAL_KINDS
