"""Operations: each one as a user would call it, and the ways in which it may end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from grctl.testing.answers import Answer, answer, fail, lose_reply, lose_request, refuse
from grctl.testing.recording import RecordingTransport
from grctl.testing.script import CommandName
from grctl_core.client import WorkflowClient
from grctl_core.commands import ErrorCode
from grctl_core.errors import AccessDeniedError, ConnectionClosedError, NotDeliveredError, NotSentError
from grctl_core.handle import WorkflowHandle
from grctl_core.notifications import NO_STATE
from grctl_core.outcome import ErrorDetails
from grctl_core.run import RunInfo

__all__ = ["OPERATIONS", "SECRET", "WF_ID", "Stage", "ends_of", "plain_end"]

OPERATIONS = ("start", "send", "cancel", "terminate", "describe", "query", "result")
WF_ID = "contract-1"
SECRET = "4111-1111-1111-1111"  # noqa: S105 - it has to look like one
"""Stands in every input, payload, argument and result."""

_TYPE = "Contract"

Prepare = Callable[[RecordingTransport, str], object]


class Stage:
    """A transport, a client with plugins on it, and a run to work on.

    Attributes:
        transport: what the client works over.
        client: the client.
        handle: of the run; None before a start.
    """

    def __init__(self, plugins: Sequence[object], *, like: Stage | None = None) -> None:
        """Make one; ``like`` another one is with its transport and client, and for another run."""
        self.transport: RecordingTransport = RecordingTransport() if like is None else like.transport
        self.client: WorkflowClient = (
            WorkflowClient(connection=self.transport, plugins=plugins) if like is None else like.client
        )
        self.handle: WorkflowHandle[Any] | None = None

    async def begin(self, operation: str, wf_id: str = WF_ID, *, answers_start: bool = False) -> None:
        """Have the run that an operation works on."""
        self.handle = None
        if operation == "start":
            return
        if answers_start:  # the plugin is not asked: it might refuse
            started = await WorkflowClient(connection=self.transport, plugins=[]).start_workflow(_TYPE, wf_id)
            self.handle = WorkflowHandle(
                self.client._operations,  # noqa: SLF001 - get_handle would be an operation too
                self.transport,
                started.run_info,
                Any,
                5.0,
                state=NO_STATE,
            )
        else:
            self.handle = await self.client.start_workflow(_TYPE, wf_id)

    async def perform(self, operation: str, value: object = None, wf_id: str = WF_ID) -> Any:
        """Call an operation with a value; return what comes of it, without what differs from time to time."""
        if operation == "start":
            self.handle = await self.client.start_workflow(_TYPE, wf_id, value)
            return _known(self.handle.run_info)
        handle = self.handle
        assert handle is not None
        if operation == "send":
            return await handle.send("go", value)
        if operation == "cancel":
            return await handle.cancel("contract")
        if operation == "terminate":
            return await handle.terminate("contract")
        if operation == "describe":
            return _known(await handle.describe())
        if operation == "query":
            return await handle.query("state", value=value)
        return await handle.result()

    async def ending(self, operation: str, value: object = None, wf_id: str = WF_ID) -> Any:
        """Call an operation; return what comes of it, an error as its class."""
        try:
            return await self.perform(operation, value, wf_id)
        except asyncio.CancelledError as error:  # a workflow's end, unless it is the case that is given up
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return type(error)
        except Exception as error:  # noqa: BLE001 - its class is what is compared
            return type(error)


def _known(run: RunInfo) -> tuple[object, ...]:
    return run.wf_id, run.wf_type, run.status


def _always(made: Callable[[], Answer]) -> Prepare:
    return lambda transport, operation: transport.on(cast("CommandName", operation), made(), always=True)


def _end(status: str, **how: Any) -> Prepare:
    return lambda transport, _: transport.end(WF_ID, status, **how)


def _disconnect(transport: RecordingTransport, _: str) -> None:
    transport.disconnect()


_COMMAND_ENDS: Mapping[str, Prepare] = {
    "not sent": _always(lambda: fail(NotSentError("no link"))),
    "not delivered": _always(lambda: fail(NotDeliveredError("no server listens"))),
    "closed": _always(lambda: fail(ConnectionClosedError("closed"))),
    "access denied": _always(lambda: fail(AccessDeniedError("not for you"))),
    "request lost": _always(lose_request),
    "reply lost": _always(lose_reply),
    "not found": _always(lambda: refuse(ErrorCode.NOT_FOUND)),
    "finished": _always(lambda: refuse(ErrorCode.FINISHED)),
    "already running": _always(lambda: refuse(ErrorCode.ALREADY_RUNNING)),
    "type not registered": _always(lambda: refuse(ErrorCode.TYPE_NOT_REGISTERED)),
    "server error": _always(lambda: refuse(4999)),
    "disconnected": _disconnect,
}
_RESULT_ENDS: Mapping[str, Prepare] = {
    "failed": _end("failed", error=ErrorDetails("CardDeclined", SECRET)),
    "timed out": _end("timed_out"),
    "cancelled": _end("cancelled", reason=SECRET),
    "terminated": _end("terminated", reason=SECRET),
}


def ends_of(operation: str) -> Mapping[str, Prepare]:
    """Return the ways in which an operation may go wrong, each with what brings it about."""
    return _RESULT_ENDS if operation == "result" else _COMMAND_ENDS


def plain_end(operation: str, transport: RecordingTransport, value: object = SECRET, wf_id: str = WF_ID) -> None:
    """Have an operation go well, and give a value back where it gives one."""
    if operation == "query":
        transport.on("query", answer(value))
    elif operation == "result":
        transport.end(wf_id, result=value)
