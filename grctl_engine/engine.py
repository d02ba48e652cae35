"""Engine: runs workflows in this process, with the server's semantics (docs/protocol.md, section 6).

For development, tests and tools of one process. Nothing outlives the process: grctld hosts production.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import msgspec

from grctl_core.commands import (
    CancelCommand,
    Command,
    DescribeCommand,
    EventCommand,
    QueryCommand,
    Reply,
    StartCommand,
    TerminateCommand,
)
from grctl_core.durations import to_seconds
from grctl_core.errors import (
    ConnectionClosedError,
    EventLoopError,
    InvalidInputError,
    UnsupportedOperationError,
    WorkflowNotFoundError,
)
from grctl_core.event_loop import running_loop
from grctl_core.history import HistoryEvent
from grctl_core.outcome import EncodedOutcome
from grctl_core.run import RunFilter, RunInfo, RunRef, RunStatus
from grctl_core.workflow_type import TypeInfo
from grctl_engine import inputs, replies
from grctl_engine.clock import Clock, SystemClock
from grctl_engine.definition import Workflow
from grctl_engine.history import HistoryReader
from grctl_engine.host import RunHost
from grctl_engine.journal import Journal
from grctl_engine.limits import EngineLimits
from grctl_engine.registry import resolve_all
from grctl_engine.replay import ReplayError, replay
from grctl_engine.run import Run
from grctl_engine.run_table import RunTable

__all__ = ["Engine"]

_PAGE = 1_000
"""Runs listed between two turns of the event loop."""


class Engine:
    """Runs workflows. It belongs to the event loop that it is first used in."""

    def __init__(
        self,
        workflows: Iterable[Workflow] = (),
        *,
        limits: EngineLimits | None = None,
        clock: Clock | None = None,
        journal: Journal | None = None,
        enforce_timeouts: bool = True,
    ) -> None:
        """Register workflows.

        Args:
            workflows: the workflow types; what is added to them later is not seen.
            limits: how much the engine holds.
            clock: where the time comes from; a ``ManualClock`` for tests. The machine's when left out.
            journal: is told what becomes of each run.
            enforce_timeouts: whether runs end when their workflow timeout is over; a server only stores it.

        Raises:
            InvalidInputError: a workflow or a limit is wrong.

        """
        self.limits = EngineLimits() if limits is None else limits
        if not isinstance(self.limits, EngineLimits):
            raise InvalidInputError(f"limits must be EngineLimits, not {type(limits).__name__}")
        if clock is not None and not isinstance(clock, Clock):
            raise InvalidInputError(f"clock must be a Clock, such as ManualClock(), not {type(clock).__name__}")
        self.clock: Clock = SystemClock() if clock is None else clock
        self._runs = RunTable(self.limits)
        self._host = RunHost(
            self.clock,
            self.limits,
            self._runs,
            resolve_all(workflows),
            journal=journal,
            enforce_timeouts=enforce_timeouts,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._execute: dict[type, Callable[[Any], Reply]] = {
            StartCommand: self._start,
            EventCommand: self._event,
            CancelCommand: lambda command: self._end(command, inputs.Cancel(command.reason)),
            TerminateCommand: lambda command: self._end(command, inputs.Terminate(command.reason)),
            DescribeCommand: self._describe,
        }
        self.clock.attach(self._host)

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self._runs.active} active runs"
        return f"<Engine: {', '.join(self._host.definitions) or 'no workflows'}; {state}>"

    @property
    def worker_id(self) -> str:
        """The id of the engine's one worker, as it stands in histories."""
        return self._host.worker_id

    @property
    def workflow_types(self) -> tuple[str, ...]:
        """Names of the registered workflow types."""
        return tuple(self._host.definitions)

    def register(self, workflows: Iterable[Workflow]) -> None:
        """Register further workflows.

        Raises:
            InvalidInputError: a workflow is wrong, or its type is registered already; none of them is then.

        """
        self._host.register(resolve_all(workflows))

    @property
    def event_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that it belongs to; None until it is used."""
        return self._loop

    @property
    def is_busy(self) -> bool:
        """Whether a step is running that waits for something other than this engine and its clock."""
        return self._host.busy

    @property
    def is_awaited(self) -> bool:
        """Whether somebody outside waits for the end of a run, or for the next event of one."""
        return any(run.is_awaited for run in self._runs.all())

    @property
    def activity(self) -> int:
        """A number that rises with everything that the engine does."""
        return self._host.activity

    @property
    def has_forgotten(self) -> bool:
        """Whether it has forgotten runs that ended, as its limits say."""
        return self._runs.has_forgotten

    def execute(self, command: Command) -> Reply:
        """Carry out a command, at once; what follows from it happens in later turns of the event loop.

        Raises:
            ConnectionClosedError: the engine is closed.
            EventLoopError: this is not the engine's event loop.
            UnsupportedOperationError: there is no such command; a query is for :meth:`query`.

        """
        self._check_usable()
        execute = self._execute.get(type(command))
        if execute is None:
            raise UnsupportedOperationError(f"the embedded engine has no command {type(command).__name__}")
        self._runs.forget_expired(self.clock.now())
        return execute(command)

    def feed(self, run: Run, input: inputs.Input) -> bool:
        """Give a run an input that no command makes, for a journal; whether that had any effect."""
        return self._host.feed(run, input)

    def resume(
        self, info: RunInfo, history: Sequence[HistoryEvent], store: dict[str, bytes], *, next_step: str | None = None
    ) -> Run:
        """Go on with a run that another engine began. The step that was under way is run again, from its beginning.

        Args:
            info: its record.
            history: all of it.
            store: its values, encoded.
            next_step: name of the step that was dispatched last.

        Raises:
            ReplayError: that cannot be: its type is not registered, or its history is not such an engine's.

        """
        definition = self._host.definitions.get(info.wf_type)
        if definition is None:
            raise ReplayError(f"workflow type {info.wf_type!r} is not registered")
        timeout = info.timeout if self._host.enforce_timeouts else None
        state = replay(definition, history, timeout=timeout, next_step=next_step)
        begun = {"worker_name": self.worker_id} if state.started_at is not None else {"started_at": None}
        record = msgspec.structs.replace(info, status=RunStatus.RUNNING, **begun)
        run = Run(record, definition, [], state, store or None)
        for event in history:
            self._host.take_over(run, event)
        self._host.resume(run, state)
        return run

    async def query(self, command: QueryCommand) -> Reply:
        """Ask a run's query handler, also after its end; errors as :meth:`execute`. Cancelled, it cancels that too."""
        self._check_usable()
        self._runs.forget_expired(self.clock.now())
        run = self._runs.find(command.wf_id, command.run_id) if command.run_id else self._runs.latest(command.wf_id)
        return replies.NOT_FOUND if run is None else await self._host.queries.answer(run, command)

    def watch(self, run: RunRef, *, owner: object = None) -> asyncio.Future[EncodedOutcome]:
        """Return a new future of the run's end; see ``grctl_core.protocols.Connection.watch``.

        Args:
            run: the run.
            owner: what the future belongs to, for :meth:`release`.

        Raises:
            ConnectionClosedError: the engine is closed.
            EventLoopError: this is not the engine's event loop.

        """
        loop = self._check_usable()
        future: asyncio.Future[EncodedOutcome] = loop.create_future()
        try:
            found = self._find(run)
        except WorkflowNotFoundError as error:
            future.set_exception(error)
            future.exception()  # one that nobody looks at is no news
            return future
        outcome = found.outcome()
        if outcome is not None:
            future.set_result(outcome)
            return future
        found.add_watcher(future, owner)
        return future

    def find_run(self, run: RunRef) -> RunInfo | None:
        """Return the record of exactly this run; None where there is none, or none any more."""
        self._runs.forget_expired(self.clock.now())
        found = self._runs.find(run.wf_id, run.run_id)
        return None if found is None else found.current_info

    def has_begun(self, run: RunRef) -> bool:
        """Whether the run was taken up: every accepted one is."""
        return self.find_run(run) is not None

    def runs(self) -> list[RunInfo]:
        """Return the records of all runs that are there, in the order of their start."""
        return [run.current_info for run in self._runs.all()]

    def events(self, run: RunRef) -> list[HistoryEvent]:
        """Return a run's history as it is now; empty where there is no such run."""
        found = self._runs.find(run.wf_id, run.run_id)
        return [] if found is None else [found.event(index) for index in range(len(found.history))]

    def find_type(self, workflow_type: str) -> TypeInfo | None:
        """Return what is registered for a workflow type."""
        return self._host.find_type(workflow_type)

    def history(
        self, run: RunRef, *, follow: bool, owner: object = None, check: Callable[[], object] | None = None
    ) -> AsyncIterator[HistoryEvent]:
        """Iterate over a run's history; see ``grctl_core.protocols.Connection.history``.

        A run that is forgotten meanwhile is read to its end.

        Args:
            run: the run.
            follow: wait for further events until the run has ended.
            owner: what the iterator belongs to, for :meth:`release`.
            check: called before each waiting; raises when the owner is closed.

        """

        def check_usable() -> None:
            self._check_usable()
            if check is not None:
                check()

        def find() -> Run:
            check_usable()
            return self._find(run)

        return HistoryReader(find, check_usable, follow=follow, owner=owner)

    async def list_runs(
        self, run_filter: RunFilter, *, check: Callable[[], None] | None = None
    ) -> AsyncIterator[RunInfo]:
        """Iterate over the runs that are there now, each once, in the order of their start."""
        self._check_usable()
        self._runs.forget_expired(self.clock.now())
        for number, run in enumerate(self._runs.all(), 1):
            if run_filter.admits(run.info):
                yield run.current_info
                if check is not None:
                    check()
            if number % _PAGE == 0:
                await asyncio.sleep(0)

    def release(self, owner: object, error: Callable[[], Exception]) -> None:
        """Fail the futures and readers of one owner that are still waiting."""
        for run in self._runs.all():
            run.settle_watchers(None, error, owner)
            run.wake_followers(error, owner)

    async def close(
        self,
        grace: float = 5.0,
        *,
        error: Callable[[], Exception] | None = None,
        closer: asyncio.Task[Any] | None = None,
    ) -> None:
        """Take no more commands, wait up to ``grace`` seconds for running steps, abandon the rest. Idempotent.

        Runs that are going on end nowhere: who waits for one gets a ConnectionClosedError. Steps that sleep on a
        clock which does not move by itself are not waited for.

        Args:
            grace: seconds.
            error: makes the error of those who wait, instead of the engine's own.
            closer: the task that closes, where that is not the present one: if it is a step, it is not waited for.

        """
        if self._closed:
            return
        seconds = to_seconds("grace", grace, zero=True)
        self._check_usable()
        self._closed = True
        try:
            await self._host.close(seconds, closer or asyncio.current_task())
        finally:
            self.clock.detach(self._host)
            for run in self._runs.all():
                run.settle_watchers(None, error or _closed_error)
                run.wake_followers(error or _closed_error)

    def _start(self, command: StartCommand) -> Reply:
        info = command.run
        if info.wf_id != command.wf_id:
            return replies.bad_message(f"run_info.wf_id {info.wf_id!r} is not the command's {command.wf_id!r}")
        return self._host.accept(info, command.input)

    def _event(self, command: EventCommand) -> Reply:
        run = self._runs.latest(command.wf_id)
        if run is None:
            return replies.NOT_FOUND
        if run.state is None or (command.run is not None and command.run.run_id != run.info.id):
            return replies.FINISHED  # also where the sender means an earlier run, which cannot be going on
        if run.inbox_size >= self.limits.inbox:
            return replies.inbox_full(self.limits.inbox)
        self._host.feed(run, inputs.Event(command.event_name, command.payload))
        return replies.ACCEPTED

    def _describe(self, command: DescribeCommand) -> Reply:
        run = self._runs.latest(command.wf_id)
        if run is None:
            return replies.NO_RUN_TO_DESCRIBE
        return Reply(success=True, run=run.current_info)

    def _end(self, command: CancelCommand | TerminateCommand, input: inputs.Input) -> Reply:
        run = self._runs.latest(command.wf_id)
        if run is None:
            return replies.NOT_FOUND
        if run.state is None:
            return replies.FINISHED
        self._host.feed(run, input)
        return replies.ACCEPTED

    def _find(self, run: RunRef) -> Run:
        self._runs.forget_expired(self.clock.now())
        found = self._runs.find(run.wf_id, run.run_id)
        if found is None:
            raise WorkflowNotFoundError(
                f"the embedded engine has no run {run.run_id} of workflow {run.wf_id!r}. It never ran here, or it "
                f"ended and was forgotten: the last {self.limits.finished_runs} ended runs are kept, each for "
                f"{self.limits.finished_retention} (EngineLimits)"
            )
        return found

    def _check_usable(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise _closed_error()
        loop = running_loop("an engine")
        if self._loop is not loop:
            if self._loop is not None:
                raise EventLoopError(
                    "this engine belongs to another event loop, the one that it was first used in: make an engine "
                    "(or a connection) for each event loop, or stay in one asyncio.run()"
                )
            self._loop = loop
        return loop


def _closed_error() -> ConnectionClosedError:
    return ConnectionClosedError("the embedded engine was closed")
