"""Reconcile: what a doubt about an earlier attempt means for the next one.

Each operation that changes something has a class here whose ``proceed`` makes one attempt. It remembers whether an
earlier attempt may have been carried out, so it does not matter who calls it again, or how often:

- start: looks for the run, and sends again only what is certainly not there, with the same run id.
- send: is not repeated, unless the caller called it idempotent.
- cancel, terminate: are repeated only after the run was seen not to have ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from grctl_core.attempt import Fate
from grctl_core.calls import CancelCall, CommandCall, SendCall, StartCall, TerminateCall
from grctl_core.commands import (
    CancelCommand,
    Command,
    DescribeCommand,
    ErrorCode,
    EventCommand,
    StartCommand,
    TerminateCommand,
)
from grctl_core.doubt import DoubtBounds, Reach, poll, still
from grctl_core.errors import (
    DeliveryUnknownError,
    GrctlError,
    NotSentError,
    PluginError,
    WorkflowAlreadyRunningError,
    WorkflowFinishedError,
    WorkflowNotFoundError,
)
from grctl_core.flights import Flights
from grctl_core.run import RunInfo, RunStatus
from grctl_core.wire import Wire, refusal

__all__ = ["EndAttempts", "SendAttempts", "StartAttempts"]
Check: TypeAlias = Callable[[str, str, float], Awaitable[None]]
"""Looks whether a workflow type handles an event, as ``TypeCache.check_event``."""


_ENDED_AS_ASKED = (RunStatus.CANCELLED, RunStatus.TERMINATED)
"""Ends that a cancel or terminate in doubt may have brought about."""


class _Attempts:
    """What is known of one operation's earlier attempts: done, in doubt (``_doubt`` is set), or certainly not done.

    Attributes:
        call: the call, as the retry slot passed it on the last time.
    """

    __slots__ = ("_doubt", "_operation", "_run", "_wire", "call")

    def __init__(self, wire: Wire, call: CommandCall) -> None:
        self._wire = wire
        self.call: Any = call
        self._operation = call.operation
        self._run = call.run
        self._doubt: DeliveryUnknownError | None = None

    def out_of_time(self) -> GrctlError:
        """Return what the call ends in when its deadline passes."""
        if self._doubt is not None:
            return still(self._doubt, "and the call's deadline has passed")
        run = self._run
        return NotSentError(f"the {self._operation} of workflow {run.wf_id!r} was not sent before its deadline")

    async def _send(self, command: Command, timeout: float) -> None:
        """Send the command; return when the server accepted it. What leaves a doubt is remembered.

        An attempt layer may fail, give up, or raise what another connection told it. It is the word of our connection
        alone that says that nothing was done.
        """
        fate = Fate() if self._wire.has_layers else None
        try:
            reply = await self._wire.send(self.call, command, timeout, fate)
            if not reply.success:
                raise refusal(reply, self._operation, self._run)
        except DeliveryUnknownError as error:
            error.operation, error.run = self._operation, self._run
            if self._doubt is not None and self._doubt.link != error.link:
                error.link = None  # two attempts in doubt on two links: neither link's answer settles both
            self._doubt = error
            raise
        except BaseException as error:
            if isinstance(error, GrctlError) if fate is None else not fate.is_open:
                raise
            self._doubt = self._new_doubt(f"was given up ({type(error).__name__})")
            if isinstance(error, GrctlError) and not isinstance(error, PluginError):
                raise self._doubt from error  # it says of this command what is not so
            raise

    def _new_doubt(self, what: str) -> DeliveryUnknownError:
        run = self._run
        return DeliveryUnknownError(
            f"the {self._operation} of workflow {run.wf_id!r} {what} (run {run.run_id})",
            operation=self._operation,
            run=run,
        )


class StartAttempts(_Attempts):
    """The attempts of one start."""

    __slots__ = ("_bounds", "_command", "_started")

    def __init__(self, wire: Wire, call: StartCall, command: StartCommand, bounds: DoubtBounds) -> None:
        super().__init__(wire, call)
        self._command = command
        self._bounds = bounds
        self._started: RunInfo | None = None

    async def proceed(self, call: StartCall) -> RunInfo:
        """Make one attempt, if the run is not there already; return the record of the run that was started."""
        self.call = call
        if self._started is not None:
            return self._started
        run, timeout = self._command.run, call.request_timeout
        reach = None
        if self._doubt is not None:
            reach = Reach(self._bounds.reached_within)
            found = await self._look(self._doubt, reach, timeout)
            if found is not None and self._doubt is not None:
                self._started = await self._begun(found, self._doubt, reach, timeout)
                return self._started
        earlier = self._doubt
        try:
            await self._send(self._command, timeout)
            self._started = run
        except DeliveryUnknownError:
            raise
        except GrctlError as error:
            if isinstance(error, WorkflowAlreadyRunningError) and error.run_id == run.id:
                # The active run is ours: this message came twice, or an attempt that was thought lost did arrive.
                self._doubt = self._new_doubt("is recorded")
                reach = reach or Reach(self._bounds.reached_within)
                self._started = await self._begun(run, self._doubt, reach, timeout)
            elif earlier is None:
                raise
            else:
                raise still(earlier, f"and sending it again failed: {error}") from error
        return self._started

    async def _look(self, doubt: DeliveryUnknownError, reach: Reach, timeout: float) -> RunInfo | None:
        """Return our run's record if it is there; None when the start is certainly, or most likely, not done."""
        run = self._run

        def find() -> Awaitable[RunInfo | None]:
            return self._wire.find_run(run, timeout)

        try:
            reply = await reach(lambda: self._wire.send(self.call, DescribeCommand(wf_id=run.wf_id), timeout))
            if reply.run is not None and reply.run.id == run.run_id:
                return reply.run
            if reply.error is not None and reply.error.code != ErrorCode.NOT_FOUND:
                raise refusal(reply, "describe", run, changes_state=False)
            found = await reach(find)
        except GrctlError as error:
            raise still(doubt, f"and looking for it failed: {error}") from error
        if found is None and doubt.link is not None and reply.link == doubt.link:
            self._doubt = None  # over the same connection the describe came after the start: it would be seen
            return None
        if found is not None:
            return found
        return await poll(find, self._bounds.quarantine, reach, doubt)

    async def _begun(self, found: RunInfo, doubt: DeliveryUnknownError, reach: Reach, timeout: float) -> RunInfo:
        """Return the record of our run once it has begun: a record alone may never do so."""
        if found.started_at is not None or found.is_finished:
            return found

        async def begun() -> RunInfo | None:
            return found if await self._wire.has_begun(self._run, timeout) else None

        if await poll(begun, self._bounds.begun_within, reach, doubt) is None:
            raise still(doubt, f"it is recorded but has not begun within {self._bounds.begun_within} s")
        return found


class SendAttempts(_Attempts):
    """The attempts of one send."""

    __slots__ = ("_check", "_command", "_delivered")

    def __init__(self, wire: Wire, call: SendCall, command: EventCommand, check: Check | None = None) -> None:
        super().__init__(wire, call)
        self._check = check
        self._command = command
        self._delivered = False

    async def proceed(self, call: SendCall) -> None:
        """Make one attempt, unless an earlier one has delivered the event, or may have."""
        self.call = call
        if self._delivered:
            return
        earlier = self._doubt
        if earlier is not None and not call.idempotent:
            raise earlier
        if self._check is not None:
            await self._check(self._run.wf_type or "", call.event_name, call.request_timeout)
            self._check = None  # once: nothing that fails here may hide a later doubt
        try:
            await self._send(self._command, call.request_timeout)
        except DeliveryUnknownError:
            raise
        except GrctlError as error:
            if earlier is None:
                raise
            raise still(earlier, f"and sending it again failed: {error}") from error
        self._delivered = True


class EndAttempts(_Attempts):
    """The attempts of one cancel or terminate: each looks first, as the command goes to the latest run of the id.

    Of one run one is under way at a time: who asks for the same meanwhile joins it, and ends as it does.
    """

    __slots__ = ("_accepted", "_bounds", "_command", "_flights")

    def __init__(
        self,
        wire: Wire,
        call: CancelCall | TerminateCall,
        command: CancelCommand | TerminateCommand,
        bounds: DoubtBounds,
        flights: Flights,
    ) -> None:
        super().__init__(wire, call)
        self._command = command
        self._bounds = bounds
        self._flights = flights
        self._accepted = False

    async def proceed(self, call: CancelCall | TerminateCall) -> None:
        """Make one attempt, if the run goes on, or join one that is under way.

        Raises:
            WorkflowFinishedError: it has ended otherwise, or before an attempt was made.
            WorkflowNotFoundError: there is no such run.

        """
        self.call = call
        if self._accepted:
            return
        try:
            await self._flights.join(self._run, self._operation, self._attempt, call.request_timeout)
        except DeliveryUnknownError as error:
            self._doubt = error  # also the doubt of the attempt that was joined: it is ours as much
            raise
        self._accepted = True

    def out_of_time(self) -> GrctlError:
        """As for all; where another caller's command is under way that is joined, what it does is unknown."""
        if self._doubt is None and self._flights.is_under_way(self._run, self._operation):
            return self._new_doubt("is on its way, and was not answered before the call's deadline")
        return super().out_of_time()

    async def _attempt(self) -> None:
        timeout = self.call.request_timeout
        earlier = self._doubt
        try:
            ended = await self._look(timeout)
            if ended is None:
                ended = await self._end(timeout)
            if ended is not None and (earlier is None or ended.status not in _ENDED_AS_ASKED):
                raise self._finished(f"has ended ({ended.status})")
        except (DeliveryUnknownError, WorkflowFinishedError):
            raise
        except GrctlError as error:
            if earlier is None:
                raise
            raise still(earlier, f"and trying again failed: {error}") from error

    async def _end(self, timeout: float) -> RunInfo | None:
        """Send the command; return the run's record where an earlier attempt, or the run itself, was faster."""
        earlier = self._doubt
        try:
            await self._send(self._command, timeout)
        except WorkflowFinishedError as error:
            if earlier is None:
                raise
            ended = await self._look(timeout)
            if ended is None:
                raise still(earlier, "it has ended since, and its record does not say how") from error
            return ended
        return None

    async def _look(self, timeout: float) -> RunInfo | None:
        """Return the run's record if it has ended, None if it goes on; raise if the command would hit another run."""
        run, operation = self._run, self._operation
        reach = Reach(0.0 if self._doubt is None else self._bounds.reached_within)
        try:
            reply = await reach(lambda: self._wire.send(self.call, DescribeCommand(wf_id=run.wf_id), timeout))
            if not reply.success:
                raise refusal(reply, operation, run, changes_state=False)
            latest = found = reply.run
            if latest is None or latest.id != run.run_id:
                found = await reach(lambda: self._wire.find_run(run, timeout))
        except DeliveryUnknownError as error:
            raise NotSentError(f"{operation} not sent: looking at the run first failed: {error}") from error
        if found is None:
            raise WorkflowNotFoundError(f"run {run.run_id} of workflow {run.wf_id!r} is not known")
        if found.is_finished:
            return found
        if found is not latest:
            other = latest.id if latest else "unknown"
            refused = self._finished(f"is no longer the latest, and the {operation} would go to run {other}")
            raise refused if self._doubt is None else still(self._doubt, f"and it cannot be tried again: {refused}")
        return None

    def _finished(self, why: str) -> WorkflowFinishedError:
        run = self._run
        return WorkflowFinishedError(f"{self._operation} refused: run {run.run_id} of workflow {run.wf_id!r} {why}")
