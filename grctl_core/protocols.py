"""The protocols: what a transport implements, and what users of the client may rely on.

A transport moves bytes: it implements :class:`Connection`, and knows nothing of values, retries or middleware.
:class:`Client` and :class:`Handle` are what the core makes of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias, runtime_checkable

import msgspec

from grctl_core.commands import Command, Reply
from grctl_core.durations import Duration
from grctl_core.history import HistoryEvent
from grctl_core.outcome import EncodedOutcome, Outcome
from grctl_core.run import RunFilter, RunInfo, RunRef, RunStatus
from grctl_core.workflow_type import TypeInfo

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = [
    "Capabilities",
    "Client",
    "Connection",
    "ConnectionEvent",
    "ConnectionListener",
    "Handle",
    "OnConflict",
]

OnConflict: TypeAlias = Literal["raise", "attach", "terminate"]
"""What a start does when its workflow id has an active run: raise WorkflowAlreadyRunningError, return a handle to
that run (of the same type only), or terminate it, wait for its end and start."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a transport, and the server behind it, can do.

    Attributes:
        queries: ``handle.query`` works.
        workflow_timeout: the server itself ends runs that exceed their ``workflow_timeout``.
    """

    queries: bool = False
    workflow_timeout: bool = False


class ConnectionEvent(Enum):
    """What became of a connection."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    CLOSED = "closed"


ConnectionListener: TypeAlias = Callable[[ConnectionEvent], None]
"""Called in the connection's event loop; must return at once. What it raises is logged and goes no further."""


@runtime_checkable
class Connection(Protocol):
    """What a transport implements. It belongs to the event loop that it was opened in."""

    @property
    def capabilities(self) -> Capabilities:
        """What this transport, and the server behind it, can do."""

    async def request(self, command: Command, *, timeout: float) -> Reply:
        """Send one command and return the server's reply: one attempt, never repeated here.

        Args:
            command: the command.
            timeout: seconds from the sending; what waits to be sent does not count.

        Raises:
            NotSentError: nothing left this process.
            NotDeliveredError: no server took it.
            DeliveryUnknownError: sent, and no reply came in time; with its ``link``.
            ConnectionClosedError: the connection was closed before it was sent.
            AccessDeniedError: the broker refuses the subject.
            UnsupportedOperationError: this transport has no such command.

        """

    async def ping(self, *, timeout: Duration = 5.0) -> timedelta:
        """Make one round trip to the server, for health checks; return how long it took.

        To the server, and not only to a broker in between. Nothing is changed by it, and no retry is made.
        ``grctl_core.ping.ping`` does it by a request.

        Args:
            timeout: seconds, or a timedelta, for all of it.

        Raises:
            NotSentError: there is no connection at the moment.
            NotDeliveredError: no server listens.
            DeliveryUnknownError: no answer came in time. Nothing was at stake.
            ConnectionClosedError: the connection was closed.
            AccessDeniedError: the broker refuses the subject.
            ServerError: the server answered that it cannot look at its records.
            InvalidInputError: ``timeout`` is no duration.

        """

    def watch(self, run: RunRef) -> asyncio.Future[EncodedOutcome]:
        """Return a new future that gets the run's outcome when the run has ended, or at once if it has.

        It belongs to the caller: cancelling it ends the watching. It gets an exception only where the end can no
        longer be learned: WorkflowNotFoundError (no such run, or its records are gone), ConnectionClosedError,
        DecodeError. Costs no task and no subscription.
        """

    async def find_run(self, run: RunRef) -> RunInfo | None:
        """Return the stored record of exactly this run, also of an old one; None where there is none."""

    async def has_begun(self, run: RunRef) -> bool:
        """Whether the server has taken the run up. A record alone does not say so (docs/protocol.md, section 8, 2)."""

    async def find_type(self, workflow_type: str) -> TypeInfo | None:
        """Return what is registered for a workflow type; None where nothing is."""

    def history(self, run: RunRef, *, follow: bool) -> AsyncIterator[HistoryEvent]:
        """Iterate over the run's history from its beginning.

        Args:
            run: the run.
            follow: wait for further events until the run has ended and all that was stored by then has come.

        Raises:
            WorkflowNotFoundError: there is no such run, or its records are gone.

        """

    def list_runs(self, run_filter: RunFilter) -> AsyncIterator[RunInfo]:
        """Iterate over the runs that the filter admits, each once, in no particular order.

        Raises:
            DecodeError: records cannot be decoded. It comes after all those that can be.

        """

    def add_listener(self, listener: ConnectionListener) -> Callable[[], None]:
        """Have a listener called at each :class:`ConnectionEvent`; returns what removes it."""

    async def close(self, *, grace: Duration = 5.0) -> None:
        """Close: refuse new work, wait up to ``grace`` for what is in flight, fail the rest. Idempotent."""

    async def __aenter__(self) -> Self:
        """Return the connection; leaving the block closes it."""

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""


class Handle(Protocol[T]):
    """One run, as its caller sees it. See ``grctl_core.handle.WorkflowHandle``."""

    @property
    def run_info(self) -> RunInfo:
        """What was last learned of the run."""

    @property
    def future(self) -> asyncio.Future[T]:
        """A future of the run's end."""

    async def result(self, timeout: Duration | None = None) -> T:
        """Wait for the end; return the result, or raise what the run ended in."""

    async def outcome(self, timeout: Duration | None = None) -> Outcome[T]:
        """Wait for the end; return how the run ended."""

    async def send(
        self,
        event_name: str,
        payload: object = None,
        *,
        check_event: bool = True,
        idempotent: bool = False,
        request_timeout: Duration | None = None,
        retry: object = ...,
    ) -> None:
        """Send an event."""

    async def query(
        self,
        query_name: str,
        /,
        *,
        request_timeout: Duration | None = None,
        retry: object = ...,
        **arguments: object,
    ) -> Any:
        """Ask a query handler."""

    async def describe(self, *, request_timeout: Duration | None = None, retry: object = ...) -> RunInfo:
        """Ask for the run's present record."""

    async def cancel(self, reason: str = "", *, request_timeout: Duration | None = None, retry: object = ...) -> None:
        """Ask the run to end after its present step."""

    async def terminate(
        self, reason: str = "", *, request_timeout: Duration | None = None, retry: object = ...
    ) -> None:
        """End the run at once."""

    def history(self, *, follow: bool = False) -> AsyncIterator[HistoryEvent]:
        """Iterate over what happened in the run."""

    def log_context(self) -> AbstractContextManager[None]:
        """Have the log records of a block name this run."""


class Client(Protocol):
    """Starts workflows and finds runs. See ``grctl_core.client.WorkflowClient``."""

    async def run_workflow(
        self,
        workflow_type: str,
        workflow_id: str,
        workflow_input: object = None,
        workflow_timeout: Duration | None = None,
        *,
        on_conflict: OnConflict = "raise",
        result_type: type[T] = ...,
        request_timeout: Duration | None = None,
        retry: object = ...,
    ) -> T:
        """Start a workflow and wait for its result."""

    async def start_workflow(
        self,
        workflow_type: str,
        workflow_id: str,
        workflow_input: object = None,
        workflow_timeout: Duration | None = None,
        *,
        on_conflict: OnConflict = "raise",
        result_type: type[T] = ...,
        request_timeout: Duration | None = None,
        retry: object = ...,
    ) -> Handle[T]:
        """Start a workflow; return as soon as the start is accepted."""

    async def get_handle(
        self,
        workflow_id: str,
        run_id: str | None = None,
        *,
        result_type: type[T] = ...,
        request_timeout: Duration | None = None,
        retry: object = ...,
    ) -> Handle[T]:
        """Return a handle to a run that exists, also to one that has ended."""

    def list_workflows(
        self,
        *,
        workflow_type: str | None = None,
        status: RunStatus | str | None = None,
        workflow_id_prefix: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> AsyncIterator[RunInfo]:
        """Iterate over runs."""
