"""Restore: goes on with the runs that the stream holds, after the server was stopped and started again."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from grctl.dev_server.journal import Journal
from grctl.dev_server.link import Link
from grctl.dev_server.stream import get_all, get_last, list_subjects, sequence
from grctl_core.errors import DecodeError
from grctl_core.outcome import ErrorDetails
from grctl_core.run import RunInfo, RunRef
from grctl_engine.engine import Engine
from grctl_engine.replay import ReplayError
from grctl_nats import subjects, wire

__all__ = ["restore"]

_AT_ONCE = 100
_GOING_ON = {"start", "step", "wait"}
_log = logging.getLogger("grctl.dev_server")


class _Task(msgspec.Struct):
    step_name: str = ""


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
    for record in sorted(records, key=lambda record: record.started_at or record.entered_at):
        await _resume(link, engine, journal, record)
    return len(records)


async def _resume(link: Link, engine: Engine, journal: Journal, record: wire.RunState) -> None:
    message = await get_last(link, subjects.run_info(RunRef(record.wf_id, record.run_id)))
    if message is None:
        return  # nobody can see such a run
    info = wire.decode_run_info(message.data)
    ref = info.ref
    task = await get_last(link, subjects.worker_task(ref))
    events = await get_all(link, subjects.events(ref.wf_id))
    try:
        history = [wire.decode_event(m.data, sequence(m)) for m in await get_all(link, subjects.history(ref))]
        run = engine.resume(
            info,
            history,
            await _read_store(link, info),
            next_step=None if task is None else msgspec.msgpack.decode(task.data, type=_Task).step_name,
        )
    except (ReplayError, DecodeError, msgspec.MsgspecError) as error:
        _log.error("run %s of workflow %s cannot go on: %s", ref.run_id, ref.wf_id, error)
        details = ErrorDetails("NotResumable", f"the development server was started again, and {error}")
        journal.fail(info, record, details, engine.clock.now())
        return
    journal.resume(run, record, 0 if task is None else sequence(task), [sequence(event) for event in events])


async def _read_store(link: Link, info: RunInfo) -> dict[str, bytes]:
    prefix = subjects.store(info.ref, "")
    found = await list_subjects(link, prefix + ">")
    messages = await asyncio.gather(*(get_last(link, subject) for subject in found))
    return {
        subject.removeprefix(prefix): message.data
        for subject, message in zip(found, messages, strict=True)
        if message is not None
    }
