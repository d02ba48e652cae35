"""Wire: commands, replies, history events and records as bytes, both ways (docs/protocol.md, sections 2 to 5).

The client writes commands and reads the rest; the development server does the reverse.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from grctl_core.commands import (
    CancelCommand,
    Command,
    DescribeCommand,
    ErrorCode,
    EventCommand,
    QueryCommand,
    Reply,
    ReplyError,
    StartCommand,
    TerminateCommand,
)
from grctl_core.errors import DecodeError, UnsupportedOperationError
from grctl_core.history import HistoryEvent
from grctl_core.outcome import ErrorDetails
from grctl_core.run import RunInfo, RunRef, RunStatus
from grctl_core.safe_text import one_line
from grctl_core.workflow_type import TypeInfo
from grctl_nats.subjects import is_token

__all__ = [
    "UNDECODABLE",
    "RunState",
    "decode_command",
    "decode_error",
    "decode_event",
    "decode_reply",
    "decode_run_info",
    "decode_run_state",
    "decode_type_info",
    "encode_command",
    "encode_error",
    "encode_event",
    "encode_reply",
    "encode_run_info",
    "encode_run_state",
    "encode_type_info",
]

_NIL = b"\xc0"
_ABSENT = msgspec.Raw()
"""Instead of None, which a field of Raw cannot be. One object: omitting defaults compares identities."""

_SECONDS_BELOW = 1_000_000
"""A timeout below this was written in seconds by mistake: as nanoseconds it would be under a millisecond."""

_LONGEST_NAME = 3_500
"""Bytes of a run's ids and type together. More would not go into a subject: the broker ends connections over that."""

UNDECODABLE = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
"""What msgspec raises, whatever the bytes: also for text that is not UTF-8, times out of range, a thousand levels."""

_MOST_SAID = 500
"""Characters of the decoder's words: a path into a thousand levels is long."""

T = TypeVar("T")


class _Envelope(msgspec.Struct):
    id: str
    k: str
    m: bytes
    t: datetime
    s: str = ""


class _RunInfo(msgspec.Struct, omit_defaults=True):
    id: str
    wf_id: str
    wf_type: str
    created_at: datetime
    status: str | None = None
    worker_name: str | None = None
    parent_wf_id: str | None = None
    parent_wf_type: str | None = None
    parent_run_id: str | None = None
    parent_callback_step: str | None = None
    timeout: int | None = None
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    history_seq_id: int | None = None


class _Start(msgspec.Struct):
    run_info: _RunInfo
    input: msgspec.Raw = msgspec.Raw(_NIL)


class _Event(msgspec.Struct):
    wf_id: str
    event_name: str
    payload: msgspec.Raw = msgspec.Raw(_NIL)


class _End(msgspec.Struct):
    wf_id: str
    reason: str | None = None


class _Describe(msgspec.Struct):
    wf_id: str


class _Error(msgspec.Struct, omit_defaults=True):
    code: int
    message: str = ""
    detail: str = ""


class _Reply(msgspec.Struct, omit_defaults=True):
    success: bool
    payload: msgspec.Raw = _ABSENT
    error: _Error | None = None


class _HistoryEvent(msgspec.Struct, omit_defaults=True):
    w: str
    r: str
    wo: str
    ts: datetime
    k: str
    m: bytes
    o: str | None = None


class _ErrorRecord(msgspec.Struct):
    message: str = ""
    stack_trace: str = ""
    type: str = ""


class _EventDefinition(msgspec.Struct):
    name: str
    timeout_ms: int = 0


class _TypeDefinition(msgspec.Struct):
    type: str
    start_step: str = "start"
    steps: list[str] = []
    events: list[_EventDefinition] = []
    queries: list[str] = []
    start_step_timeout_ms: int = 0
    worker_id: str = ""
    registered_at: datetime | None = None


class RunState(msgspec.Struct, omit_defaults=True):
    """The engine's own state record of a run.

    Attributes:
        kind: start, step, wait; complete, fail, cancel, terminate once it has ended.
        last_event_seq_id: stream sequence of the last event that the run has taken in, 0 for none.
    """

    wf_id: str
    run_id: str
    kind: str
    entered_at: datetime
    started_at: datetime | None = None
    last_event_seq_id: int | None = None
    worker_id: str | None = None
    active_directive_id: str | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode_map = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {
    type_: msgspec.msgpack.Decoder(type_)
    for type_ in (
        _Envelope,
        _Start,
        _Event,
        _End,
        _Describe,
        _Reply,
        _RunInfo,
        _HistoryEvent,
        _ErrorRecord,
        _TypeDefinition,
        RunState,
    )
}


def _decode(what: str, body: bytes, type_: type[T]) -> T:
    try:
        decoded: T = _decoders[type_].decode(body)
    except UNDECODABLE as error:
        raise _undecodable(what, error) from error
    return decoded


def _undecodable(what: str, error: Exception) -> DecodeError:
    return DecodeError(f"{what} that came from the server cannot be decoded: {one_line(str(error), _MOST_SAID)}")


def encode_command(command: Command, sender: str) -> bytes:
    """Encode a command.

    Args:
        command: the command; the values in it are encoded already.
        sender: who sends it, not empty.

    Raises:
        UnsupportedOperationError: the protocol has no such command.

    """
    inner: _Start | _Event | _End | _Describe
    match command:
        case StartCommand():
            inner = _Start(_to_wire(command.run), _raw(command.input))
        case EventCommand():
            inner = _Event(command.wf_id, command.event_name, _raw(command.payload))
        case CancelCommand() | TerminateCommand():
            inner = _End(command.wf_id, command.reason)
        case DescribeCommand():
            inner = _Describe(command.wf_id)
        case QueryCommand():
            raise UnsupportedOperationError("a Ground Control server answers no queries")
    return _encode(_Envelope(command.id, command.kind, _encode(inner), command.created_at, sender))


def decode_command(body: bytes) -> Command:
    """Decode a command, as a server does.

    Raises:
        DecodeError: it is no command.

    """
    envelope = _decode("a command", body, _Envelope)
    id_, made_at, inner = envelope.id, envelope.t, envelope.m
    match envelope.k:
        case StartCommand.kind:
            start = _decode("a start", inner, _Start)
            run = _from_wire(start.run_info)
            return StartCommand(wf_id=run.wf_id, run=run, input=_bytes(start.input), id=id_, created_at=made_at)
        case EventCommand.kind:
            event = _decode("an event", inner, _Event)
            return EventCommand(
                wf_id=event.wf_id,
                event_name=event.event_name,
                payload=_bytes(event.payload),
                id=id_,
                created_at=made_at,
            )
        case CancelCommand.kind:
            end = _decode("a cancel", inner, _End)
            return CancelCommand(wf_id=end.wf_id, reason=end.reason or "", id=id_, created_at=made_at)
        case TerminateCommand.kind:
            end = _decode("a terminate", inner, _End)
            return TerminateCommand(wf_id=end.wf_id, reason=end.reason or "", id=id_, created_at=made_at)
        case DescribeCommand.kind:
            return DescribeCommand(wf_id=_decode("a describe", inner, _Describe).wf_id, id=id_, created_at=made_at)
    raise DecodeError(f"unknown command kind: {one_line(envelope.k, _MOST_SAID)}")


def encode_reply(reply: Reply) -> bytes:
    """Encode a reply, as a server does."""
    error = None if reply.error is None else _Error(reply.error.code, reply.error.message, reply.error.detail)
    payload = _ABSENT if reply.run is None else msgspec.Raw(encode_run_info(reply.run))
    return _encode(_Reply(reply.success, payload, error))


def decode_reply(body: bytes, command: Command, link: int) -> Reply:
    """Decode the reply to a command.

    Args:
        body: what came.
        command: what it answers.
        link: number of the broker connection that it came over.

    Raises:
        DecodeError: it is no reply.

    """
    reply = _decode("a reply", body, _Reply)
    error = None
    if not reply.success:
        said = reply.error or _Error(ErrorCode.INTERNAL, "refused without a reason")
        error = ReplyError(said.code, said.message, said.detail)
    run = None
    if reply.success and reply.payload and type(command) is DescribeCommand:
        run = decode_run_info(bytes(reply.payload))
        if run.wf_id != command.wf_id:
            raise DecodeError(f"it is of a run of another workflow than {command.wf_id!r}")
    return Reply(success=reply.success, run=run, error=error, link=link)


def encode_run_info(run: RunInfo) -> bytes:
    """Encode a RunInfo record."""
    return _encode(_to_wire(run))


def decode_run_info(body: bytes, of: RunRef | None = None) -> RunInfo:
    """Decode a RunInfo record.

    Its ids lead to other records, so what could not stand in their subjects is refused here.

    Args:
        body: the record.
        of: the run whose record it should be; None where that is not known.

    Raises:
        DecodeError: it is none, or another run's.

    """
    run = _decode("a RunInfo", body, _RunInfo)
    if of is not None and (run.id != of.run_id or run.wf_id != of.wf_id or of.wf_type not in (None, run.wf_type)):
        raise DecodeError(f"the record of run {of.run_id} of workflow {of.wf_id!r} tells of another run")
    names = f"{run.id}{run.wf_id}{run.wf_type}"
    if not (run.id and run.wf_id and run.wf_type and is_token(names)) or len(names.encode()) > _LONGEST_NAME:
        raise DecodeError("a RunInfo that came from the server has an id or a type that cannot be one")
    return _from_wire(run)


def encode_event(event: HistoryEvent) -> bytes:
    """Encode a history event; its sequence is the stream's."""
    return _encode(
        _HistoryEvent(
            event.wf_id,
            event.run_id,
            event.worker_id,
            event.timestamp,
            event.kind,
            event.encoded,
            event.operation_id,
        )
    )


def decode_event(body: bytes, seq: int) -> HistoryEvent:
    """Decode a history event.

    Args:
        body: what is stored.
        seq: its stream sequence.

    Raises:
        DecodeError: it is none.

    """
    event = _decode("a history event", body, _HistoryEvent)
    extra: dict[str, Any] = {}
    if body[0] & 0xF0 != 0x80 or body[0] & 0x0F > 6 + (event.o is not None):  # a map of more keys than are known
        known = _HistoryEvent.__struct_fields__
        try:
            keys = _decode_map(body)
        except UNDECODABLE as error:  # in a key that is not known, which the decoder above passes over
            raise _undecodable("a history event", error) from error
        extra = {key: _unknown(value) for key, value in keys.items() if key not in known}
    return HistoryEvent(
        seq=seq,
        kind=event.k,
        timestamp=event.ts,
        wf_id=event.w,
        run_id=event.r,
        worker_id=event.wo,
        operation_id=event.o,
        encoded=event.m,
        extra=extra,
    )


def _unknown(value: msgspec.Raw) -> Any:
    """Decode a value of which nothing is known; bytes where that fails, as what is unknown does no harm."""
    try:
        return msgspec.msgpack.decode(value)
    except (*UNDECODABLE, TypeError):
        return bytes(value)


def encode_error(error: ErrorDetails) -> bytes:
    """Encode the error record of a failed run."""
    return _encode(_ErrorRecord(error.message, error.stack_trace, error.type))


def decode_error(body: bytes) -> ErrorDetails:
    """Decode the error record of a failed run.

    Raises:
        DecodeError: it is none.

    """
    error = _decode("an error record", body, _ErrorRecord)
    return ErrorDetails(error.type, error.message, error.stack_trace)


def encode_run_state(state: RunState) -> bytes:
    """Encode a state record."""
    return _encode(state)


def decode_run_state(body: bytes) -> RunState:
    """Decode a state record.

    Raises:
        DecodeError: it is none.

    """
    return _decode("a state record", body, RunState)


def encode_type_info(known: TypeInfo, *, worker_id: str, registered_at: datetime) -> bytes:
    """Encode the registered definition of a workflow type."""
    return _encode(
        _TypeDefinition(
            type=known.name,
            start_step=known.start_step,
            steps=list(known.steps),
            events=[_EventDefinition(name) for name in known.events],
            queries=list(known.queries),
            worker_id=worker_id,
            registered_at=registered_at,
        )
    )


def decode_type_info(body: bytes) -> TypeInfo:
    """Decode the registered definition of a workflow type.

    Raises:
        DecodeError: it is none.

    """
    known = _decode("a registered workflow type", body, _TypeDefinition)
    return TypeInfo(
        name=known.type,
        start_step=known.start_step,
        steps=tuple(known.steps),
        events=tuple(event.name for event in known.events),
        queries=tuple(known.queries),
    )


def _raw(encoded: bytes | None) -> msgspec.Raw:
    return msgspec.Raw(_NIL if encoded is None else encoded)


def _bytes(raw: msgspec.Raw) -> bytes | None:
    encoded = bytes(raw)
    return None if encoded == _NIL else encoded


def _to_wire(run: RunInfo) -> _RunInfo:
    timeout = None if run.timeout is None else run.timeout // timedelta(microseconds=1) * 1_000
    if timeout is not None and 0 < timeout < _SECONDS_BELOW:
        timeout = _SECONDS_BELOW  # a millisecond: anything shorter would be read as seconds
    return _RunInfo(
        run.id,
        run.wf_id,
        run.wf_type,
        run.created_at,
        status=None if run.status is None else run.status.value,
        worker_name=run.worker_name,
        parent_wf_id=run.parent_wf_id,
        parent_wf_type=run.parent_wf_type,
        parent_run_id=run.parent_run_id,
        parent_callback_step=run.parent_callback_step,
        timeout=timeout,
        scheduled_at=run.scheduled_at,
        started_at=run.started_at,
        completed_at=run.completed_at,
        history_seq_id=run.history_seq_id,
    )


def _from_wire(run: _RunInfo) -> RunInfo:
    return RunInfo(
        id=run.id,
        wf_id=run.wf_id,
        wf_type=run.wf_type,
        created_at=run.created_at,
        status=None if run.status is None else RunStatus(run.status),
        worker_name=run.worker_name,
        parent_wf_id=run.parent_wf_id,
        parent_wf_type=run.parent_wf_type,
        parent_run_id=run.parent_run_id,
        parent_callback_step=run.parent_callback_step,
        timeout=None if run.timeout is None or run.timeout <= 0 else _duration(run.timeout),
        scheduled_at=run.scheduled_at,
        started_at=run.started_at,
        completed_at=run.completed_at,
        history_seq_id=run.history_seq_id,
    )


def _duration(timeout: int) -> timedelta | None:
    try:
        return timedelta(seconds=timeout) if timeout < _SECONDS_BELOW else timedelta(microseconds=timeout // 1_000)
    except OverflowError:  # as good as none
        return None
