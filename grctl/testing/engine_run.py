"""EngineRun: one run on a ManualEngine, as a test looks at it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Generic

from grctl.testing.run_report import run_report
from grctl.timeline.units import duration_text
from grctl_core.durations import Duration
from grctl_core.history import HistoryEvent
from grctl_core.outcome import ErrorDetails, Outcome
from grctl_core.run import RunInfo, RunStatus

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from grctl.testing.manual_engine import ManualEngine
    from grctl_core.handle import WorkflowHandle

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["EngineRun"]


_VERBS = {
    RunStatus.COMPLETED: "complete",
    RunStatus.FAILED: "fail",
    RunStatus.TIMED_OUT: "time out",
    RunStatus.CANCELLED: "be cancelled",
    RunStatus.TERMINATED: "be terminated",
}


class EngineRun(Generic[T]):
    """A run on a :class:`ManualEngine`: what it has done is at hand, its end is asserted.

    >>> assert run.steps == ["start", "remind"]
    >>> assert await run.completed() == "reminded"

    Made by :meth:`ManualEngine.start` and :meth:`ManualEngine.run`.
    """

    def __init__(self, engine: ManualEngine, handle: WorkflowHandle[T]) -> None:
        self._engine = engine
        self.handle = handle
        """The client's handle: queries, and all else that a client can do."""

    def __repr__(self) -> str:
        return f"<EngineRun {self.info.wf_type} {self.info.wf_id!r}: {self.status}, steps {self.steps}>"

    # What it has done: as it is now, without waiting.

    @property
    def info(self) -> RunInfo:
        """Its record."""
        return self._engine.engine.find_run(self.handle.run_info.ref) or self.handle.run_info

    @property
    def status(self) -> RunStatus | None:
        """Where it stands."""
        return self.info.status

    @property
    def is_finished(self) -> bool:
        """Whether it has ended."""
        return self.info.is_finished

    @property
    def history(self) -> list[HistoryEvent]:
        """What has happened in it."""
        return self._engine.engine.events(self.handle.run_info.ref)

    @property
    def kinds(self) -> list[str]:
        """The kinds of its history's events: ``["run.started", "step.started", ...]``."""
        return [event.kind for event in self.history]

    @property
    def steps(self) -> list[str]:
        """The names of the steps that have begun, in order; that of an event's handler is the event's."""
        return self._names("step.started", "step_name")

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks that have begun, in order. One that is tried again is there once."""
        return self._names("task.started", "task_name")

    @property
    def events(self) -> list[str]:
        """The names of the events that it has received, in order; they may wait in its inbox."""
        return self._names("event.received", "event_name")

    @property
    def timeline(self) -> str:
        """What took how long in it, drawn 100 columns wide: ``print(run.timeline)``."""
        return run_report(self.info, self.history, self._engine.now, 100)

    def _names(self, kind: str, key: str) -> list[str]:
        return [event.data[key] for event in self.history if event.kind == kind]

    # What a test does to it. All of it lets the engine settle, so what it brings about can be asserted at once.

    async def send(self, event_name: str, payload: object = None) -> None:
        """Send an event, and let the workflow handle it. Errors as a handle's ``send``."""
        await self.handle.send(event_name, payload)
        await self._engine.settle()

    async def cancel(self, reason: str = "") -> None:
        """Ask the run to end, and let it. Errors as a handle's ``cancel``."""
        await self.handle.cancel(reason)
        await self._engine.settle()

    async def terminate(self, reason: str = "") -> None:
        """End the run at once. Errors as a handle's ``terminate``."""
        await self.handle.terminate(reason)
        await self._engine.settle()

    # How it ends.

    async def ended(self, *, within: Duration | None = None) -> Outcome[T]:
        """Move the time on until the run has ended; return how.

        Each move goes to the moment at which something is due next, in this run or another. While a step waits for
        something outside of the engine time stands still.

        Args:
            within: how far the time may be moved at most; None for as far as it takes.

        Raises:
            TimeoutError: it has not ended within that; or is stuck, see :meth:`ManualEngine.advance_until`.

        """
        __tracebackhide__ = True
        try:
            return await self._engine.advance_until(self.handle.outcome(), within=within)
        except TimeoutError as error:
            raise TimeoutError(f"{self._name()} has not ended: {error}") from None

    async def completed(self, *, within: Duration | None = None) -> T:
        """Move the time on until the run has ended, and assert that it completed; return its result.

        Args:
            within: as for :meth:`ended`.

        Raises:
            AssertionError: it has ended otherwise.
            TimeoutError: as :meth:`ended`.
            DecodeError: the result is not of the type that was asked for.

        """
        __tracebackhide__ = True
        outcome = await self._ended_as(RunStatus.COMPLETED, within)
        return outcome.unwrap()

    async def failed(
        self, type: str | None = None, *, match: str | None = None, within: Duration | None = None
    ) -> ErrorDetails:
        """Move the time on until the run has ended, and assert that it failed; return why.

        Args:
            type: the error's type, such as ``"CardDeclined"``; None for any.
            match: a regular expression that is to be found in the error's message.
            within: as for :meth:`ended`.

        Raises:
            AssertionError: it has ended otherwise, or failed for another reason.
            TimeoutError: as :meth:`ended`.

        """
        __tracebackhide__ = True
        outcome = await self._ended_as(RunStatus.FAILED, within)
        error = outcome.error or ErrorDetails("UnknownError", "")
        if type is not None and error.type != type:
            raise AssertionError(f"{self._name()} was to fail with a {type}, but failed with {_error(error)}")
        if match is not None and not re.search(match, error.message):
            raise AssertionError(f"{self._name()} failed, but its message does not match {match!r}: {_error(error)}")
        return error

    async def timed_out(self, *, within: Duration | None = None) -> None:
        """As :meth:`completed`: assert that the run exceeded its ``workflow_timeout``."""
        __tracebackhide__ = True
        await self._ended_as(RunStatus.TIMED_OUT, within)

    async def cancelled(self, *, within: Duration | None = None) -> str:
        """As :meth:`completed`: assert that the run was cancelled; return the reason."""
        __tracebackhide__ = True
        return (await self._ended_as(RunStatus.CANCELLED, within)).reason

    async def terminated(self, *, within: Duration | None = None) -> str:
        """As :meth:`completed`: assert that the run was terminated; return the reason."""
        __tracebackhide__ = True
        return (await self._ended_as(RunStatus.TERMINATED, within)).reason

    async def _ended_as(self, status: RunStatus, within: Duration | None) -> Outcome[T]:
        __tracebackhide__ = True
        outcome = await self.ended(within=within)
        if outcome.status is status:
            return outcome
        raise AssertionError(f"{self._name()} was to {_VERBS[status]}, but {_how(outcome)}")

    def _name(self) -> str:
        return f"{self.info.wf_type} {self.info.wf_id!r}"


def _how(outcome: Outcome[Any]) -> str:
    run = outcome.run
    began = run.started_at or run.created_at
    after = "" if run.completed_at is None else f" after {duration_text(run.completed_at - began)}"
    if outcome.completed:
        return f"completed{after} with {outcome.result!r:.500}"
    if outcome.error is not None:
        return f"failed{after}: {_error(outcome.error)}"
    verb = "timed out" if outcome.status is RunStatus.TIMED_OUT else f"was {outcome.status}"
    return f"{verb}{after}{f': {outcome.reason}' if outcome.reason else ''}"


def _error(error: ErrorDetails) -> str:
    return f"{error.type}: {error.message}"
