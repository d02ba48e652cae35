"""Does the record of any run contradict its state (docs/protocol.md, section 8, 1 and 2)?"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta

from grctl.doctor.examination import Examination
from grctl.doctor.finding import Finding, failed, ok, warning
from grctl.doctor.patient import Contradiction, OpenRun, Patient
from grctl_core.errors import DecodeError
from grctl_core.run import RunFilter, RunInfo
from grctl_nats import subjects, wire
from grctl_nats.listing import list_runs

__all__ = ["check_runs"]

_SECONDS = 5.0
_PAGE = 256
_ENDED = frozenset({"complete", "fail", "cancel", "terminate", "timeout"})
_TO_BEGIN = timedelta(seconds=60)
"""How long a run may take to begin before it counts as one that never does. After a crash of the server 35 s were seen
(docs/protocol.md, section 8, 11)."""
_SHOWN = 5


async def check_runs(examination: Examination) -> AsyncIterator[Finding]:
    """Compare the record of each run that goes on with its state."""
    patient = examination.patient
    seen = 0
    going_on: list[RunInfo] = []
    unreadable: DecodeError | None = None
    try:
        async for info in list_runs(patient.linked, RunFilter(), _SECONDS):
            seen += 1
            if not info.is_finished and info.completed_at is None:
                going_on.append(info)
    except DecodeError as error:  # it comes after all records that can be read
        unreadable = error
    for page in _pages(going_on):
        await _look(patient, page)
    now = patient.now or datetime.now(UTC)
    never = [run.info for run in patient.open_runs if run.state is None and now - run.info.created_at > _TO_BEGIN]
    if patient.contradictions:
        runs = [contradiction.info for contradiction in patient.contradictions]
        yield failed(
            "runs",
            f"{_counted(runs)} ended by the server's state, and not by the record that clients see: no new run of the "
            f"id can start, and nothing sent to it has any effect: {_names(runs)}",
            "'grctl-client doctor --repair' writes the record of the end back, and nothing else",
            runs=[{"workflow_id": run.wf_id, "run_id": run.id} for run in runs],
        )
    if never:
        yield warning(
            "runs",
            f"{_counted(never)} recorded and never began: {_names(never)}. The id takes no other start",
            "start it with another workflow id. Do not send, cancel or terminate: such commands are repeated for ever",
            runs=[{"workflow_id": run.wf_id, "run_id": run.id} for run in never],
        )
    if unreadable is not None:
        yield warning(
            "runs",
            str(unreadable),
            "nothing here can mend them: a newer server may have written them, then update this client; or something "
            "else writes to these subjects",
        )
    if not patient.contradictions and not never and unreadable is None:
        open_now = len(patient.open_runs)
        yield ok("runs", f"{seen:,} runs, {open_now:,} of them go on; no record contradicts its state", runs=seen)


async def _look(patient: Patient, runs: list[RunInfo]) -> None:
    """Sort out which of these runs go on, and which only seem to.

    The state is read after the record, and the record once more after that: both are written in one batch, so what
    still differs then is no run that was ending just now.
    """
    records = patient.records()
    states = {}
    for record in await records.last_of_each([subjects.run_state(run.ref) for run in runs]):
        try:
            state = wire.decode_run_state(record.body)
        except DecodeError:
            continue  # a newer server's; what it means we cannot know
        states[record.subject] = state
    suspects = {}
    for run in runs:
        found = states.get(subjects.run_state(run.ref))
        if found is not None and found.kind in _ENDED:
            suspects[subjects.run_info(run.ref)] = found.kind
        else:
            since = run.created_at if found is None else found.entered_at
            patient.open_runs.append(OpenRun(run, None if found is None else found.kind, since))
    for record in await records.last_of_each([*suspects]):
        info = wire.decode_run_info(record.body)
        if not info.is_finished and info.completed_at is None:
            patient.contradictions.append(Contradiction(info, record.seq, suspects[record.subject]))


def _pages(runs: Iterable[RunInfo]) -> Iterable[list[RunInfo]]:
    rest = iter(runs)
    return iter(lambda: [*itertools.islice(rest, _PAGE)], [])


def _counted(runs: list[RunInfo]) -> str:
    return "1 run is" if len(runs) == 1 else f"{len(runs)} runs are"


def _names(runs: list[RunInfo]) -> str:
    more = f" and {len(runs) - _SHOWN} more" if len(runs) > _SHOWN else ""
    return ", ".join(f"{run.wf_id} ({run.id})" for run in runs[:_SHOWN]) + more
