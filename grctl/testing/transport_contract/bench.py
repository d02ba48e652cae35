"""Bench: what the cases of TransportContract have at hand: connections, and runs in the state that a case needs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

from grctl_core.codec import decode, encode
from grctl_core.commands import Command, DescribeCommand, EventCommand, Reply, StartCommand, TerminateCommand
from grctl_core.ids import new_ulid
from grctl_core.outcome import EncodedOutcome
from grctl_core.protocols import Connection
from grctl_core.run import RunInfo, RunRef

__all__ = ["RETURNS", "WAITS", "Bench", "Open", "collect", "decoded", "missing", "settled"]

RETURNS, WAITS = "ContractReturns", "ContractWaits"

Open: TypeAlias = Callable[[], Awaitable[Connection]]
"""Opens one more connection to the same server."""

_TIMEOUT = 30.0
_numbers = itertools.count(1)

T = TypeVar("T")


class Bench:
    """Connections to one server, and what is asked over them.

    Attributes:
        connection: the one that most cases use.
    """

    def __init__(self, open_one: Open, connection: Connection) -> None:
        self.connection = connection
        self._open = open_one
        self._opened: list[Connection] = [connection]

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, open_one: Open) -> AsyncIterator[Bench]:
        """Open a connection; leaving closes all."""
        bench = cls(open_one, await open_one())
        try:
            yield bench
        finally:
            for connection in bench._opened:
                await connection.close(grace=0)

    async def open(self) -> Connection:
        """Open one more connection to the same server."""
        connection = await self._open()
        self._opened.append(connection)
        return connection

    def new_id(self) -> str:
        """Return a workflow id that nobody has used."""
        return f"contract-{new_ulid()}-{next(_numbers)}"

    def starting(self, workflow_type: str = WAITS, value: object = None, wf_id: str | None = None) -> StartCommand:
        """Return a start that was not sent."""
        wf_id = wf_id or self.new_id()
        run = RunInfo(id=new_ulid(), wf_id=wf_id, wf_type=workflow_type, created_at=datetime.now(UTC))
        return StartCommand(wf_id=wf_id, run=run, input=None if value is None else encode("input", value))

    async def ask(self, command: Command, connection: Connection | None = None) -> Reply:
        """Send a command."""
        return await (connection or self.connection).request(command, timeout=_TIMEOUT)

    async def done(self, command: Command) -> Reply:
        """Send a command that is accepted."""
        reply = await self.ask(command)
        assert isinstance(reply, Reply), f"request() returned {reply!r}"
        assert reply.success, f"{command.kind} was refused: {reply.error}"
        return reply

    async def refused(self, command: Command) -> tuple[int, str]:
        """Send a command that is refused; return the code and the detail. A refusal is a reply, never an error."""
        reply = await self.ask(command)
        assert not reply.success, f"{command.kind} was accepted"
        assert reply.error is not None
        return reply.error.code, reply.error.detail

    async def latest(self, wf_id: str) -> RunInfo:
        """Describe."""
        reply = await self.done(DescribeCommand(wf_id=wf_id))
        assert reply.run is not None
        return reply.run

    async def active(self, wf_id: str | None = None) -> RunRef:
        """Start a run that waits for an event."""
        command = self.starting(wf_id=wf_id)
        await self.done(command)
        async with contextlib.aclosing(_generator(self.connection.history(command.run.ref, follow=True))) as events:
            async for event in events:
                if event.kind == "wait.started":
                    return command.run.ref
        raise AssertionError("the run ended, or its history did, without having waited")

    async def ended(self, value: object = None, wf_id: str | None = None) -> RunRef:
        """Start a run that completes with the value, and wait for its end."""
        command = self.starting(RETURNS, value, wf_id)
        await self.done(command)
        await self.connection.watch(command.run.ref)
        return command.run.ref

    async def finish(self, run: RunRef, value: object = None) -> EncodedOutcome:
        """Have a run that waits complete with a value; wait for its end."""
        payload = None if value is None else encode("payload", value)
        await self.done(EventCommand(wf_id=run.wf_id, event_name="finish", payload=payload, run=run))
        return await self.connection.watch(run)

    async def terminate(self, run: RunRef, reason: str = "") -> EncodedOutcome:
        """End a run; wait for its end."""
        await self.done(TerminateCommand(wf_id=run.wf_id, reason=reason))
        return await self.connection.watch(run)


def missing(run: RunRef) -> list[RunRef]:
    """Return runs that are not there: another of the same id, and the same of another id."""
    return [RunRef(run.wf_id, new_ulid(), run.wf_type), RunRef(f"{run.wf_id}-x", run.run_id, run.wf_type)]


def decoded(value: bytes | None) -> Any:
    """Decode what a transport delivered."""
    return None if value is None else decode(value)


async def collect(items: AsyncIterable[T]) -> list[T]:
    """Return all that an iterator yields."""
    return [item async for item in items]


async def _all(items: AsyncIterator[T]) -> AsyncIterator[T]:
    async for item in items:
        yield item


def _generator(items: AsyncIterator[T]) -> Any:
    """Return something that can be closed before its end."""
    return items if hasattr(items, "aclose") else _all(items)


async def settled(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0.001)
