"""Does a worker seem to be alive?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from grctl.doctor.examination import Examination
from grctl.doctor.finding import Finding, ok, warning
from grctl.doctor.patient import OpenRun, Patient
from grctl_core.errors import DecodeError
from grctl_nats import subjects, wire

__all__ = ["check_workers"]

_TO_BE_TAKEN = timedelta(seconds=15)
"""How long a step may wait for a worker before that is worth a word."""
_MOST = 200
"""How many runs are looked at."""
_NOT_TAKEN = frozenset({"run.scheduled", "run.started", "step.completed", "event.received", "wait.timed_out"})
"""What the last event of a run is whose next step nobody has taken."""


async def check_workers(examination: Examination) -> AsyncIterator[Finding]:
    """Look for runs whose step nobody takes: workers leave no other sign of life in the records."""
    patient = examination.patient
    now = patient.now or datetime.now(UTC)
    due = [
        run
        for run in patient.open_runs
        if run.state in ("start", "step") and now - run.since > _TO_BE_TAKEN and _is_of(run, examination.workflow_type)
    ]
    waiting: dict[str, list[OpenRun]] = {}
    for run in due[:_MOST]:
        if await _is_not_taken(patient, run):
            waiting.setdefault(run.info.wf_type, []).append(run)
    for name, runs in sorted(waiting.items()):
        seconds = (now - min(run.since for run in runs)).total_seconds()
        yield warning(
            "workers",
            f"no worker for {name!r} seems to be alive: {len(runs)} of its runs wait for one, the longest for "
            f"{seconds:,.0f} s",
            "start a worker that has this type; if one runs, restart it: it may have lost the server",
            workflow_type=name,
            waiting=len(runs),
            seconds=round(seconds),
        )
    if not waiting:
        yield ok("workers", "no run waits for a worker")


def _is_of(run: OpenRun, workflow_type: str | None) -> bool:
    return workflow_type is None or run.info.wf_type == workflow_type


async def _is_not_taken(patient: Patient, run: OpenRun) -> bool:
    last = await patient.records().last(subjects.history(run.info.ref))
    if last is None:
        return True
    try:
        return wire.decode_event(last.body, last.seq).kind in _NOT_TAKEN
    except DecodeError:
        return False
