"""What a timeline is made of: spans that take time, marks that take none, and the run that they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from grctl_core.outcome import ErrorDetails

__all__ = ["Attempt", "Mark", "MarkKind", "Span", "SpanKind", "SpanStatus"]


class SpanKind(StrEnum):
    """What takes time."""

    RUN = "run"
    STEP = "step"
    TASK = "task"
    WAIT = "wait"
    SLEEP = "sleep"
    QUEUE = "queue"
    """Nothing is on: a worker is to take the next step."""


class SpanStatus(StrEnum):
    """How a span ended."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    ABANDONED = "abandoned"
    """The history has no end of it: the run ended, or a worker took the step again."""


class MarkKind(StrEnum):
    """What happens at one moment."""

    EVENT = "event"
    CHILD = "child"
    SENT = "sent"
    """An event that this run sent to its parent."""
    CANCEL = "cancel"
    """The server was asked to cancel, and the run goes on until its step has ended."""
    RECORDED = "recorded"
    """A value that a replay gets again: the time, a random number, a UUID."""
    OTHER = "other"
    """A kind of event that this version does not know, or that stands where it means nothing."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt of a task.

    Attributes:
        number: 1 for the first.
        start: when it began; from the second on when the pause after the one before was to end.
        end: when it ended, None while it runs.
        status: how it ended.
        error: why it failed.
        of: how many attempts the task may take, None where that is not known.
        retry_after: the pause that was to follow, None where none was.
    """

    number: int
    start: datetime
    end: datetime | None = None
    status: SpanStatus = SpanStatus.RUNNING
    error: ErrorDetails | None = None
    of: int | None = None
    retry_after: timedelta | None = None


@dataclass(kw_only=True)
class Span:
    """Something that took time, or still does.

    Attributes:
        kind: what it is.
        name: of a step, a task, or the step that a wait's timeout leads to; as the history has it, so not safe to
            print.
        start: when it began.
        end: when it ended, None while it goes on. Never before ``start``.
        status: how it ended.
        step: name of the step that a task or a sleep was in, None for what is in none.
        error: why it failed.
        detail: more about it, such as a reason; empty where there is none.
        attempts: of a task, each one; empty for all else.
        seq: place in the history of the event that began it.
        worker_id: who did it, empty where nobody is named.
    """

    kind: SpanKind
    name: str
    start: datetime
    end: datetime | None = None
    status: SpanStatus = SpanStatus.RUNNING
    step: str | None = None
    error: ErrorDetails | None = None
    detail: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    seq: int = 0
    worker_id: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.end is None


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened at one moment.

    Attributes:
        kind: what it is.
        name: of an event, a child's type, or the history's kind; as the history has it, not made safe to print.
        at: when.
        step: name of the step that it was in, None for what is in none.
        detail: more about it, empty where there is none.
        seq: its place in the history.
    """

    kind: MarkKind
    name: str
    at: datetime
    step: str | None = None
    detail: str = ""
    seq: int = 0
