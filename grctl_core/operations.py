"""Operations: what each call by the user does, from its values to commands, between the layers and the wire."""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from grctl_core.calls import CancelCall, DescribeCall, QueryCall, ResultCall, SendCall, StartCall, TerminateCall
from grctl_core.codec import decode, encode
from grctl_core.commands import (
    CancelCommand,
    DescribeCommand,
    ErrorCode,
    EventCommand,
    QueryCommand,
    StartCommand,
    TerminateCommand,
)
from grctl_core.deadline import Deadlines
from grctl_core.doubt import DoubtBounds
from grctl_core.errors import (
    DecodeError,
    DeliveryUnknownError,
    NotSentError,
    UnsupportedOperationError,
    WorkflowAlreadyRunningError,
    WorkflowFinishedError,
    WorkflowNotFoundError,
)
from grctl_core.flights import Flights
from grctl_core.outcome import Outcome
from grctl_core.pipeline import Pipeline
from grctl_core.protocols import Connection
from grctl_core.reconcile import EndAttempts, SendAttempts, StartAttempts
from grctl_core.run import RunInfo, RunRef
from grctl_core.type_cache import TypeCache
from grctl_core.wire import Wire, in_time, refusal

__all__ = ["Operations"]

_REPLACEMENTS = 5
"""How often a start with on_conflict="terminate" ends a run that came up meanwhile, before it gives up."""


class Operations:
    """The operations of one client, each with its layers around it.

    Attributes:
        start, send, cancel, terminate, describe, query, result: take a call of grctl_core.calls.
        pipeline: the layers.
        check_retry: checks what a caller passed as ``retry=``.
    """

    def __init__(self, connection: Connection, pipeline: Pipeline, bounds: DoubtBounds) -> None:
        self._connection = connection
        self.pipeline = pipeline
        self.check_retry = pipeline.check_retry
        self._wire = Wire(connection, pipeline)
        self._listen()
        self._bounds = bounds
        self._types = TypeCache(self._wire)
        self._flights = Flights()
        self._deadlines = Deadlines()

        around = pipeline.around_operation
        self.start: Callable[[StartCall], Awaitable[RunInfo]] = around("start", self._start)
        self.send: Callable[[SendCall], Awaitable[None]] = around("send", self._send)
        self.cancel: Callable[[CancelCall], Awaitable[None]] = around("cancel", self._cancel)
        self.terminate: Callable[[TerminateCall], Awaitable[None]] = around("terminate", self._terminate)
        self.describe: Callable[[DescribeCall], Awaitable[RunInfo]] = around("describe", self._describe)
        self.query: Callable[[QueryCall], Awaitable[Any]] = around("query", self._query)
        self.result: Callable[[ResultCall], Awaitable[Outcome[Any]]] = around("result", self._result)

    def _listen(self) -> None:
        """Have the plugins told of the connection, as long as a client or one of its handles is there."""
        notifications = self.pipeline.notifications
        if notifications.on_connection_changed:
            tell = functools.partial(notifications.connection_changed, self._connection)
            weakref.finalize(self, self._connection.add_listener(tell)).atexit = False

    async def _start(self, call: StartCall) -> RunInfo:
        run = RunInfo(
            id=call.run.run_id,
            wf_id=call.run.wf_id,
            wf_type=call.workflow_type or "",
            timeout=call.workflow_timeout,
            created_at=datetime.now(UTC),
        )
        # A run has one start, so its id is the command's, too.
        command = StartCommand(
            id=run.id,
            wf_id=run.wf_id,
            run=run,
            input=None if call.workflow_input is None else encode("workflow_input", call.workflow_input),
            created_at=run.created_at,
        )
        attempts = StartAttempts(self._wire, call, command, self._bounds)
        for replaced in range(_REPLACEMENTS + 1):
            try:
                started: RunInfo = await self._attempts(call, attempts.proceed, attempts.out_of_time)
            except WorkflowAlreadyRunningError as error:
                call = attempts.call  # its deadline is one for all that a start does
                if call.on_conflict == "attach":
                    return await self._attach(call, error)
                if call.on_conflict == "raise" or error.run_id is None or replaced == _REPLACEMENTS:
                    raise
                await self._replace(call, error)
            else:
                return started
        raise AssertionError("not reached")

    async def _attach(self, call: StartCall, conflict: WorkflowAlreadyRunningError) -> RunInfo:
        """Return the record of the run that is active already, if it is of the same type."""
        wf_id = call.run.wf_id
        active = RunRef(wf_id, conflict.run_id or "")
        try:
            found = await self._describe(call.part(DescribeCall, run=active))
        except DeliveryUnknownError as error:
            raise conflict from error  # nothing was started: only the look at the active run failed
        if found.wf_type != call.workflow_type:
            raise WorkflowAlreadyRunningError(
                f"cannot attach: the active run {found.id} of workflow {wf_id!r} is of type {found.wf_type!r}, "
                f"not {call.workflow_type!r}",
                run_id=found.id,
                code=conflict.code,
                detail=conflict.detail,
            ) from conflict
        return found

    async def _replace(self, call: StartCall, conflict: WorkflowAlreadyRunningError) -> None:
        """Terminate the run that is active, and wait for its end.

        Raises:
            WorkflowAlreadyRunningError: the terminate is in doubt, or could not be sent as a look at the run timed
                out; or the run has not ended within the request timeout.

        """
        run = RunRef(call.run.wf_id, conflict.run_id or "")
        try:
            await self._terminate(
                call.part(
                    TerminateCall,
                    run=run,
                    reason=f"replaced by run {call.run.run_id} (on_conflict='terminate')",
                )
            )
            patience = call.request_timeout
            if call.deadline is not None:
                patience = max(0.0, min(patience, call.deadline - asyncio.get_running_loop().time()))
            await in_time(self._connection.watch(run), patience, "it has not ended")
        except (WorkflowFinishedError, WorkflowNotFoundError):
            return  # it ended by itself, or its records are gone
        except (DeliveryUnknownError, NotSentError) as error:
            raise WorkflowAlreadyRunningError(
                f"nothing was started: run {run.run_id} of workflow {run.wf_id!r} was to be terminated first, and is "
                f"not known to have ended: {error}",
                run_id=conflict.run_id,
                code=conflict.code,
                detail=conflict.detail,
            ) from error

    async def _send(self, call: SendCall) -> None:
        check = self._types.check_event if call.check_event and call.run.wf_type is not None else None
        command = EventCommand(
            wf_id=call.run.wf_id,
            run=call.run,
            event_name=call.event_name,
            payload=None if call.payload is None else encode(f"payload of event {call.event_name!r}", call.payload),
        )
        attempts = SendAttempts(self._wire, call, command, check)
        await self._attempts(call, attempts.proceed, attempts.out_of_time)

    async def _cancel(self, call: CancelCall) -> None:
        await self._end(call, CancelCommand(wf_id=call.run.wf_id, reason=call.reason))

    async def _terminate(self, call: TerminateCall) -> None:
        await self._end(call, TerminateCommand(wf_id=call.run.wf_id, reason=call.reason))

    async def _end(self, call: CancelCall | TerminateCall, command: CancelCommand | TerminateCommand) -> None:
        attempts = EndAttempts(self._wire, call, command, self._bounds, self._flights)
        await self._attempts(call, attempts.proceed, attempts.out_of_time)

    async def _describe(self, call: DescribeCall) -> RunInfo:
        async def look(call: DescribeCall) -> RunInfo:
            run, timeout = call.run, call.request_timeout
            reply = await self._wire.send(call, DescribeCommand(wf_id=run.wf_id), timeout)
            latest = reply.run
            if latest is None and not (run.run_id and reply.error and reply.error.code == ErrorCode.NOT_FOUND):
                raise refusal(reply, "describe", run, changes_state=False)
            if latest is not None and run.run_id in ("", latest.id):
                return latest
            found = await self._wire.find_run(run, timeout)  # an older run: the server describes the latest alone
            if found is None:
                raise WorkflowNotFoundError(f"run {run.run_id} of workflow {run.wf_id!r} is not known")
            return found

        found: RunInfo = await self._attempts(call, look)
        return found

    async def _query(self, call: QueryCall) -> Any:
        if not self._connection.capabilities.queries:
            raise UnsupportedOperationError(
                "this connection's server answers no queries: only the embedded engine does (memory://)"
            )
        command = QueryCommand(
            wf_id=call.run.wf_id,
            run_id=call.run.run_id,
            query_name=call.query_name,
            arguments=encode(f"arguments of query {call.query_name!r}", call.arguments) if call.arguments else None,
        )

        async def ask(call: QueryCall) -> Any:
            reply = await self._wire.send(call, command, call.request_timeout)
            if not reply.success:
                raise refusal(reply, "query", call.run, changes_state=False)
            try:
                return None if reply.payload is None else decode(reply.payload)
            except DecodeError as error:
                raise DecodeError(f"the answer to query {call.query_name!r} cannot be decoded: {error}") from None

        return await self._attempts(call, ask)

    async def _result(self, call: ResultCall) -> Outcome[Any]:
        return await call.end.wait()

    async def _attempts(
        self, call: Any, attempt: Callable[[Any], Awaitable[Any]], out_of_time: Callable[[], Exception] | None = None
    ) -> Any:
        """Make the attempts that the retry slot wants; with none there one, and one look where that left a doubt."""

        def within_deadline(call: Any, task: asyncio.Task[Any] | None = None) -> Awaitable[Any]:
            return attempt(call) if call.deadline is None else self._deadlines.bound(call, attempt, out_of_time, task)

        is_bounded = call.deadline is not None or self.pipeline.retry is not None  # a retry plugin sets deadlines
        try:
            return await self.pipeline.try_with(within_deadline if is_bounded else attempt, call)
        except DeliveryUnknownError as error:
            if error.operation is None:  # a transport knows commands, not operations
                error.operation, error.run = call.operation, call.run
            raise
