"""Wire: sends commands to the server, and says what its reply means."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from grctl_core.attempt import Attempt, Fate
from grctl_core.commands import Command, ErrorCode, Reply, ReplyError
from grctl_core.errors import (
    DeliveryUnknownError,
    GrctlError,
    ServerError,
    WorkflowAlreadyRunningError,
    WorkflowFinishedError,
    WorkflowNotFoundError,
    WorkflowTypeNotRegisteredError,
)
from grctl_core.run import RunInfo, RunRef
from grctl_core.safe_text import one_line
from grctl_core.workflow_type import TypeInfo

if TYPE_CHECKING:
    from grctl_core.calls import CommandCall
    from grctl_core.pipeline import Pipeline
    from grctl_core.protocols import Connection

__all__ = ["Wire", "in_time", "refusal"]

T = TypeVar("T")

_IN_DOUBT = frozenset({ErrorCode.INTERNAL, ErrorCode.PANIC})
_IS_RUN_ID = re.compile(r"[0-9A-Za-z]{26}").fullmatch
_MOST_SAID = 1_000
"""Characters of what the server says that stand in a message; ``detail`` has all of it."""
_UNREAD = "the server's records could not be read"


class Wire:
    """Sends commands through the attempt layers, where there are any."""

    __slots__ = ("_layers", "connection")

    def __init__(self, connection: Connection, pipeline: Pipeline) -> None:
        self.connection = connection
        self._layers = pipeline.around_attempt(self._request) if pipeline.attempts else None

    @property
    def has_layers(self) -> bool:
        """Whether there are any. Where there are none, what :meth:`send` brings is the connection's own word."""
        return self._layers is not None

    async def _request(self, attempt: Attempt) -> Reply:
        fate = attempt.fate
        if fate is None:
            return await self.connection.request(attempt.command, timeout=attempt.timeout)
        fate.is_open = True
        try:
            reply = await self.connection.request(attempt.command, timeout=attempt.timeout)
        except GrctlError as error:
            fate.is_open = isinstance(error, DeliveryUnknownError)
            raise
        fate.is_open = reply.success or reply.error is None or reply.error.code in _IN_DOUBT
        return reply

    def send(self, call: CommandCall, command: Command, timeout: float, fate: Fate | None = None) -> Awaitable[Reply]:
        """Send one command for a call; errors as :meth:`grctl_core.protocols.Connection.request`, or of a layer.

        Args:
            call: the operation that it is for.
            command: what to send.
            timeout: seconds that one attempt may take.
            fate: takes what the connection itself said of it, where there are layers.

        """
        call.state.attempts += 1
        if call.headers:
            command = msgspec.structs.replace(command, headers=call.headers)
        if self._layers is None:
            return self.connection.request(command, timeout=timeout)
        number = call.state.attempts
        return self._layers(Attempt(command=command, timeout=timeout, call=call, number=number, fate=fate))

    async def find_run(self, run: RunRef, timeout: float) -> RunInfo | None:
        """Look for a run's record, for so many seconds at most; DeliveryUnknownError where no answer comes."""
        return await in_time(self.connection.find_run(run), timeout, _UNREAD)

    async def has_begun(self, run: RunRef, timeout: float) -> bool:
        """Look whether a run has begun; as :meth:`find_run`."""
        return await in_time(self.connection.has_begun(run), timeout, _UNREAD)

    async def find_type(self, workflow_type: str, timeout: float) -> TypeInfo | None:
        """Look for a registered workflow type; as :meth:`find_run`."""
        return await in_time(self.connection.find_type(workflow_type), timeout, _UNREAD)


async def in_time(awaited: Awaitable[T], timeout: float, otherwise: str) -> T:
    """Wait for so many seconds at most.

    Raises:
        DeliveryUnknownError: it takes longer; the message begins with ``otherwise``.

    """
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await awaited
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeliveryUnknownError(f"{otherwise} within {timeout:g} s") from None


def refusal(reply: Reply, operation: str, run: RunRef, *, changes_state: bool = True) -> GrctlError:
    """Return the error for a reply without success.

    Codes 5000 and 0 do not mean that nothing was done (docs/protocol.md, section 8, 2): where the command changes
    state they leave a doubt.
    """
    error = reply.error or ReplyError(ErrorCode.INTERNAL, "the server refused without saying why")
    name = f"workflow {run.wf_id!r}"
    code, detail = error.code, error.detail
    match code:
        case ErrorCode.ALREADY_RUNNING:
            active = detail.rsplit(" ", 1)[-1]
            run_id = active if _IS_RUN_ID(active) else None
            return WorkflowAlreadyRunningError(
                f"{name} has an active run already{f' ({run_id})' if run_id else ''}: wait for its end, use another "
                "workflow id, or start with on_conflict='attach' or on_conflict='terminate'",
                run_id=run_id,
                code=code,
                detail=detail,
            )
        case ErrorCode.NOT_FOUND:
            return WorkflowNotFoundError(f"{name} is not known: no run of this id is stored", code=code, detail=detail)
        case ErrorCode.FINISHED:
            return WorkflowFinishedError(f"{name} has ended and takes no more commands", code=code, detail=detail)
        case ErrorCode.TYPE_NOT_REGISTERED:
            return WorkflowTypeNotRegisteredError(
                f"no worker has registered the workflow type {run.wf_type!r}: start a worker that has it, "
                "or check the spelling",
                code=code,
                detail=detail,
            )
    said = error.message + (f" ({detail})" if detail and detail != error.message else "")
    shown = one_line(said, _MOST_SAID)
    refused = ServerError(
        f"the server refused the {operation} of {name} with code {code}: {shown}", code=code, detail=said
    )
    if code not in _IN_DOUBT or not changes_state:
        return refused
    doubt = DeliveryUnknownError(
        f"the server failed at the {operation} of {name}, which may have taken effect nevertheless: {shown}",
        operation=operation,
        run=run,
        link=reply.link,
    )
    doubt.__cause__ = refused
    return doubt
