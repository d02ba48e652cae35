"""Client: starts workflows and finds runs, from any thread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, overload

from grctl.sync.binding import iterating, taking_what
from grctl.sync.connection import Connection
from grctl.sync.handle import Handle
from grctl_core.calls import DEFAULT_RETRY
from grctl_core.client import PLAIN, WorkflowClient
from grctl_core.durations import Duration
from grctl_core.errors import InvalidInputError
from grctl_core.plugin_list import PluginList
from grctl_core.protocols import OnConflict
from grctl_core.workflow_ref import TypedStart, WorkflowRef

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

__all__ = ["Client"]


class Client:
    """Starts workflows and finds runs, from any thread: :class:`grctl.Client` without ``await``.

    Args:
        connection: an open :class:`grctl.sync.Connection`. It stays yours: the client never closes it. Several clients
            may share it.
        request_timeout: how long one attempt of a request may take, in seconds or as a timedelta; each call may have
            its own.
        plugins: as for :class:`grctl.Client`. Their hooks run in the connection's own thread, in a copy of the calling
            thread's context: a span that is current here is the parent there.

    Raises:
        InvalidInputError: ``connection`` is no connection of grctl.sync, the timeout is not above zero, or a plugin
            cannot work.
        EventLoopError: an event loop is running in this thread.

    """

    def __init__(
        self,
        connection: Connection,
        *,
        request_timeout: Duration = 5.0,
        plugins: Iterable[object] | None = None,
    ) -> None:
        if not isinstance(connection, Connection):
            raise InvalidInputError(
                f"connection must be an open grctl.sync.Connection, not {type(connection).__name__}: pass what "
                "grctl.sync.connect(...) returned. An asynchronous connection is for grctl.Client"
            )

        async def make() -> WorkflowClient:
            return WorkflowClient(connection._inner, request_timeout=request_timeout, plugins=plugins)  # noqa: SLF001

        self._connection = connection
        self._thread = connection._thread  # noqa: SLF001 - one package
        self._inner = self._thread.run(make)

    @property
    def plugins(self) -> PluginList:
        """The plugins, outermost first; ``print(client.plugins)`` shows what runs around each operation."""
        return self._inner.plugins

    @property
    def connection(self) -> Connection:
        """The connection that the client works over."""
        return self._connection

    @overload
    def run_workflow(
        self, workflow_type: TypedStart[P, ResultT], workflow_id: str, *args: P.args, **kwargs: P.kwargs
    ) -> ResultT: ...

    @overload
    def run_workflow(
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

    @taking_what(WorkflowClient.run_workflow)
    def run_workflow(self, *args: Any, **kwargs: Any) -> Any:
        """Start a workflow and wait for its result: :meth:`start_workflow`, then :meth:`Handle.result`.

        Ctrl-C leaves the run alive. Arguments and errors are those of the two.
        """
        pending = self._thread.calling(self._inner.run_workflow, *args, **kwargs)
        del args, kwargs  # no traceback is to show them
        return pending.wait()

    @overload
    def start_workflow(
        self, workflow_type: TypedStart[P, ResultT], workflow_id: str, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[ResultT]: ...

    @overload
    def start_workflow(
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
    ) -> Handle[T]: ...

    @taking_what(WorkflowClient.start_workflow)
    def start_workflow(self, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Start a workflow; return as soon as the start is accepted.

        Arguments and errors are those of :meth:`grctl.WorkflowClient.start_workflow`.
        """
        pending = self._thread.calling(self._inner.start_workflow, *args, **kwargs)
        del args, kwargs  # no traceback is to show them
        return Handle(self._connection, pending.wait())

    def get_handle(
        self,
        workflow_id: str,
        run_id: str | None = None,
        *,
        result_type: type[T] | WorkflowRef[Any, T] = PLAIN,
        request_timeout: Duration | None = None,
        retry: object = DEFAULT_RETRY,
    ) -> Handle[T]:
        """Return a handle to a run that exists, also to one that has ended.

        Arguments and errors are those of :meth:`grctl.WorkflowClient.get_handle`.
        """
        found = self._thread.run(
            self._inner.get_handle,
            workflow_id,
            run_id,
            result_type=result_type,
            request_timeout=request_timeout,
            retry=retry,
        )
        return Handle(self._connection, found)

    list_workflows = iterating(WorkflowClient.list_workflows, at_once=100)

    def __repr__(self) -> str:
        return f"<grctl.sync.Client over {self._connection!r}>"
