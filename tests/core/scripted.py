"""A Connection that answers as a test has written down, and keeps what came: the core's tests run on it alone."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import msgspec

from grctl_core.calls import DescribeCall
from grctl_core.client import WorkflowClient
from grctl_core.codec import encode
from grctl_core.commands import Command, ErrorCode, Reply, ReplyError
from grctl_core.doubt import DoubtBounds
from grctl_core.errors import ConnectionClosedError, DeliveryUnknownError, GrctlError, WorkflowNotFoundError
from grctl_core.handle import WorkflowHandle
from grctl_core.history import HistoryEvent
from grctl_core.operations import Operations
from grctl_core.outcome import EncodedOutcome, ErrorDetails
from grctl_core.ping import ping
from grctl_core.pipeline import Layer, Pipeline
from grctl_core.protocols import Capabilities, ConnectionListener
from grctl_core.run import RunFilter, RunInfo, RunRef, RunStatus
from grctl_core.workflow_type import TypeInfo

NEVER = "never"
"""An answer that does not come: the request waits until it is cancelled."""

OK = Reply(success=True)
ONE_LOOK = DoubtBounds(reached_within=0.0, begun_within=0.0, quarantine=0.0)
"""Look once, wait never."""

OTHER_RUN = "01HZZZZZZZZZZZZZZZZZZZZZZZ"


def refused(code: int, detail: str = "", message: str = "refused") -> Reply:
    return Reply(success=False, error=ReplyError(code, message, detail))


def already_running(run_id: str) -> Reply:
    return refused(ErrorCode.ALREADY_RUNNING, f"workflow already has an active run: {run_id}")


def lost(link: int | None = 1) -> DeliveryUnknownError:
    return DeliveryUnknownError("no reply within 5 s", link=link)


def run_info(run_id: str, wf_id: str = "order-1", status: str | None = "running", **fields: Any) -> RunInfo:
    fields = {"wf_type": "Order", "created_at": datetime(2026, 1, 2, tzinfo=UTC), **fields}
    return RunInfo(id=run_id, wf_id=wf_id, status=None if status is None else RunStatus(status), **fields)


class ScriptedConnection:
    """Answers each kind of command with what ``script`` was given, in order; then as a healthy server would.

    An answer is a Reply, an exception, NEVER, an awaitable that gives one of these, or a function of the command that
    returns one of these. A Reply goes out over the present ``link``.
    """

    def __init__(self, *, queries: bool = True) -> None:
        self.capabilities = Capabilities(queries=queries)
        self.link: int | None = 1  # None: a transport that does not say
        self.commands: list[Command] = []
        self.records: dict[str, RunInfo] = {}
        self.latest: dict[str, str] = {}
        self.begun: set[str] = set()
        self.types: dict[str, TypeInfo] = {"Order": TypeInfo(name="Order", steps=("ship",), events=("approve", "note"))}
        self.looks: Counter[str] = Counter()
        self.watches: list[tuple[RunRef, asyncio.Future[EncodedOutcome]]] = []
        self.ends: dict[str, EncodedOutcome] = {}
        self.failing: dict[str, Exception | str] = {}  # look's name -> what it raises, or NEVER
        self.on_look: Callable[[str], object] = lambda _: None
        self.events: list[HistoryEvent] = []
        self.closed = False  # watches are refused
        self._script: dict[str, deque[Any]] = {}

    def script(self, kind: str, *answers: Any) -> None:
        self._script.setdefault(kind, deque()).extend(answers)

    def sent(self, kind: str) -> list[Any]:
        return [command for command in self.commands if command.kind == kind]

    @property
    def kinds(self) -> list[str]:
        return [command.kind.removeprefix("run.") for command in self.commands]

    # What a server does.

    def record(self, run: RunInfo, *, begun: bool = True) -> RunInfo:
        """Store a run, as the latest of its id."""
        self.records[run.id] = run
        self.latest[run.wf_id] = run.id
        if begun:
            self.begun.add(run.id)
        return run

    def end(self, run_id: str, status: str = "completed", result: object = None, **fields: Any) -> None:
        """End a run: those who watch it learn it."""
        run = msgspec.structs.replace(self.records[run_id], status=RunStatus(status))
        self.records[run_id] = run
        encoded = None if result is None else encode("result", result)
        error = ErrorDetails("ValueError", "no stock", "Traceback") if status == "failed" else None
        self.ends[run_id] = EncodedOutcome(run=run, result=encoded, error=error, **fields)
        for watched, future in self.watches:
            if watched.run_id == run_id and not future.done():
                future.set_result(self.ends[run_id])

    def fail_watches(self, error: Exception) -> None:
        for _, future in self.watches:
            if not future.done():
                future.set_exception(error)

    @property
    def live_watches(self) -> int:
        return sum(not future.done() for _, future in self.watches)

    def _serve(self, command: Any) -> Reply:
        match command.kind:
            case "run.start":
                self.record(msgspec.structs.replace(command.run, status=RunStatus.RUNNING))
            case "run.describe":
                run_id = self.latest.get(command.wf_id)
                return Reply(success=True, run=self.records[run_id]) if run_id else refused(ErrorCode.NOT_FOUND)
        return OK

    # What the core calls.

    async def request(self, command: Command, *, timeout: float) -> Reply:
        self.commands.append(command)
        script = self._script.get(command.kind)
        answer = script.popleft() if script else self._serve
        await asyncio.sleep(0)
        if callable(answer):
            answer = answer(command)
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is NEVER:
            await asyncio.get_running_loop().create_future()
        if isinstance(answer, BaseException):
            raise answer
        return msgspec.structs.replace(answer, link=self.link)

    async def _look(self, name: str) -> None:
        self.looks[name] += 1
        await asyncio.sleep(0)
        self.on_look(name)
        failure = self.failing.get(name)
        if failure is NEVER:
            await asyncio.get_running_loop().create_future()
        if isinstance(failure, Exception):
            raise failure

    async def ping(self, *, timeout: float = 5.0) -> timedelta:
        return await ping(lambda command, seconds: self.request(command, timeout=seconds), timeout)

    async def find_run(self, run: RunRef) -> RunInfo | None:
        await self._look("find_run")
        return self.records.get(run.run_id)

    async def has_begun(self, run: RunRef) -> bool:
        await self._look("has_begun")
        return run.run_id in self.begun

    async def find_type(self, workflow_type: str) -> TypeInfo | None:
        await self._look("find_type")
        return self.types.get(workflow_type)

    def watch(self, run: RunRef) -> asyncio.Future[EncodedOutcome]:
        if self.closed:
            raise ConnectionClosedError("closed")
        future: asyncio.Future[EncodedOutcome] = asyncio.get_running_loop().create_future()
        if run.run_id in self.ends:
            future.set_result(self.ends[run.run_id])
        elif run.run_id not in self.records:
            future.set_exception(WorkflowNotFoundError(f"run {run.run_id} is not known"))
        self.watches.append((run, future))
        return future

    async def history(self, run: RunRef, *, follow: bool) -> AsyncIterator[HistoryEvent]:
        for event in self.events:
            yield event

    async def list_runs(self, run_filter: RunFilter) -> AsyncIterator[RunInfo]:
        for run in self.records.values():
            if run_filter.admits(run):
                yield run

    def add_listener(self, listener: ConnectionListener) -> Callable[[], None]:
        return lambda: None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self, *, grace: float = 5.0) -> None:
        self.fail_watches(RuntimeError("closed"))


def client_on(
    connection: ScriptedConnection, pipeline: Pipeline | None = None, bounds: DoubtBounds = ONE_LOOK
) -> WorkflowClient:
    """A client with layers, and with bounds that cost no time."""
    client = WorkflowClient(connection=connection)
    client._operations = Operations(connection, pipeline or Pipeline(), bounds)
    return client


def handle_to(
    connection: ScriptedConnection,
    run: RunInfo | None = None,
    pipeline: Pipeline | None = None,
    bounds: DoubtBounds = ONE_LOOK,
) -> WorkflowHandle[Any]:
    """A handle to a run, by default to R1, which goes on; nothing was sent for it."""
    info = run or connection.record(run_info("R1"))
    call = DescribeCall(run=info.ref, request_timeout=5.0)
    return client_on(connection, pipeline, bounds)._handle(info, Any, call)


def retrying(times: int) -> Pipeline:
    """A retry slot that proceeds up to so many times, whatever GrctlError comes."""

    async def retry(call: Any, proceed: Any) -> Any:
        for left in reversed(range(times)):
            try:
                return await proceed(call)
            except GrctlError:
                if not left:
                    raise
        raise AssertionError

    return Pipeline(retry=layer(retry))


def layer(function: Any) -> Layer:
    """A layer of no plugin's."""
    return Layer("test", function.__name__, function)


async def settle(turns: int = 20) -> None:
    """Let everything that is ready go on."""
    for _ in range(turns):
        await asyncio.sleep(0)


def other_tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}
