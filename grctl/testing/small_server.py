"""SmallServer: what a healthy server does, without workflows: runs begin when started, and end when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from grctl_core.codec import encode
from grctl_core.commands import (
    CancelCommand,
    Command,
    DescribeCommand,
    ErrorCode,
    EventCommand,
    Reply,
    ReplyError,
    StartCommand,
    TerminateCommand,
)
from grctl_core.errors import InvalidInputError, WorkflowNotFoundError
from grctl_core.history import TERMINAL_KINDS, HistoryEvent
from grctl_core.outcome import EncodedOutcome, ErrorDetails
from grctl_core.run import RunInfo, RunRef, RunStatus
from grctl_core.workflow_type import TypeInfo

__all__ = ["End", "SmallServer", "read_end"]

_OK = Reply(success=True)
_KIND_OF = {status: kind for kind, status in TERMINAL_KINDS.items()}


class End(msgspec.Struct, frozen=True):
    """How a run is to end."""

    status: RunStatus
    result: bytes | None = None
    error: ErrorDetails | None = None
    reason: str = ""


def read_end(
    status: RunStatus | str | None, result: object, error: ErrorDetails | Exception | None, reason: str
) -> End:
    """Return how a run is to end; arguments as for ``RecordingTransport.end``.

    Raises:
        InvalidInputError: this is no end.

    """
    if isinstance(error, Exception):
        error = ErrorDetails(type(error).__name__, str(error))
    read = RunStatus(status or (RunStatus.COMPLETED if error is None else RunStatus.FAILED))
    if not read.is_terminal:
        raise InvalidInputError(f"{read.value!r} is no end: completed, failed, cancelled, terminated or timed_out")
    if result is not None and read is not RunStatus.COMPLETED:
        raise InvalidInputError(f"a run that is {read.value} has no result")
    if error is not None and read is not RunStatus.FAILED:
        raise InvalidInputError(f"a run that is {read.value} has no error")
    return End(read, None if result is None else encode("result", result), error, reason)


class SmallServer:
    """Runs and their records.

    Args:
        types: what is registered; where it is None every type can be started, and nothing is known of it.
    """

    def __init__(self, types: dict[str, TypeInfo] | None) -> None:
        self.types = types
        self.runs: dict[str, RunInfo] = {}
        self.latest: dict[str, str] = {}
        self.ends_on_start: dict[str, End] = {}
        self._outcomes: dict[str, EncodedOutcome] = {}
        self._histories: dict[str, list[HistoryEvent]] = {}
        self._watches: dict[str, dict[asyncio.Future[EncodedOutcome], None]] = {}
        self._seq = 0
        self._following: set[asyncio.Future[None]] = set()

    def carry_out(self, command: Command) -> Reply:
        """Do what a command says; return the reply."""
        if isinstance(command, StartCommand):
            return self._start(command)
        run = self.runs.get(self.latest.get(command.wf_id, ""))
        if run is None:
            return _refused(ErrorCode.NOT_FOUND, "workflow run not found")
        if isinstance(command, DescribeCommand):
            return Reply(success=True, run=run)
        if isinstance(command, EventCommand | CancelCommand | TerminateCommand):
            if run.is_finished:
                return _refused(ErrorCode.FINISHED, "workflow run is in a terminal state")
            if isinstance(command, EventCommand):
                self._record(run, "event.received", event_name=command.event_name)
            else:
                cancelled = isinstance(command, CancelCommand)
                status = RunStatus.CANCELLED if cancelled else RunStatus.TERMINATED
                self.end(run, End(status, reason=command.reason))
        return _OK

    def _start(self, command: StartCommand) -> Reply:
        active = self.runs.get(self.latest.get(command.wf_id, ""))
        if active is not None and not active.is_finished:
            return _refused(ErrorCode.ALREADY_RUNNING, f"workflow already has an active run: {active.id}")
        if self.types is not None and command.run.wf_type not in self.types:
            return _refused(ErrorCode.TYPE_NOT_REGISTERED, "workflow type not registered")
        self.add(command.run)
        return _OK

    def add(self, run: RunInfo) -> RunInfo:
        """Begin a run."""
        run = msgspec.structs.replace(run, status=RunStatus.RUNNING, started_at=datetime.now(UTC))
        self.runs[run.id] = run
        self.latest[run.wf_id] = run.id
        self._record(run, "run.started")
        end = self.ends_on_start.get(run.wf_type)
        return run if end is None else self.end(run, end)

    def end(self, run: RunInfo, end: End) -> RunInfo:
        """End a run; whoever waits for it learns it."""
        run = msgspec.structs.replace(run, status=end.status, completed_at=datetime.now(UTC))
        self.runs[run.id] = run
        outcome = EncodedOutcome(run=run, result=end.result, error=end.error, reason=end.reason)
        self._outcomes[run.id] = outcome
        data = {"reason": end.reason} if end.reason else {}
        self._record(run, _KIND_OF.get(end.status, f"run.{end.status.value}"), **data)
        for watch in self._watches.pop(run.id, ()):
            if not watch.done():
                watch.set_result(outcome)
        return run

    def find(self, run: RunInfo | RunRef | str) -> RunInfo:
        """Return the record of a run, named by itself, its id, or its workflow id.

        Raises:
            InvalidInputError: there is no such run.

        """
        key = run.id if isinstance(run, RunInfo) else run.run_id if isinstance(run, RunRef) else run
        found = self.runs.get(self.latest.get(key, key)) if isinstance(key, str) else None
        if found is None:
            known = ", ".join(sorted(self.latest)) or "none"
            raise InvalidInputError(f"no run is known as {key!r}; workflow ids that have one: {known}")
        return found

    def watch(self, run: RunRef) -> asyncio.Future[EncodedOutcome]:
        """Return a new future of a run's end."""
        future: asyncio.Future[EncodedOutcome] = asyncio.get_running_loop().create_future()
        record = self.runs.get(run.run_id)
        if record is None or record.wf_id != run.wf_id:
            future.set_exception(unknown(run))
        elif run.run_id in self._outcomes:
            future.set_result(self._outcomes[run.run_id])
        else:
            watches = self._watches.setdefault(run.run_id, {})
            watches[future] = None
            future.add_done_callback(lambda done: watches.pop(done, None))
        return future

    @property
    def live_watches(self) -> int:
        """How many futures of :meth:`watch` wait."""
        return sum(not watch.done() for watches in self._watches.values() for watch in watches)

    async def history(self, run: RunRef, *, follow: bool) -> AsyncIterator[HistoryEvent]:
        """Iterate over what was recorded of a run."""
        record = self.runs.get(run.run_id)
        if record is None or record.wf_id != run.wf_id:
            raise unknown(run)
        events = self._histories[run.run_id]
        number = 0
        while True:
            while number < len(events):
                yield events[number]
                number += 1
            if not follow or run.run_id in self._outcomes:
                return
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._following.add(changed)
            try:
                await changed
            finally:
                self._following.discard(changed)

    def fail_waits(self, error: Exception) -> None:
        """End all waits and histories that go on."""
        watches, self._watches = self._watches, {}
        waiting = [watch for watched in watches.values() for watch in watched]
        futures: list[asyncio.Future[Any]] = [*waiting, *self._following]
        for future in futures:
            if not future.done():
                future.set_exception(error)

    def _record(self, run: RunInfo, kind: str, **data: object) -> None:
        events = self._histories.setdefault(run.id, [])
        encoded = encode("an event", data)
        self._seq += 1
        events.append(
            HistoryEvent(
                seq=self._seq, kind=kind, timestamp=datetime.now(UTC), wf_id=run.wf_id, run_id=run.id, encoded=encoded
            )
        )
        for future in self._following:
            if not future.done():
                future.set_result(None)


def unknown(run: RunRef) -> WorkflowNotFoundError:
    """Return the error for a run that is not there."""
    return WorkflowNotFoundError(f"run {run.run_id} of workflow {run.wf_id!r} is not known")


def _refused(code: int, detail: str) -> Reply:
    return Reply(success=False, error=ReplyError(code, detail, detail))
