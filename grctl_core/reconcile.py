"""Reconcile: what a doubt about an earlier attempt means for the next one.

Each operation that changes something has a class here whose ``proceed`` makes one attempt. It remembers whether an
earlier attempt may have been carried out, so it does not matter who calls it again, or how often:

- start: looks for the run, and sends again only what is certainly not there, with the same run id.
- send: is not repeated, unless the caller called it idempotent.
- cancel, terminate: are repeated only after the run was seen not to have ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from grctl_core.commands import CancelCommand, DescribeCommand, ErrorCode, EventCommand, StartCommand, TerminateCommand
from grctl_core.errors import (
    ConnectionFailedError,
    DeliveryUnknownError,
    GrctlError,
    NotSentError,
    WorkflowAlreadyRunningError,
    WorkflowFinishedError,
    WorkflowNotFoundError,
)
from grctl_core.run import RunInfo, RunRef
from grctl_core.wire import Wire, refusal

__all__ = ["DoubtBounds", "EndAttempts", "SendAttempts", "StartAttempts"]

_FIRST_PAUSE = 0.02


class DoubtBounds(msgspec.Struct, frozen=True, kw_only=True):
    """How long a doubt is looked into, in seconds.

    Attributes:
        begun_within: how long a run that is recorded may take to begin; after that the doubt stays.
        quarantine: how long a start is looked for after a change of connection, before it is sent again. A first
            attempt that a broker holds back for longer than that and delivers after the run ended does harm
            (docs/protocol.md, section 8, 1); no client can bound that delay.
    """

    begun_within: float = 2.0
    quarantine: float = 2.0


class StartAttempts:
    """The attempts of one start."""

    __slots__ = ("_bounds", "_command", "_doubt", "_wire")

    def __init__(self, wire: Wire, command: StartCommand, bounds: DoubtBounds) -> None:
        self._wire = wire
        self._command = command
        self._bounds = bounds
        self._doubt: DeliveryUnknownError | None = None

    async def proceed(self, timeout: float) -> RunInfo:
        """Make one attempt; return the record of the run that was started."""
        if self._doubt is not None:
            found = await self._look(self._doubt, timeout)
            if found is not None:
                return await self._begun(found, self._doubt)
        return await self._send(timeout)

    async def _send(self, timeout: float) -> RunInfo:
        run = self._command.run
        try:
            reply = await self._wire.send(self._command, timeout)
            if reply.success:
                return run
            raise refusal(reply, "start", run.ref)
        except DeliveryUnknownError as error:
            self._doubt = _about(error, "start", run.ref)
            raise
        except ConnectionFailedError as error:
            if self._doubt is None:
                raise
            raise _still(self._doubt, f"and sending it again failed: {error}") from error
        except WorkflowAlreadyRunningError as error:
            if error.run_id != run.id:
                raise
            # The active run is ours: this message came twice, or an attempt that was thought lost did arrive.
            doubt = DeliveryUnknownError(
                f"the start of workflow {run.wf_id!r} is recorded (run {run.id})", operation="start", run=run.ref
            )
            return await self._begun(run, doubt)

    async def _look(self, doubt: DeliveryUnknownError, timeout: float) -> RunInfo | None:
        """Return our run's record if it is there; None when the start is certainly, or most likely, not done."""
        run = self._command.run.ref
        try:
            reply = await self._wire.send(DescribeCommand(wf_id=run.wf_id), timeout)
            if reply.run is not None and reply.run.id == run.run_id:
                return reply.run
            if reply.error is not None and reply.error.code != ErrorCode.NOT_FOUND:
                raise refusal(reply, "describe", run, changes_state=False)
            found = await self._wire.connection.find_run(run)
        except GrctlError as error:
            raise _still(doubt, f"and looking for it failed: {error}") from error
        if found is None and doubt.link is not None and reply.link == doubt.link:
            self._doubt = None  # over the same connection the describe came after the start: it would be seen
            return None
        if found is not None:
            return found
        return await _poll(lambda: self._wire.connection.find_run(run), self._bounds.quarantine, doubt)

    async def _begun(self, found: RunInfo, doubt: DeliveryUnknownError) -> RunInfo:
        """Return the record of our run once it has begun: a record alone may never do so."""
        if found.started_at is not None or found.is_finished:
            return found
        connection, run = self._wire.connection, found.ref

        async def begun() -> RunInfo | None:
            return found if await connection.has_begun(run) else None

        if await _poll(begun, self._bounds.begun_within, doubt) is None:
            raise _still(doubt, f"it is recorded but has not begun within {self._bounds.begun_within} s")
        return found


class SendAttempts:
    """The attempts of one send."""

    __slots__ = ("_command", "_doubt", "_idempotent", "_run", "_wire")

    def __init__(self, wire: Wire, command: EventCommand, run: RunRef, *, idempotent: bool) -> None:
        self._wire = wire
        self._command = command
        self._run = run
        self._idempotent = idempotent
        self._doubt: DeliveryUnknownError | None = None

    async def proceed(self, timeout: float) -> None:
        """Make one attempt, unless an earlier one may have delivered the event."""
        if self._doubt is not None and not self._idempotent:
            raise self._doubt
        try:
            reply = await self._wire.send(self._command, timeout)
            if not reply.success:
                raise refusal(reply, "send", self._run)
        except DeliveryUnknownError as error:
            self._doubt = _about(error, "send", self._run)
            raise


class EndAttempts:
    """The attempts of one cancel or terminate: each looks first, as the command goes to the latest run of the id."""

    __slots__ = ("_command", "_doubt", "_operation", "_run", "_wire")

    def __init__(self, wire: Wire, command: CancelCommand | TerminateCommand, run: RunRef) -> None:
        self._wire = wire
        self._command = command
        self._run = run
        self._operation = "cancel" if isinstance(command, CancelCommand) else "terminate"
        self._doubt: DeliveryUnknownError | None = None

    async def proceed(self, timeout: float) -> None:
        """Make one attempt, if the run goes on.

        Raises:
            WorkflowFinishedError: it has ended, and not because of an earlier attempt.
            WorkflowNotFoundError: there is no such run.

        """
        ended = await self._look(timeout)
        if ended is not None:
            if self._doubt is not None:
                return  # what was asked for is so, whoever brought it about
            raise WorkflowFinishedError(
                f"{self._operation} refused: run {self._run.run_id} of workflow {self._run.wf_id!r} has ended "
                f"({ended.status})"
            )
        try:
            reply = await self._wire.send(self._command, timeout)
            if not reply.success:
                raise refusal(reply, self._operation, self._run)
        except DeliveryUnknownError as error:
            self._doubt = _about(error, self._operation, self._run)
            raise

    async def _look(self, timeout: float) -> RunInfo | None:
        """Return the run's record if it has ended, None if it is the id's latest run and goes on."""
        run = self._run
        try:
            reply = await self._wire.send(DescribeCommand(wf_id=run.wf_id), timeout)
        except DeliveryUnknownError as error:
            if self._doubt is not None:
                raise _still(self._doubt, f"and looking at the run failed: {error}") from error
            raise NotSentError(f"{self._operation} not sent: looking at the run first failed: {error}") from error
        if not reply.success:
            raise refusal(reply, self._operation, run, changes_state=False)
        latest = reply.run
        if latest is not None and latest.id == run.run_id:
            return latest if latest.is_finished else None
        found = await self._wire.connection.find_run(run)
        if found is None:
            raise WorkflowNotFoundError(f"run {run.run_id} of workflow {run.wf_id!r} is not known")
        if found.is_finished:
            return found
        raise WorkflowFinishedError(
            f"{self._operation} refused: run {run.run_id} is no longer the latest of workflow {run.wf_id!r}, "
            f"and the {self._operation} would go to run {latest.id if latest else 'unknown'}"
        )


def _about(error: DeliveryUnknownError, operation: str, run: RunRef) -> DeliveryUnknownError:
    error.operation = operation
    error.run = run
    return error


def _still(doubt: DeliveryUnknownError, why: str) -> DeliveryUnknownError:
    return DeliveryUnknownError(f"{doubt}; {why}", operation=doubt.operation, run=doubt.run, link=doubt.link)


async def _poll(
    look: Callable[[], Awaitable[RunInfo | None]], within: float, doubt: DeliveryUnknownError
) -> RunInfo | None:
    """Look again and again, with growing pauses, until something is found or the time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    pause = _FIRST_PAUSE
    while True:
        try:
            found = await look()
        except GrctlError as error:
            raise _still(doubt, f"and looking for it failed: {error}") from error
        remaining = deadline - loop.time()
        if found is not None or remaining <= 0:
            return found
        await asyncio.sleep(min(pause, remaining))
        pause *= 2
