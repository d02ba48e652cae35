"""Journal: turns what the engine does into changes of the stream (docs/protocol.md, sections 3 to 6)."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from grctl.dev_server.change import Change, Message, join
from grctl.dev_server.limits import fit
from grctl_core.history import HistoryEvent
from grctl_core.outcome import EncodedOutcome, ErrorDetails
from grctl_core.run import RunInfo, RunRef, RunStatus
from grctl_engine.effects import Effect, End, StoreUpdates
from grctl_engine.inputs import Event, Input, Start, StepTaken
from grctl_engine.run import Entry, Run
from grctl_engine.state import RunState
from grctl_nats import subjects, wire

__all__ = ["Journal", "event_message", "history_message"]

_KEPT = 10_000
"""Of how many ended runs is still known what their record says beyond what the engine knows."""

_encode = msgspec.msgpack.Encoder().encode


class _Note(msgspec.Struct, eq=False):
    """What is known of a run beside what the engine knows.

    Attributes:
        accepted_at: when its start was accepted.
        events: the messages of the events that wait in its inbox.
        taken: the message of the event that it took in last.
        had_events: whether it got any.
        task: the message of the step that is out.
        reported: the record that was written when a step was last begun. Its sequence is the run's history_seq_id, as
            it is on the server.
    """

    accepted_at: datetime
    events: deque[Message] = msgspec.field(default_factory=deque)
    taken: Message | None = None
    had_events: bool = False
    task: Message | None = None
    reported: Message | None = None


class Journal:
    """What the engine is given as its journal."""

    def __init__(self, write: Callable[[Change], None], ended: Callable[[EncodedOutcome], None]) -> None:
        """Journal.

        Args:
            write: takes each change.
            ended: is told of each run that has ended.

        """
        self.max_value = 1024 * 1024
        self._put = write
        self._gathered: list[Change] | None = None
        self._ended = ended
        self._notes: dict[tuple[str, str], _Note] = {}
        self._ended_notes: deque[tuple[str, str]] = deque()

    def admit(self, run: Run, state: RunState, input: Input) -> Input | None:
        """Keep values out that no message can hold: the step fails instead."""
        return fit(input, self.max_value)

    def transition(self, run: Run, state: RunState, input: Input, effects: list[Effect], entries: list[Entry]) -> None:
        """Write one transition as one change."""
        ref = run.info.ref
        note = self._note(run)
        messages = []
        if isinstance(input, Event):
            messages.append(event_message(ref, input))
            note.events.append(messages[0])
            note.had_events = True
        end = next((effect for effect in effects if isinstance(effect, End)), None)
        # The event that ended the run has its place further on.
        messages += [history_message(_as_event(run, entry)) for entry in entries if entry is not run.ending]
        for effect in effects:
            if isinstance(effect, StoreUpdates):
                messages += [Message(subjects.store(ref, key), value) for key, value in effect.updates.items()]
        self._take_events(note, state)
        if end is not None:
            self._end(run, state, note, end, messages)
            return
        if isinstance(input, Start):
            messages.append(_info(run.info, note, note.reported))
            if input.input is not None and input.input != b"\xc0":
                messages.append(Message(subjects.input(ref), input.input))
        elif isinstance(input, StepTaken):
            note.reported = _info(run.info, note, None)
            messages.append(note.reported)
        messages.append(_state(run, state, note))
        obsolete = self._put_task(run, state, note, messages)
        self._write_change(run, Change(messages, obsolete))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what comes meanwhile as one change."""
        outer = self._gathered
        gathered = self._gathered = [] if outer is None else outer
        try:
            yield
        finally:
            self._gathered = outer
            if outer is None and gathered:
                self._put(join(gathered))

    def appended(self, run: Run, entry: Entry) -> None:
        """Write an event that a worker appended by itself."""
        if len(entry.body) > self.max_value:
            entry.body = _encode({"too_large": len(entry.body)})
        self._write_change(run, Change([history_message(_as_event(run, entry))]))

    def resume(self, run: Run, record: wire.RunState, task_seq: int, event_seqs: list[int]) -> None:
        """Take over a run that the stream holds.

        Args:
            run: the run.
            record: its state record.
            task_seq: sequence of the record of its step; 0 for none.
            event_seqs: sequences of the events that it got.

        """
        ref, state = run.info.ref, run.state
        waiting = len(state.inbox or ()) if state is not None else 0
        note = self._note(run)
        note.had_events = bool(event_seqs)
        note.events.extend(Message(subjects.events(ref.wf_id), b"", seq) for seq in event_seqs[-waiting:] if waiting)
        if record.last_event_seq_id:
            note.taken = Message(subjects.events(ref.wf_id), b"", record.last_event_seq_id)
        if run.info.history_seq_id:
            note.reported = Message(subjects.run_info(ref), b"", run.info.history_seq_id)
        if task_seq:
            note.task = Message(subjects.worker_task(ref), b"", task_seq)

    def fail(self, info: RunInfo, record: wire.RunState, error: ErrorDetails, now: datetime) -> None:
        """Write the end of a run that the stream holds and that cannot go on."""
        ref = info.ref
        took = max(0, (now - (record.started_at or now)) // timedelta(milliseconds=1))
        event = HistoryEvent(
            seq=0,
            kind="run.failed",
            timestamp=now,
            wf_id=ref.wf_id,
            run_id=ref.run_id,
            encoded=_encode({"error": error, "duration_ms": took}),
        )
        failed = replace(info, status=RunStatus.FAILED, completed_at=now)
        state = replace(record, kind="fail", entered_at=now, active_directive_id=None)
        messages = [
            Message(subjects.run_info(ref), wire.encode_run_info(failed)),
            history_message(event),
            Message(subjects.run_state(ref), wire.encode_run_state(state)),
            Message(subjects.error(ref), wire.encode_error(error)),
        ]
        self._write(Change(messages, purge=[subjects.worker_task(ref), subjects.events(ref.wf_id)]))
        self._ended(EncodedOutcome(run=failed, error=error))

    def stamp(self, info: RunInfo) -> RunInfo:
        """Return a RunInfo as the stream has it: with what the engine does not know, without what is its own."""
        note = self._notes.get((info.wf_id, info.id))
        return info if note is None else _stamp(info, note.accepted_at, note.reported)

    def _write(self, change: Change) -> None:
        if self._gathered is None:
            self._put(change)
        else:
            self._gathered.append(change)

    def _write_change(self, run: Run, change: Change) -> None:
        self._write(change)

    def _withdraw(self, task: Message) -> Message:
        """Return the record of a step that is done, to be deleted; if it was not sent yet, it need not be."""
        task.dropped = task.seq == 0
        return task

    def _note(self, run: Run) -> _Note:
        key = run.info.wf_id, run.info.id
        note = self._notes.get(key)
        if note is None:
            note = self._notes[key] = _Note(run.history[0].timestamp)
        return note

    def _take_events(self, note: _Note, state: RunState) -> None:
        while len(note.events) > len(state.inbox or ()):
            note.taken = note.events.popleft()

    def _put_task(self, run: Run, state: RunState, note: _Note, messages: list[Message]) -> list[Message]:
        """Put out the record of a step that was dispatched; return that of one that is done."""
        step = state.step
        if step is not None and step.taken:
            return []
        obsolete = [] if note.task is None else [self._withdraw(note.task)]
        note.task = None
        if step is not None:
            info = run.info
            body = {"wf_id": info.wf_id, "run_id": info.id, "wf_type": info.wf_type, "step_name": step.name}
            note.task = Message(subjects.worker_task(info.ref), _encode(body))
            messages.append(note.task)
        return obsolete

    def _end(self, run: Run, state: RunState, note: _Note, end: End, messages: list[Message]) -> None:
        """Write how a run ended. The record stands right before the event that ended it, the state right after it."""
        ref = run.info.ref
        messages.append(_info(run.info, note, note.reported))
        messages += [history_message(_as_event(run, entry)) for entry in (run.ending,) if entry is not None]
        messages.append(_state(run, state, note))
        if end.result is not None and end.result != b"\xc0":
            messages.append(Message(subjects.output(ref), end.result))
        if end.error is not None:
            messages.append(Message(subjects.error(ref), wire.encode_error(end.error)))
        obsolete = [] if note.task is None else [self._withdraw(note.task)]
        note.task = None
        note.events.clear()
        purge = [subjects.events(ref.wf_id)] if note.had_events else []
        self._write_change(run, Change(messages, obsolete, purge))
        self._ended_notes.append((ref.wf_id, ref.run_id))
        if len(self._ended_notes) > _KEPT:
            self._notes.pop(self._ended_notes.popleft(), None)
        self._ended(EncodedOutcome(run=run.info, result=end.result, error=end.error, reason=end.reason))


def _as_event(run: Run, entry: Entry) -> HistoryEvent:
    return HistoryEvent(
        seq=0,
        kind=entry.kind,
        timestamp=entry.timestamp,
        wf_id=run.info.wf_id,
        run_id=run.info.id,
        worker_id=entry.worker_id,
        operation_id=entry.operation_id,
        encoded=entry.body,
    )


def history_message(event: HistoryEvent) -> Message:
    """Return what a history event is written as."""
    return Message(subjects.history(RunRef(event.wf_id, event.run_id)), wire.encode_event(event))


def event_message(ref: RunRef, event: Event) -> Message:
    """Return what an event that came in is written as."""
    payload = msgspec.Raw(event.payload or b"\xc0")
    body = {"wf_id": ref.wf_id, "run_id": ref.run_id, "event_name": event.name, "payload": payload}
    return Message(subjects.events(ref.wf_id), _encode(body))


def _stamp(info: RunInfo, accepted_at: datetime, reported: Message | None) -> RunInfo:
    return replace(
        info,
        worker_name=None,
        started_at=info.started_at or accepted_at,
        history_seq_id=reported.seq if reported is not None and reported.seq else None,
    )


def _info(info: RunInfo, note: _Note, reported: Message | None) -> Message:
    """Return the record; the first that reports a step has its own sequence in it."""
    message = Message(subjects.run_info(info.ref), b"")
    message.body = lambda: wire.encode_run_info(_stamp(info, note.accepted_at, reported or message))
    if reported is None and info.started_at is None:  # no step was begun yet
        message.body = wire.encode_run_info(_stamp(info, note.accepted_at, None))
    return message


def _state(run: Run, state: RunState, note: _Note) -> Message:
    record = wire.RunState(
        wf_id=run.info.wf_id,
        run_id=run.info.id,
        kind=state.kind.value,
        entered_at=state.entered_at,
        started_at=note.accepted_at,
        worker_id=run.info.worker_name,
        active_directive_id=None if state.wait is None else state.wait.id,
    )
    return Message(subjects.run_state(run.info.ref), functools.partial(_encode_state, record, note.taken))


def _encode_state(record: wire.RunState, taken: Message | None) -> bytes:
    return wire.encode_run_state(replace(record, last_event_seq_id=0 if taken is None else taken.seq))
