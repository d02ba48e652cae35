"""WorkflowClient: starts workflows and finds runs, over any connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, ParamSpec, get_args, overload

from grctl_core.calls import DEFAULT_RETRY, DescribeCall, StartCall
from grctl_core.codec import check_type
from grctl_core.doubt import DoubtBounds
from grctl_core.durations import Duration, optional_timedelta, to_seconds
from grctl_core.errors import InvalidInputError, WorkflowNotFoundError
from grctl_core.event_loop import running_loop
from grctl_core.handle import WorkflowHandle
from grctl_core.ids import check_id, new_ulid
from grctl_core.notifications import NO_STATE
from grctl_core.operations import Operations
from grctl_core.plugin_list import PluginList
from grctl_core.plugins import plugins_of
from grctl_core.protocols import Connection, OnConflict
from grctl_core.run import RunFilter, RunInfo, RunRef, RunStatus
from grctl_core.secret import Secret
from grctl_core.workflow_ref import TypedStart, WorkflowRef

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

__all__ = ["PLAIN", "WorkflowClient"]

_ON_CONFLICT = get_args(OnConflict)

PLAIN: Any = Any
"""``result_type`` for a result that stays plain data. Of the type Any, or it would be no default for a ``type[T]``."""


class WorkflowClient:
    """Starts workflows and finds runs.

    Args:
        connection: an open connection. It stays yours: the client never closes it. Several clients may share it.
        request_timeout: how long one attempt of a request may take, in seconds or as a timedelta; each call may have
            its own.
        plugins: middleware around the operations, the first listed outermost: plugin objects, and names of installed
            plugins such as ``"tracing"``, ``"logging"``, ``"retry"``. None takes the names in the environment's
            GRCTL_PLUGINS, comma-separated, which is not read otherwise; an empty list is none.

    Raises:
        InvalidInputError: ``connection`` is no connection, the timeout is not above zero, or a plugin cannot work.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        request_timeout: Duration = 5.0,
        plugins: Iterable[object] | None = None,
    ) -> None:
        if isinstance(connection, type) or not isinstance(connection, Connection):
            kind = type(connection)
            module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."  # there are several Connections
            raise InvalidInputError(
                f"connection must be an open Connection, not {module}{kind.__name__}: "
                "pass what 'await Connection.connect()' or 'await grctl.connect(...)' returned"
            )
        self._connection = connection
        self._request_timeout = to_seconds("request_timeout", request_timeout)
        self._plugins = plugins_of(plugins)
        self._operations = Operations(connection, self._plugins.pipeline, DoubtBounds())

    @property
    def plugins(self) -> PluginList:
        """The plugins, outermost first; ``print(client.plugins)`` shows what runs around each operation."""
        return self._plugins

    @property
    def connection(self) -> Connection:
        """The connection that the client works over."""
        return self._connection

    @overload
    async def run_workflow(
        self, workflow_type: TypedStart[P, ResultT], workflow_id: str, *args: P.args, **kwargs: P.kwargs
    ) -> ResultT: ...

    @overload
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
        retry: object = DEFAULT_RETRY,
    ) -> T: ...

    async def run_workflow(  # type: ignore[misc]  # P is what a WorkflowRef says: this
        self,
        workflow_type: str | WorkflowRef[Any, Any],
        workflow_id: str,
        workflow_input: object = None,
        workflow_timeout: Duration | None = None,
        *,
        on_conflict: OnConflict = "raise",
        result_type: Any = PLAIN,
        request_timeout: Duration | None = None,
        retry: object = DEFAULT_RETRY,
    ) -> Any:
        """Start a workflow and wait for its result: :meth:`start_workflow`, then :meth:`WorkflowHandle.result`.

        Cancelling this call leaves the run alive. Arguments and errors are those of the two.
        """
        start: Any = self.start_workflow
        starting: Awaitable[WorkflowHandle[Any]] = start(
            workflow_type,
            workflow_id,
            workflow_input,
            workflow_timeout,
            on_conflict=on_conflict,
            result_type=result_type,
            request_timeout=request_timeout,
            retry=retry,
        )
        del workflow_input  # no traceback is to show it
        handle = await starting
        return await handle.result()

    @overload
    async def start_workflow(
        self, workflow_type: TypedStart[P, ResultT], workflow_id: str, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[ResultT]: ...

    @overload
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
        retry: object = DEFAULT_RETRY,
    ) -> WorkflowHandle[T]: ...

    async def start_workflow(  # type: ignore[misc]  # P is what a WorkflowRef says: this
        self,
        workflow_type: str | WorkflowRef[Any, Any],
        workflow_id: str,
        workflow_input: object = None,
        workflow_timeout: Duration | None = None,
        *,
        on_conflict: OnConflict = "raise",
        result_type: Any = PLAIN,
        request_timeout: Duration | None = None,
        retry: object = DEFAULT_RETRY,
    ) -> WorkflowHandle[Any]:
        """Start a workflow; return as soon as the start is accepted.

        Args:
            workflow_type: name of a registered workflow type, or a :class:`grctl.WorkflowRef`: then the input is
                checked, and ``result_type`` is the ref's.
            workflow_id: your own stable id; one active run at a time.
            workflow_input: a map is spread as keyword arguments of the start handler, any other value is its single
                argument, None passes nothing.
            workflow_timeout: how long the run may take from its start; None for no limit.
            on_conflict: what to do when the workflow id has an active run: ``"raise"``; ``"attach"``, a handle to that
                run, of the same type only; ``"terminate"``, end that run, wait for its end, for ``request_timeout`` at
                most, and start.
            result_type: what to decode the result to, such as a dataclass; by default it stays plain data.
            request_timeout: how long one attempt may take; None for the client's.
            retry: how to try again, as the retry plugin takes it; None for not at all.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            WorkflowAlreadyRunningError: the id has an active run; with ``"attach"``: of another type, or it could not
                be looked at; with ``"terminate"``: one that is not known to have ended. Nothing was started.
            WorkflowTypeNotRegisteredError: no worker has registered the type.
            NotSentError, NotDeliveredError: nothing was started.
            DeliveryUnknownError: it may have been started, as the run that the error names.

        """
        given = Secret(workflow_input)
        del workflow_input  # no traceback is to show it
        if on_conflict not in _ON_CONFLICT:
            raise InvalidInputError(
                f"on_conflict must be one of {', '.join(map(repr, _ON_CONFLICT))}, not {on_conflict!r}"
            )
        if isinstance(workflow_type, WorkflowRef):
            if result_type is not PLAIN:
                raise InvalidInputError("result_type is what the WorkflowRef says: leave it out")
            workflow_type.check_input(given.reveal())
            name, result_type = workflow_type.name, workflow_type.result_type
        else:
            if result_type is not PLAIN:
                check_type("result_type", result_type)
            name = check_id("workflow_type", workflow_type)
        timeout = self._timeout(request_timeout)
        call = StartCall(
            run=RunRef(check_id("workflow_id", workflow_id), new_ulid(), name),
            workflow_input=given.reveal(),
            workflow_timeout=optional_timedelta("workflow_timeout", workflow_timeout),
            on_conflict=on_conflict,
            request_timeout=timeout,
            retry=self._operations.check_retry(retry),
        )
        return self._handle(await self._operations.start(call), result_type, call)

    async def get_handle(
        self,
        workflow_id: str,
        run_id: str | None = None,
        *,
        result_type: type[T] | WorkflowRef[Any, T] = PLAIN,
        request_timeout: Duration | None = None,
        retry: object = DEFAULT_RETRY,
    ) -> WorkflowHandle[T]:
        """Return a handle to a run that exists, also to one that has ended.

        Args:
            workflow_id: the workflow id.
            run_id: a certain run; by default the latest one at this moment, and the handle stays with it.
            result_type: as for :meth:`start_workflow`; or a WorkflowRef, which the run has to be of.
            request_timeout: how long one attempt may take; None for the client's.
            retry: as for :meth:`start_workflow`.

        Raises:
            InvalidInputError: an argument is wrong.
            WorkflowNotFoundError: there is no such run, or none of the WorkflowRef's type.
            NotSentError, NotDeliveredError, DeliveryUnknownError: the server could not be asked.

        """
        ref = result_type if isinstance(result_type, WorkflowRef) else None
        if ref is None and result_type is not PLAIN:
            check_type("result_type", result_type)
        check_id("workflow_id", workflow_id)
        run = RunRef(workflow_id, "" if run_id is None else check_id("run_id", run_id))
        call = DescribeCall(
            run=run,
            request_timeout=self._timeout(request_timeout),
            retry=self._operations.check_retry(retry),
        )
        found = await self._operations.describe(call)
        if ref is not None and found.wf_type != ref.name:
            raise WorkflowNotFoundError(
                f"run {found.id} of workflow {workflow_id!r} is of type {found.wf_type!r}, not {ref.name!r}, as the "
                "WorkflowRef says"
            )
        return self._handle(found, result_type if ref is None else ref.result_type, call)

    def list_workflows(
        self,
        *,
        workflow_type: str | None = None,
        status: RunStatus | str | None = None,
        workflow_id_prefix: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> AsyncIterator[RunInfo]:
        """Iterate over the stored runs, finished ones included, each once and in no particular order.

        They come by pages: where what you do with each run takes long, take all of them first. A server holds a place
        in its list for some minutes only.

        Args:
            workflow_type: only runs of this type.
            status: only runs with this status.
            workflow_id_prefix: only runs whose workflow id begins so.
            created_after: only runs created at this time or later; with a time zone.
            created_before: only runs created before this time; with a time zone.

        Raises:
            InvalidInputError: an argument is wrong.
            EventLoopError: called outside an event loop.
            DecodeError: the server holds records that cannot be decoded. It comes after all those that can be.

        """
        run_filter = RunFilter(
            workflow_type=None if workflow_type is None else check_id("workflow_type", workflow_type),
            status=None if status is None else _status(status),
            workflow_id_prefix=None
            if workflow_id_prefix is None
            else check_id("workflow_id_prefix", workflow_id_prefix),
            created_after=_aware("created_after", created_after),
            created_before=_aware("created_before", created_before),
        )
        running_loop("client.list_workflows()")
        return self._connection.list_runs(run_filter)

    def __repr__(self) -> str:
        return f"<WorkflowClient over {self._connection!r}>"

    def _handle(self, run_info: RunInfo, result_type: Any, call: StartCall | DescribeCall) -> WorkflowHandle[Any]:
        state = call.state or NO_STATE  # ten thousand handles without plugins share one
        return WorkflowHandle(
            self._operations, self._connection, run_info, result_type, self._request_timeout, state=state
        )

    def _timeout(self, request_timeout: Duration | None) -> float:
        return self._request_timeout if request_timeout is None else to_seconds("request_timeout", request_timeout)


def _status(status: object) -> RunStatus:
    if not isinstance(status, str):
        raise InvalidInputError(f"status must be a RunStatus or a string, not {type(status).__name__}")
    return RunStatus(status)


def _aware(name: str, value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidInputError(f"{name} must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None:
        raise InvalidInputError(f"{name} has no time zone: give it one, for example value.replace(tzinfo=UTC)")
    return value
