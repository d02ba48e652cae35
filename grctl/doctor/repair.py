"""repair: writes the record of a run's end back where a late duplicate of its start has replaced it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime

from msgspec.structs import replace

from grctl.doctor.finding import Finding, failed, ok
from grctl.doctor.patient import Contradiction, Patient
from grctl_core.errors import AccessDeniedError, DecodeError, GrctlError
from grctl_core.history import TERMINAL_KINDS
from grctl_core.run import RunInfo
from grctl_nats import subjects, wire
from grctl_nats.records import Records

__all__ = ["repair"]

_SECONDS = 5.0
_PAGE = 256


async def repair(patient: Patient) -> AsyncIterator[Finding]:
    """Write back the record of each run that has ended by its state alone; nothing else is touched.

    The record is written only if it is still the one that was found: whoever writes meanwhile wins.
    """
    for contradiction in patient.contradictions:
        info = contradiction.info
        name = f"{info.wf_id} ({info.id})"
        try:
            ended = await _find_end(patient.records(), contradiction)
            if ended is None:
                mend = "nothing was changed. Look at the history: nats stream get grctl_state"
                yield failed("repair", f"{name}: neither an older record nor its history says how it ended", mend)
                continue
            await _write(patient, contradiction, ended)
        except AccessDeniedError:
            subject = subjects.run_info(info.ref)
            yield failed("repair", f"{name}: the broker refuses to write", f'permit it: publish: ["{subject}"]')
        except GrctlError as error:
            yield failed("repair", f"{name}: {error}", "look again: run doctor once more")
        else:
            yield ok("repair", f"{name}: the record says {ended.status} again", workflow_id=info.wf_id, run_id=info.id)


async def _find_end(records: Records, contradiction: Contradiction) -> RunInfo | None:
    """Return the record as it was at the end: from the stream if it has it still, else made from the history."""
    info = contradiction.info
    older = await _older_record(records, contradiction)
    if older is not None:
        return older
    started: datetime | None = None
    seq = 1
    while page := await records.page(subjects.history(info.ref), seq, _PAGE):
        for record in page:
            event = wire.decode_event(record.body, record.seq)
            if event.kind == "run.started" and started is None:
                started = event.timestamp
            if event.kind in TERMINAL_KINDS:
                status = TERMINAL_KINDS[event.kind]
                return replace(info, status=status, started_at=started, completed_at=event.timestamp)
        seq = page[-1].seq + 1
    return None


async def _older_record(records: Records, contradiction: Contradiction) -> RunInfo | None:
    found: RunInfo | None = None
    seq = 1
    while page := await records.page(subjects.run_info(contradiction.info.ref), seq, _PAGE):
        for record in page:
            older = wire.decode_run_info(record.body)
            if older.is_finished:
                found = older
        seq = page[-1].seq + 1
    return found


async def _write(patient: Patient, contradiction: Contradiction, ended: RunInfo) -> None:
    headers = {"Nats-Expected-Last-Subject-Sequence": str(contradiction.seq)}
    subject = subjects.run_info(contradiction.info.ref)
    answer = await patient.linked().request(subject, wire.encode_run_info(ended), headers, _SECONDS)
    try:
        trouble = json.loads(answer.data).get("error")
    except (ValueError, AttributeError) as error:
        raise DecodeError(f"the broker's answer cannot be decoded: {error!r}") from error
    if trouble is not None:
        raise DecodeError(f"the broker has not stored it: {trouble.get('description')}")
