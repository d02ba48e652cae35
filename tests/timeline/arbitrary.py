"""Any list of events: what a server may send, and what it never would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from grctl_core.codec import encode
from grctl_core.history import HistoryEvent
from grctl_core.run import RunInfo, RunStatus

KINDS = [
    *("run.scheduled", "run.started", "run.completed", "run.failed", "run.cancel_received", "run.cancelled"),
    *("run.terminated", "run.timeout", "wait.started", "wait.timed_out", "event.received"),
    *("step.started", "step.completed", "step.failed", "step.cancelled", "step.timeout"),
    *("task.started", "task.completed", "task.failed", "task.attempt_failed", "task.cancelled"),
    *("timestamp.recorded", "random.recorded", "uuid.recorded", "sleep.recorded", "child.started"),
    *("parent.event_sent", "run.paused", ""),
]
NASTY = [
    "\x1b[31mred\x1b[0m",
    "[bold]x[/bold]",
    "[/]",
    "<b>&]]>\"'",
    "\u202egnp",
    "日本語のステップ",
    "e\u0301",
    "\ufffe",
    "\n\t\x00",
]
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = st.sampled_from(["start", "charge", "ship", *NASTY]) | _texts
_anything = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | _texts | st.lists(names, max_size=2)
)
_counts = st.integers(0, 10) | st.integers(0, 10**12) | _anything
_errors = st.fixed_dictionaries({}, optional={"type": names, "message": names | _anything}) | _anything
_bodies = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(["step_name", "task_name", "event_name", "timeout_step_name", "wf_type"], names | _anything),
        "task_id": st.sampled_from(["t:1", "t:2", "t:3"]) | _anything,
        **dict.fromkeys(["duration_ms", "timeout_ms", "next_retry_delay_ms", "attempt", "max_attempts"], _counts),
        "error": _errors,
        "reason": names | _anything,
    },
)
_START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
_near = st.floats(-0.5, 20) | st.sampled_from([0.0, 1.0, 86_400.0, 30 * 86_400.0])
times = _near.map(lambda seconds: _START + timedelta(seconds=seconds)) | st.datetimes(
    timezones=st.just(UTC) | st.none()
)


def _events(kinds, at, bodies, count):
    event = st.builds(
        HistoryEvent,
        seq=st.integers(0, 200),
        kind=kinds,
        timestamp=at,
        wf_id=st.just("w"),
        run_id=st.just("r"),
        worker_id=names,
        operation_id=st.none() | names,
        encoded=bodies,
    )
    return st.lists(event, min_size=count, max_size=20)


_likely_bodies = st.fixed_dictionaries(
    {
        "step_name": st.sampled_from(["start", "charge"]),
        "event_name": st.sampled_from(["approve", "start"]),
        "task_id": st.sampled_from(["t:1", "t:2"]),
        "task_name": st.sampled_from(["load", "pay"]),
        "duration_ms": st.integers(0, 5_000),
        "next_retry_delay_ms": st.integers(0, 5_000),
        "error": st.just({"type": "E", "message": "m"}),
    }
)
_likely_kinds = st.sampled_from(
    [
        *("run.started", "run.completed", "wait.started", "event.received", "step.started", "step.completed"),
        *("sleep.recorded", "task.started", "task.completed", "task.failed", "task.started", "task.failed"),
        *("task.attempt_failed",) * 4,
    ]
)
events = _events(
    st.sampled_from(KINDS) | _texts, times, _bodies.map(lambda body: encode("body", body)) | st.binary(max_size=3), 0
) | _events(
    _likely_kinds,
    _near.map(lambda seconds: _START + timedelta(seconds=seconds)),
    _likely_bodies.map(lambda body: encode("body", body)),
    5,
)
"""Half of them hold anything; the other half hold what fits together, so that tasks get attempts and rows fill."""
run_infos = st.builds(
    RunInfo,
    id=names,
    wf_id=names,
    wf_type=names,
    created_at=times,
    status=st.none() | st.sampled_from(RunStatus) | names.map(RunStatus),
    started_at=st.none() | times,
    completed_at=st.none() | times,
)
