"""ManualEngine: an embedded engine for tests, whose time the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from grctl.testing.engine_run import EngineRun
from grctl.testing.run_report import runs_report
from grctl.testing.time_mover import TimeMover
from grctl_core.client import PLAIN, WorkflowClient
from grctl_core.durations import Duration, optional_timedelta, to_seconds
from grctl_core.errors import EventLoopError, WorkflowTypeNotRegisteredError
from grctl_core.event_loop import running_loop
from grctl_core.handle import WorkflowHandle
from grctl_core.ids import new_ulid
from grctl_core.run import RunInfo
from grctl_engine.clock import ManualClock
from grctl_engine.definition import Workflow
from grctl_engine.engine import Engine
from grctl_engine.limits import EngineLimits
from grctl_memory import MemoryConnection

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["ManualEngine"]

_LIMITS = EngineLimits(finished_retention=timedelta(days=36_500))
"""A run that ended is there to be looked at, however far the test moves the time."""


class ManualEngine:
    """Workflows in this process, at a time that stands still until the test moves it.

    The pytest fixture ``grctl_engine`` is one; without pytest use it with ``async with``. It can be made anywhere, and
    belongs to the event loop that it is first used in.

    >>> async with ManualEngine([reminder]) as engine:
    ...     run = await engine.start("Reminder", "r-1", {"days": 30})
    ...     await engine.advance(days=29)
    ...     assert not run.is_finished
    ...     assert await run.completed() == "reminded"
    """

    def __init__(
        self,
        workflows: Iterable[Workflow] = (),
        *,
        start: datetime = datetime(2026, 1, 1, tzinfo=UTC),
        limits: EngineLimits = _LIMITS,
        patience: Duration = 10.0,
    ) -> None:
        """Host workflows.

        Args:
            workflows: the workflow types; :meth:`host` adds more.
            start: the time to begin with, with a time zone.
            limits: how much the engine holds. By default ended runs are kept for 100 years.
            patience: how long, by the machine's time, a step or an awaitable may wait for something outside of the
                engine, such as a thread or a socket, until that counts as stuck.

        Raises:
            InvalidInputError: a workflow or an option is wrong.

        """
        self.clock = ManualClock(start)
        """The engine's time."""
        self.engine = Engine((), limits=limits, clock=self.clock)
        """The engine itself."""
        self.connection = MemoryConnection(self.engine)
        """A connection to it, for a client of your own: ``Client(connection=..., plugins=[...])``."""
        self.client = WorkflowClient(connection=self.connection)
        """A client on it, for the code that is tested. It is as any other client."""
        self._mover = TimeMover(self.engine, self.clock, to_seconds("patience", patience))
        self._hosted: list[Workflow] = []
        self.host(*workflows)

    def __repr__(self) -> str:
        return f"<ManualEngine at {self.now.isoformat()}: {self.engine!r}>"

    async def __aenter__(self) -> Self:
        self._check_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End what is still running: steps are cancelled, whoever waits gets a ConnectionClosedError. Idempotent."""
        await self.engine.close(0)

    def close_in_its_loop(self) -> None:
        """Do what :meth:`close` does, outside of an ``async def``: in the event loop that the engine was used in.

        Where that one is closed what ran in it has gone with it. Where one is running nothing is done.
        """
        loop = self.engine.event_loop
        if loop is None or loop.is_closed():
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            loop.run_until_complete(self.close())

    def host(self, *workflows: Workflow) -> None:
        """Run these workflow types too; those that it hosts already may be among them.

        Raises:
            InvalidInputError: one is no workflow, or another one of its type is hosted.

        """
        new: list[Workflow] = []
        for workflow in workflows:
            if not any(workflow is hosted for hosted in (*self._hosted, *new)):
                new.append(workflow)
        self.engine.register(new)
        self._hosted += new

    async def start(
        self,
        workflow_type: str | Workflow,
        workflow_id: str | None = None,
        workflow_input: object = None,
        workflow_timeout: Duration | None = None,
        *,
        result_type: type[T] = PLAIN,
    ) -> EngineRun[T]:
        """Start a workflow, and let it do what it can without time passing.

        Args:
            workflow_type: its type, or the workflow itself, which is hosted then.
            workflow_id: None for a new one.
            workflow_input: as for a client's ``start_workflow``.
            workflow_timeout: how long the run may take, in the engine's time.
            result_type: what to decode the result to.

        Raises:
            WorkflowTypeNotRegisteredError: nobody hosts the type.
            InvalidInputError, WorkflowAlreadyRunningError: as a client's ``start_workflow``.

        """
        self._check_loop()
        if isinstance(workflow_type, Workflow):
            self.host(workflow_type)
            workflow_type = workflow_type.workflow_type
        name = f"test-{new_ulid()}" if workflow_id is None else workflow_id
        try:
            handle = await self.client.start_workflow(
                workflow_type, name, workflow_input, workflow_timeout, result_type=result_type
            )
        except WorkflowTypeNotRegisteredError as error:
            error.add_note(
                f"This engine hosts {', '.join(self.engine.workflow_types) or 'nothing'}. The fixture grctl_workflows "
                "returns what it hosts, and host() adds to it"
            )
            raise
        await self.settle()
        return EngineRun(self, handle)

    async def run(self, run: str | WorkflowHandle[T], *, result_type: type[T] = PLAIN) -> EngineRun[T]:
        """Return a run that the tested code, or a parent, has started: the latest one of a workflow id, or a handle's.

        What that code has set off is let happen first.

        Raises:
            WorkflowNotFoundError: there is none of this id.

        """
        self._check_loop()
        await self.settle()
        if isinstance(run, WorkflowHandle):
            return EngineRun(self, run)
        return EngineRun(self, await self.client.get_handle(run, result_type=result_type))

    @property
    def patience(self) -> float:
        """How many seconds, by the machine's time, without anything happening count as stuck. Can be set."""
        return self._mover.patience

    @patience.setter
    def patience(self, patience: Duration) -> None:
        self._mover.patience = to_seconds("patience", patience)

    @property
    def runs(self) -> list[RunInfo]:
        """The records of all runs, children too, in the order of their start."""
        return self.engine.runs()

    @property
    def now(self) -> datetime:
        """The engine's time, in UTC."""
        return self.clock.now()

    async def settle(self) -> None:
        """Let the engine do what it can without time passing.

        A step that waits for something outside, such as a thread, is not waited for: it is given a hundred turns of the
        event loop.

        Raises:
            RuntimeError: there is no end to it, as a workflow goes from step to step for ever.

        """
        self._check_loop()
        await self.clock.settle()

    async def advance(
        self,
        duration: Duration | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        """Move the time on; whatever is due by then happens, in order. Steps are treated as by :meth:`settle`.

        Args:
            duration: how far, a ``timedelta`` or seconds; what follows is added.
            days: days more.
            hours: hours more.
            minutes: minutes more.
            seconds: seconds more.

        Raises:
            InvalidInputError: the sum is not above zero.
            RuntimeError: as :meth:`settle`.

        """
        self._check_loop()
        await self.clock.advance(duration, days=days, hours=hours, minutes=minutes, seconds=seconds)

    async def advance_until(self, awaitable: Awaitable[T], *, within: Duration | None = None) -> T:
        """Await something, and move the time on whenever nothing else happens and somebody waits for a run.

        For code that waits for a workflow by itself: ``await engine.advance_until(service.place_order())``. Each move
        goes to the moment at which something is due next. While a step waits for something outside, such as a thread
        or a socket, and while nobody waits for a run's end or its next event, time stands still. A handle that somebody
        has waited with counts as long as it lives.

        Args:
            awaitable: what to await. A coroutine is cancelled where this fails; a task or a future is not.
            within: how far the time may be moved at most; None for as far as it takes.

        Raises:
            TimeoutError: it has not come within ``within``; or time would have to be moved more than 10,000 times; or
                nothing has happened for the engine's ``patience``, or nothing is left that could happen.
            RuntimeError: as :meth:`settle`.
            Exception: what the awaitable raises.

        """
        self._check_loop()
        limit = optional_timedelta("within", within)
        waiting = asyncio.ensure_future(_captured(awaitable))
        try:
            await self._mover.move_until(waiting.done, limit)
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.wait([waiting])
        result, error = waiting.result()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # there is one where there is no error

    def report(self, width: int = 100) -> str:
        """Draw the timelines of the runs, those that did not complete first, five at most. Works after the end too."""
        return runs_report([(info, self.engine.events(info.ref)) for info in self.runs], self.now, width)

    def _check_loop(self) -> None:
        loop, own = running_loop("a ManualEngine"), self.engine.event_loop
        if own is not None and own is not loop:
            raise EventLoopError(
                "this engine belongs to another event loop, the one that it was first used in: make an engine for "
                "each, or do all of a test in one asyncio.run()"
            )


async def _captured(awaitable: Awaitable[T]) -> tuple[T | None, Exception | None]:
    """Await, and return an error as a value: a task that ends in a WorkflowCancelledError would count as cancelled."""
    try:
        return await (asyncio.shield(awaitable) if asyncio.isfuture(awaitable) else awaitable), None
    except Exception as error:  # noqa: BLE001 - it is raised by the one who waits
        return None, error
