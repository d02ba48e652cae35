"""WorkflowHandle: one run, as its caller sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic

from grctl_core.calls import (
    DEFAULT_RETRY,
    CancelCall,
    DescribeCall,
    QueryCall,
    ResultCall,
    SendCall,
    TerminateCall,
)
from grctl_core.durations import Duration, to_seconds
from grctl_core.errors import InvalidInputError, WorkflowFinishedError
from grctl_core.event_loop import running_loop
from grctl_core.history import HistoryEvent
from grctl_core.ids import check_event_name, check_query_name
from grctl_core.operations import Operations
from grctl_core.outcome import Outcome
from grctl_core.protocols import Connection
from grctl_core.run import RunInfo
from grctl_core.run_end import RunEnd
from grctl_core.secret import Secret
from grctl_core.send_order import SendOrder

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["WorkflowHandle"]


class WorkflowHandle(Generic[T]):
    """A handle to one run. It stays with that run, also when a newer run of the same workflow id begins.

    Made by a client; belongs to the client's event loop. Dropping it does nothing to the run.
    """

    # There may be a hundred thousand of them: what a handle needs only if it is used is made when it is.
    __slots__ = (
        "__weakref__",
        "_connection",
        "_end",
        "_made_order",
        "_operations",
        "_refused",
        "_request_timeout",
        "_result_type",
        "_run",
        "_run_info",
        "_state",
    )

    def __init__(
        self,
        operations: Operations,
        connection: Connection,
        run_info: RunInfo,
        result_type: Any,
        request_timeout: float,
        *,
        state: Mapping[str, Any],
    ) -> None:
        self._operations = operations
        self._connection = connection
        self._run_info = run_info
        self._run = run_info.ref
        self._result_type = result_type
        self._request_timeout = request_timeout
        self._state = state
        self._end = RunEnd(connection, self._run, result_type, operations.pipeline.notifications, state)
        self._made_order: SendOrder | None = None
        self._refused = False  # the server, or the run's record, said that the run has ended

    @property
    def _order(self) -> SendOrder:
        if self._made_order is None:
            self._made_order = SendOrder()
        return self._made_order

    @property
    def run_info(self) -> RunInfo:
        """What was last learned of the run: at its start, by :meth:`describe`, or at its end. Asks nobody."""
        return self._end.run or self._run_info

    @property
    def future(self) -> asyncio.Future[T]:
        """A future of the run's end: the result, or the error that :meth:`result` raises.

        While the run goes on each look gives a future of your own, so ``asyncio.wait_for`` that gives up on it, which
        cancels it, harms neither the handle nor anybody else who waits. Cancelling it does nothing to the run. After
        the end it is always the same, settled one.

        Raises:
            EventLoopError: looked at outside the event loop of the connection.
            ConnectionClosedError: the connection was closed before the end was known.

        """
        return self._end.future()

    async def result(self, timeout: Duration | None = None) -> T:
        """Wait for the end and return the result.

        Args:
            timeout: how long to wait at most, in seconds or as a timedelta; None waits for ever. The run goes on.

        Raises:
            WorkflowError: the run failed.
            WorkflowTimeoutError: the run exceeded its workflow_timeout.
            WorkflowCancelledError: the run was cancelled. A plain CancelledError is the cancellation of your own task.
            WorkflowTerminatedError: the run was terminated.
            TimeoutError: the waiting took longer than ``timeout``.
            WorkflowNotFoundError: the run's records are gone.
            DecodeError: the result is not of the type that was asked for.
            ConnectionClosedError: the connection was closed.

        """
        return (await self.outcome(timeout)).unwrap()

    async def outcome(self, timeout: Duration | None = None) -> Outcome[T]:
        """Wait for the end and return how the run ended: never raises for that. The best way in servers.

        Args:
            timeout: as for :meth:`result`.

        Raises:
            TimeoutError, WorkflowNotFoundError, DecodeError, ConnectionClosedError: as :meth:`result`.

        """
        call = ResultCall(run=self._run, end=self._end, handle_state=self._state)
        if timeout is None:
            return await self._operations.result(call)
        seconds = to_seconds("timeout", timeout)
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await self._operations.result(call)
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(
                f"workflow {self._run.wf_id!r} (run {self._run.run_id}) has not ended within {seconds:g} s; it goes on"
            ) from None

    async def send(
        self,
        event_name: str,
        payload: object = None,
        *,
        check_event: bool = True,
        idempotent: bool = False,
        request_timeout: Duration | None = None,
        retry: object = DEFAULT_RETRY,
    ) -> None:
        """Send an event to the run. Events of one handle arrive in the order of the calls.

        Returning means that the server accepted the event, not that the workflow has handled it. The server gives an
        event to the latest run of the workflow id: where this handle's run has ended without the handle knowing, and a
        newer one runs, a server takes it for that one (the embedded engine refuses it).

        Args:
            event_name: an event that the workflow type handles.
            payload: a map is spread as keyword arguments of the handler, any other value is its single argument,
                None passes nothing.
            check_event: make sure first that the workflow type handles such an event; one that it does not handle
                would block the run's later events and fail the run.
            idempotent: the workflow takes no harm when the event arrives twice, so it may be repeated when it is
                unknown whether it arrived.
            request_timeout: how long one attempt may take; None for the client's.
            retry: how to try again, as the retry plugin takes it; None for not at all.

        Raises:
            InvalidInputError: the name is no event of the workflow type, or the payload cannot be encoded.
            WorkflowFinishedError: the run has ended.
            WorkflowNotFoundError: there is no such run.
            NotSentError: nothing was sent; also when an earlier event of this handle failed while this one queued.
            NotDeliveredError: no server took it.
            DeliveryUnknownError: it may have arrived.

        """
        given = Secret(payload)
        del payload  # no traceback is to show it
        call = SendCall(
            run=self._run,
            event_name=check_event_name(event_name),
            payload=given.reveal(),
            check_event=check_event,
            idempotent=idempotent,
            request_timeout=self._timeout(request_timeout),
            retry=self._operations.check_retry(retry),
            handle_state=self._state,
        )
        async with self._order:
            if self._refused or self.run_info.is_finished:
                how = f" ({self.run_info.status})" if self.run_info.is_finished else ""
                raise WorkflowFinishedError(
                    f"event {event_name!r} not sent: run {self._run.run_id} of workflow {self._run.wf_id!r} has "
                    f"ended{how}"
                )
            await self._change(self._operations.send(call))

    async def query(
        self,
        query_name: str,
        /,
        *,
        request_timeout: Duration | None = None,
        retry: object = DEFAULT_RETRY,
        **arguments: object,
    ) -> Any:
        """Ask a query handler of the run, also after the run's end.

        Args:
            query_name: a query that the workflow type answers.
            request_timeout: how long one attempt may take; None for the client's.
            retry: as for :meth:`send`.
            **arguments: the handler's arguments.

        Raises:
            UnsupportedOperationError: the server answers no queries; only the embedded engine does.
            RefusedError: there is no such query or run, or the handler failed.

        """
        given = Secret(arguments)
        del arguments  # no traceback is to show them
        call = QueryCall(
            run=self._run,
            query_name=check_query_name(query_name),
            arguments=given.reveal(),
            request_timeout=self._timeout(request_timeout),
            retry=self._operations.check_retry(retry),
            handle_state=self._state,
        )
        return await self._operations.query(call)

    async def describe(self, *, request_timeout: Duration | None = None, retry: object = DEFAULT_RETRY) -> RunInfo:
        """Ask the server for the run's present record; :attr:`run_info` has it from then on.

        Raises:
            WorkflowNotFoundError: the run's records are gone.
            NotSentError, NotDeliveredError, DeliveryUnknownError: the server could not be asked.

        """
        found = await self._operations.describe(
            DescribeCall(
                run=self._run,
                request_timeout=self._timeout(request_timeout),
                retry=self._operations.check_retry(retry),
                handle_state=self._state,
            )
        )
        if found.is_finished or not self._run_info.is_finished:  # concurrent answers may come in any order
            self._run_info = found
        return found

    async def cancel(
        self, reason: str = "", *, request_timeout: Duration | None = None, retry: object = DEFAULT_RETRY
    ) -> None:
        """Ask the run to end: at once while it waits, else when its present step has ended.

        Returning means that the server accepted it. Wait with :meth:`outcome` for the end. Concurrent calls for one
        run share one request, and the first one's reason.

        Raises:
            WorkflowFinishedError: the run has ended already, or otherwise since; or a newer run of the workflow id
                would be hit.
            WorkflowNotFoundError: there is no such run.
            NotSentError, NotDeliveredError: nothing was done.
            DeliveryUnknownError: it may take effect, and looking at the run did not settle it; or the request of a
                concurrent call takes longer than this call's timeout.

        """
        call = CancelCall(
            run=self._run,
            reason=_reason(reason),
            request_timeout=self._timeout(request_timeout),
            retry=self._operations.check_retry(retry),
            handle_state=self._state,
        )
        await self._change(self._operations.cancel(call))

    async def terminate(
        self, reason: str = "", *, request_timeout: Duration | None = None, retry: object = DEFAULT_RETRY
    ) -> None:
        """End the run at once; a running step is abandoned. Errors as :meth:`cancel`."""
        call = TerminateCall(
            run=self._run,
            reason=_reason(reason),
            request_timeout=self._timeout(request_timeout),
            retry=self._operations.check_retry(retry),
            handle_state=self._state,
        )
        await self._change(self._operations.terminate(call))

    def history(self, *, follow: bool = False) -> AsyncIterator[HistoryEvent]:
        """Iterate over what happened in the run, from its beginning.

        Args:
            follow: go on with what happens from now on, until the run has ended.

        Raises:
            EventLoopError: called outside an event loop.
            WorkflowNotFoundError: at the first event: the run's records are gone.

        """
        running_loop("handle.history()")
        return self._connection.history(self._run, follow=follow)

    def log_context(self) -> AbstractContextManager[None]:
        """Have the log records of the block, and of tasks begun in it, name this run.

        A logging plugin does it; with none in the client's list it does nothing, so code that is used with any client
        may always say it.
        """
        return self._operations.pipeline.notifications.log_context(self._run)

    def __repr__(self) -> str:
        info = self.run_info
        status = f" {info.status}" if info.status is not None else ""
        return f"<WorkflowHandle {info.wf_type} {info.wf_id!r} run {info.id}{status}>"

    async def _change(self, operation: Awaitable[None]) -> None:
        """Carry out what changes the run, and remember when it is refused as the run has ended."""
        try:
            await operation
        except WorkflowFinishedError:
            self._refused = True
            raise

    def _timeout(self, request_timeout: Duration | None) -> float:
        return self._request_timeout if request_timeout is None else to_seconds("request_timeout", request_timeout)


def _reason(reason: object) -> str:
    if not isinstance(reason, str):
        raise InvalidInputError(f"reason must be a string, not {type(reason).__name__}")
    try:
        reason.encode()
    except UnicodeEncodeError:
        raise InvalidInputError("reason has a lone surrogate: it cannot be sent as UTF-8") from None
    return reason
