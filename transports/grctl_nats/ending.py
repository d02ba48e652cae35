"""read_outcome: how a run ended, from what the stream holds."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from grctl_core.errors import DecodeError
from grctl_core.history import TERMINAL_KINDS, HistoryEvent
from grctl_core.outcome import EncodedOutcome, ErrorDetails
from grctl_core.run import RunInfo, RunStatus
from grctl_core.safe_text import one_line
from grctl_nats import subjects, wire
from grctl_nats.records import Record, Records

__all__ = ["TIMEOUT_REASON", "has_ended", "outcome_by_hint", "read_outcome"]

TIMEOUT_REASON = "workflow_timeout exceeded"
"""How the reason of a terminate begins by which a client upholds a workflow timeout: every process reads such an end
as a timeout."""

_TERMINAL_STATES = frozenset({"complete", "fail", "cancel", "terminate", "timeout"})
_STATES = frozenset({"start", "step", "wait"})
_LATE_EVENTS = 8
_BATCH_LENGTH = 16
"""Sequences before a terminal state record at which to look for the terminal event: they are in one batch."""
_PAGE = 256
_MOST_SAID = 500


class _Ending(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw(b"\xc0")
    error: ErrorDetails | None = None
    reason: str = ""


_decode_ending = msgspec.msgpack.Decoder(_Ending).decode


async def has_ended(records: Records, info: RunInfo, *, terminal_event: bool = False) -> bool:
    """Whether a run has ended, by its stored RunInfo record, and its state where that alone does not say it.

    A status that is not known is an end where the record says when it was. A record without a status can be a late
    duplicate of the start, which has replaced the one of the end (docs/protocol.md, section 8, 1).

    Args:
        records: the stream.
        info: the run's stored RunInfo record.
        terminal_event: whether the history has been seen to end.

    """
    if info.is_finished or info.completed_at is not None:
        return terminal_event or not await _goes_on(records, info)
    if info.status is not None:
        return False
    return await _terminal_state(records, info) is not None


async def _terminal_state(records: Records, info: RunInfo) -> Record | None:
    state = await records.last(subjects.run_state(info.ref))
    return state if state is not None and wire.decode_run_state(state.body).kind in _TERMINAL_STATES else None


async def _goes_on(records: Records, info: RunInfo) -> bool:
    """Whether the engine's own record says that a run goes on, whatever its RunInfo says: somebody else wrote that."""
    state = await records.last(subjects.run_state(info.ref))
    return state is not None and wire.decode_run_state(state.body).kind in _STATES


async def read_outcome(records: Records, info: RunInfo, seq: int) -> EncodedOutcome | None:
    """Return how a run ended, None if it has not.

    Args:
        records: the stream.
        info: the run's stored RunInfo record.
        seq: its stream sequence. The terminal history event is in the same atomic batch, right behind it.

    Raises:
        DecodeError: the records cannot be understood.
        ConnectionFailedError, DeliveryUnknownError: the broker could not be asked.

    """
    if info.status is not None:
        near = await _near(records, info, seq)
        if near is None and await _goes_on(records, info):
            return None
        return near or await _from_records(records, info)
    # The record was written after the end, and says nothing of it.
    state = await _terminal_state(records, info)
    if state is None:
        return None
    near = await _near(records, info, max(1, state.seq - _BATCH_LENGTH))
    return near or await _anywhere(records, info) or await _from_records(records, info)


async def _near(records: Records, info: RunInfo, seq: int) -> EncodedOutcome | None:
    """Look for the terminal event among the next few of the history, from a sequence on."""
    subject = subjects.history(info.ref)
    for _ in range(_LATE_EVENTS):
        record = await records.next(subject, seq)
        if record is None:
            break
        if (outcome := _of_event(info, record)) is not None:
            return outcome
        seq = record.seq + 1
    return None


async def _anywhere(records: Records, info: RunInfo) -> EncodedOutcome | None:
    """Look for the terminal event in all of the history, however long."""
    subject = subjects.history(info.ref)
    seq = 1
    while page := await records.page(subject, seq, _PAGE):
        for record in page:
            if (outcome := _of_event(info, record)) is not None:
                return outcome
        seq = page[-1].seq + 1
    return None


def outcome_by_hint(hint: RunInfo, record: Record) -> EncodedOutcome | None:
    """Return how a run ended by a stored event of its history, None where that is not the end that a hint was of.

    What is written of one end is one atomic batch, and bears one time (docs/protocol.md, section 3). So a hint and a
    stored event that agree on how the run ended, and when, are of one batch: that it was stored is all that a hint
    leaves open, and the record that it shows need not be read again.

    Args:
        hint: the RunInfo record that went by.
        record: the event.

    Raises:
        DecodeError: the event cannot be understood.

    """
    event = _decode(record)
    status = TERMINAL_KINDS.get(event.kind)
    if status is None or status is not hint.status or event.timestamp != hint.completed_at:
        return None
    return _from_event(hint, status, event.encoded) if _is_of(event, hint) else None


def _of_event(info: RunInfo, record: Record) -> EncodedOutcome | None:
    event = _decode(record)
    status = TERMINAL_KINDS.get(event.kind)
    return None if status is None or not _is_of(event, info) else _from_event(info, status, event.encoded)


def _decode(record: Record) -> HistoryEvent:
    try:
        return wire.decode_event(record.body, record.seq)
    except DecodeError as error:
        raise error.with_traceback(None) from None  # its frames hold what was to be decoded


def _is_of(event: HistoryEvent, info: RunInfo) -> bool:
    return event.run_id == info.id and event.wf_id == info.wf_id


def _from_event(info: RunInfo, status: RunStatus, encoded: bytes) -> EncodedOutcome:
    try:
        ending = _decode_ending(encoded)
    except wire.UNDECODABLE as error:
        del encoded  # no traceback is to show it
        said = one_line(str(error), _MOST_SAID)
        raise DecodeError(f"how run {info.id} of workflow {info.wf_id!r} ended cannot be decoded: {said}") from None
    if status is RunStatus.TERMINATED and ending.reason.startswith(TIMEOUT_REASON):
        status = RunStatus.TIMED_OUT
    result = bytes(ending.result) if status is RunStatus.COMPLETED else None
    return EncodedOutcome(run=replace(info, status=status), result=result, error=ending.error, reason=ending.reason)


async def _from_records(records: Records, info: RunInfo) -> EncodedOutcome:
    """Read an end of an unknown kind, or one whose event is gone, from the records beside the history."""
    output = error = None
    if info.status is RunStatus.COMPLETED:
        output = await records.last(subjects.output(info.ref))
    elif info.status is not RunStatus.CANCELLED and info.status is not RunStatus.TERMINATED:
        error = await records.last(subjects.error(info.ref))
    return EncodedOutcome(
        run=info,
        result=None if output is None else output.body,
        error=None if error is None else wire.decode_error(error.body),
    )
