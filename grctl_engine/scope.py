"""Scopes: what a handler may do, and for how long. Its context has one, and so have the tasks that it calls."""

from __future__ import annotations

import asyncio
import os
from contextvars import ContextVar
from typing import Any, Protocol

from grctl_core.commands import Reply
from grctl_core.run import RunInfo
from grctl_core.workflow_type import TypeInfo
from grctl_engine.clock import Clock
from grctl_engine.errors import StepEndedError
from grctl_engine.executor import Executor, StepExecution
from grctl_engine.inputs import Input
from grctl_engine.limits import EngineLimits
from grctl_engine.run import Run

__all__ = ["StepHost", "StepScope", "current_scope", "new_operation_id"]


class StepHost(Protocol):
    """What a step needs of its engine."""

    clock: Clock
    executor: Executor
    limits: EngineLimits
    worker_id: str

    def record(
        self, run: Run, kind: str, body: dict[str, Any], *, worker: bool = False, operation_id: str | None = None
    ) -> None:
        """Append to the run's history."""

    def feed(self, run: Run, input: Input) -> bool:
        """Bring a run on by one input."""

    def accept(self, info: RunInfo, input: bytes | None) -> Reply:
        """Begin a run, or say why not."""

    def find(self, wf_id: str | None, run_id: str | None) -> Run | None:
        """Return exactly this run."""

    def find_latest(self, wf_id: str) -> Run | None:
        """Return the run of this workflow id that was started last."""

    def find_type(self, workflow_type: str) -> TypeInfo | None:
        """Return what is registered for a workflow type."""


class StepScope:
    """What one step does outside of its handler's own code: it records, sleeps, starts children.

    Attributes:
        host: the engine.
        run: the run.
        step_name: the step.
    """

    __slots__ = ("_execution", "_open", "host", "run", "step_name")

    def __init__(self, host: StepHost, run: Run, execution: StepExecution) -> None:
        self.host = host
        self.run = run
        self.step_name = execution.step.name
        self._execution = execution
        self._open = True

    @property
    def over(self) -> bool:
        """Whether the step has ended, or was abandoned."""
        return not self._open or self._execution.abandoned

    def check(self, what: str) -> None:
        """Make sure that the handler may do something now.

        Args:
            what: what it does, for the message, such as ``"ctx.sleep()"``.

        Raises:
            StepEndedError: the step has ended, or was abandoned.

        """
        if self.over:
            ended = "was abandoned" if self._execution.abandoned else "has ended"
            raise StepEndedError(
                f"{what}: step {self.step_name!r} of workflow {self.run.info.wf_id!r} {ended}. "
                "A context is for the handler that got it, until it returns; await what it starts"
            )

    def check_reading(self, what: str) -> None:
        """Make sure that the handler may read now; errors as :meth:`check`."""
        self.check(what)

    def close(self) -> None:
        """Note that the handler has returned, and cancel the tasks that it has not awaited."""
        self._open = False
        self.host.executor.cancel_branches(self._execution)

    def hold_current_task(self) -> None:
        """Let the asyncio task that is running end with the step at the latest."""
        current = asyncio.current_task()
        if current is not None:
            self.host.executor.add_branch(self._execution, current)

    def record(self, kind: str, body: dict[str, Any], operation_id: str) -> None:
        """Append to the run's history what the step did."""
        self.host.record(self.run, kind, body, worker=True, operation_id=operation_id)

    async def sleep(self, seconds: float) -> None:
        """Sleep on the engine's clock. The step keeps its slot: how long is bounded by the step's timeout."""
        future = asyncio.get_running_loop().create_future()
        executor, execution = self.host.executor, self._execution
        asleep = True

        def wake_up() -> None:
            nonlocal asleep
            if asleep:
                asleep = False
                executor.wake_up(execution)
            if not future.done():
                future.set_result(None)

        executor.fall_asleep(execution)
        timer = self.host.clock.call_later(seconds, wake_up)
        try:
            await future
        finally:
            timer.cancel()
            wake_up()

    async def wait_aside(self, future: asyncio.Future[Any]) -> Any:
        """Wait for something that other steps bring about; meanwhile one of them may have this step's slot.

        Without that, parents in all slots that wait for their children would keep these from ever running.
        """
        executor, execution = self.host.executor, self._execution
        executor.step_aside(execution)
        try:
            return await future
        finally:
            await executor.come_back(execution)


current_scope: ContextVar[StepScope | None] = ContextVar("grctl_scope", default=None)
"""The scope of the handler that is running. None outside of handlers."""


def new_operation_id(operation: str) -> str:
    """Return the id of something that a handler does (docs/protocol.md, section 3)."""
    return f"{operation}:{os.urandom(8).hex()}"
