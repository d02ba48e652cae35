"""A transport of one's own: a class that implements Connection, whole, and the function that an entry point names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Self

import grctl
from grctl import Duration, HistoryEvent, RunInfo, RunRef, RunStatus
from grctl.protocols import Capabilities, Connection, ConnectionEvent, ConnectionListener
from grctl_core.commands import (
    CancelCommand,
    Command,
    DescribeCommand,
    ErrorCode,
    EventCommand,
    QueryCommand,
    Reply,
    ReplyError,
    StartCommand,
    TerminateCommand,
)
from grctl_core.outcome import EncodedOutcome
from grctl_core.ping import ping
from grctl_core.run import RunFilter
from grctl_core.workflow_type import TypeInfo


class EchoConnection:
    """Completes every run at once, with its input as the result."""

    def __init__(self, latency: float = 0.0) -> None:
        self._latency = latency
        self._runs: dict[str, RunInfo] = {}
        self._inputs: dict[str, bytes | None] = {}
        self._listeners: list[ConnectionListener] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(queries=False, workflow_timeout=False)

    async def request(self, command: Command, *, timeout: float) -> Reply:
        await asyncio.sleep(self._latency)
        match command:
            case StartCommand(run=run, input=given):
                now = datetime.now(UTC)
                self._runs[run.id] = RunInfo(
                    id=run.id,
                    wf_id=run.wf_id,
                    wf_type=run.wf_type,
                    created_at=run.created_at,
                    status=RunStatus.COMPLETED,
                    started_at=now,
                    completed_at=now,
                )
                self._inputs[run.id] = given
                return Reply(success=True)
            case DescribeCommand(wf_id=wf_id):
                for run in reversed(self._runs.values()):
                    if run.wf_id == wf_id:
                        return Reply(success=True, run=run)
                return Reply(success=False, error=ReplyError(ErrorCode.NOT_FOUND, "not found"))
            case EventCommand() | CancelCommand() | TerminateCommand():
                return Reply(success=False, error=ReplyError(ErrorCode.FINISHED, "finished"))
            case QueryCommand():
                raise grctl.UnsupportedOperationError("no queries here")

    async def ping(self, *, timeout: Duration = 5.0) -> timedelta:
        return await ping(lambda command, seconds: self.request(command, timeout=seconds), timeout)

    def watch(self, run: RunRef) -> asyncio.Future[EncodedOutcome]:
        future: asyncio.Future[EncodedOutcome] = asyncio.get_running_loop().create_future()
        if run.run_id in self._runs:
            future.set_result(EncodedOutcome(run=self._runs[run.run_id], result=self._inputs[run.run_id]))
        else:
            future.set_exception(grctl.WorkflowNotFoundError(f"{run.wf_id} is not known"))
        return future

    async def find_run(self, run: RunRef) -> RunInfo | None:
        return self._runs.get(run.run_id)

    async def has_begun(self, run: RunRef) -> bool:
        return run.run_id in self._runs

    async def find_type(self, workflow_type: str) -> TypeInfo | None:
        return TypeInfo(name=workflow_type)

    async def history(self, run: RunRef, *, follow: bool) -> AsyncIterator[HistoryEvent]:
        info = self._runs[run.run_id]
        yield HistoryEvent(seq=1, kind="run.completed", timestamp=info.created_at, wf_id=run.wf_id, run_id=run.run_id)

    async def list_runs(self, run_filter: RunFilter) -> AsyncIterator[RunInfo]:
        for run in self._runs.values():
            if run_filter.admits(run):
                yield run

    def add_listener(self, listener: ConnectionListener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def close(self, *, grace: Duration = 5.0) -> None:
        for listener in self._listeners:
            listener(ConnectionEvent.CLOSED)
        self._listeners.clear()


async def open_url(url: str, *, latency: float = 0.0) -> Connection:
    """What the entry point in the group ``grctl.transports`` names: ``echo = "own_transport:open_url"``."""
    return EchoConnection(latency)


async def main() -> None:
    connection: Connection = EchoConnection()
    client = grctl.Client(connection=connection)
    print(await client.run_workflow("Anything", "echo-1", [1, 2, 3], result_type=list[int]))
    handle = await client.get_handle("echo-1")
    print([event.kind async for event in handle.history()])
    print([run.wf_id async for run in client.list_workflows()])
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
