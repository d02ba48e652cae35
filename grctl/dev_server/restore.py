"""Restore: goes on with the runs that the stream holds, after the server was stopped and started again."""

from __future__ import annotations

import asyncio
import logging

import msgspec
from nats.aio.msg import Msg

from grctl.dev_server.journal import Journal
from grctl.dev_server.link import Link
from grctl.dev_server.stream import get_all, get_last, list_subjects, sequence
from grctl_core.errors import DecodeError
from grctl_core.outcome import ErrorDetails
from grctl_core.run import RunInfo, RunRef, RunStatus
from grctl_engine.children import encode_outcome
from grctl_engine.effects import End
from grctl_engine.engine import Engine
from grctl_engine.inputs import Event
from grctl_engine.replay import ReplayError
from grctl_engine.run import Run
from grctl_nats import subjects, wire

__all__ = ["restore"]

_AT_ONCE = 100
_RUNS_AT_ONCE = 20
_GOING_ON = {"start", "step", "wait"}
_log = logging.getLogger("grctl.dev_server")


class _Task(msgspec.Struct):
    step_name: str = ""


class _Past(msgspec.Struct):
    """What the stream holds of one run.

    Attributes:
        task: the record of its step.
        events: the sequences of the events that it got.
    """

    record: wire.RunState
    info: RunInfo
    task: Msg | None
    events: list[int]
    history: list[Msg]
    store: dict[str, bytes]


async def restore(link: Link, engine: Engine, journal: Journal) -> int:
    """Go on with every run that had not ended; return how many those are.

    A run that cannot go on fails, with an error that says why.
    """
    found = await list_subjects(link, subjects.run_state(RunRef("*", "*")))
    records: list[wire.RunState] = []
    for begin in range(0, len(found), _AT_ONCE):
        part = await asyncio.gather(*(get_last(link, subject) for subject in found[begin : begin + _AT_ONCE]))
        states = [wire.decode_run_state(message.data) for message in part if message is not None]
        records += [state for state in states if state.kind in _GOING_ON]
    records.sort(key=lambda record: record.started_at or record.entered_at)
    pasts: list[_Past] = []
    for begin in range(0, len(records), _RUNS_AT_ONCE):
        read = await asyncio.gather(*(_read(link, record) for record in records[begin : begin + _RUNS_AT_ONCE]))
        pasts += [past for past in read if past is not None]
    # From here on in one go: no step may run before all runs are there, its children and its parent among them.
    failed: list[tuple[_Past, Exception]] = []
    runs: dict[tuple[str, str], Run] = {}
    for past in pasts:
        try:
            runs[past.info.wf_id, past.info.id] = _resume(past, engine, journal)
        except (ReplayError, DecodeError, msgspec.MsgspecError) as error:
            failed.append((past, error))
    for past, why in failed:
        parent = runs.get((past.info.parent_wf_id or "", past.info.parent_run_id or ""))
        _fail(past, why, parent, engine, journal)
    return len(records)


async def _read(link: Link, record: wire.RunState) -> _Past | None:
    message = await get_last(link, subjects.run_info(RunRef(record.wf_id, record.run_id)))
    if message is None:
        return None  # nobody can see such a run
    info = wire.decode_run_info(message.data)
    task, events, history, store = await asyncio.gather(
        get_last(link, subjects.worker_task(info.ref)),
        get_all(link, subjects.events(info.wf_id)),
        get_all(link, subjects.history(info.ref)),
        _read_store(link, info),
    )
    return _Past(record, info, task, [sequence(event) for event in events], history, store)


def _resume(past: _Past, engine: Engine, journal: Journal) -> Run:
    task = past.task
    run = engine.resume(
        past.info,
        [wire.decode_event(message.data, sequence(message)) for message in past.history],
        past.store,
        next_step=None if task is None else msgspec.msgpack.decode(task.data, type=_Task).step_name,
    )
    journal.resume(run, past.record, 0 if task is None else sequence(task), past.events)
    return run


def _fail(past: _Past, error: Exception, parent: Run | None, engine: Engine, journal: Journal) -> None:
    info = past.info
    _log.error("run %s of workflow %s cannot go on: %s", info.id, info.wf_id, error)
    details = ErrorDetails("NotResumable", f"the development server was started again, and {error}")
    with journal.together():
        journal.fail(info, past.record, details, engine.clock.now())
        if parent is not None and info.parent_callback_step is not None:
            engine.feed(parent, Event(info.parent_callback_step, encode_outcome(End(RunStatus.FAILED, error=details))))


async def _read_store(link: Link, info: RunInfo) -> dict[str, bytes]:
    prefix = subjects.store(info.ref, "")
    found = await list_subjects(link, prefix + ">")
    messages = await asyncio.gather(*(get_last(link, subject) for subject in found))
    return {
        subject.removeprefix(prefix): message.data
        for subject, message in zip(found, messages, strict=True)
        if message is not None
    }
