"""LossyConnection: stands before another connection, and has messages lost, doubled, late, or a link cut, on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Self

from msgspec.structs import replace

from grctl_core.commands import Command, DescribeCommand, Reply
from grctl_core.durations import Duration
from grctl_core.errors import DeliveryUnknownError, NotDeliveredError, NotSentError
from grctl_core.history import HistoryEvent
from grctl_core.outcome import EncodedOutcome
from grctl_core.protocols import Capabilities, Connection, ConnectionListener
from grctl_core.run import RunFilter, RunInfo, RunRef
from grctl_core.workflow_type import TypeInfo

__all__ = ["LossyConnection"]


class LossyConnection:
    """What a network does, to a connection that has none. A describe finds done what was sent before over its link.

    Attributes:
        fault: what meets the next command, or the next look; None for nothing.
    """

    def __init__(self, inner: Connection) -> None:
        self.fault: str | None = None
        self._inner = inner
        self._link = 1
        self._late: list[tuple[int, Command]] = []

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    async def request(self, command: Command, *, timeout: float) -> Reply:
        fault, self.fault = self.fault, None
        link = self._link
        match fault:
            case "not sent":
                raise NotSentError("not sent: no link")
            case "no server":
                raise NotDeliveredError("no server listens")
            case "request late":
                self._late.append((link, command))
                raise DeliveryUnknownError("no reply came", link=link)
            case "cut, and late":
                self._link += 1
                self._late.append((link, command))
                raise DeliveryUnknownError("the link was lost", link=link)
            case "request lost":
                raise DeliveryUnknownError("no reply came", link=link)
            case "cut before":
                self._link += 1
                raise DeliveryUnknownError("the link was lost", link=link)
        if isinstance(command, DescribeCommand):
            await self.arrive(lambda sent: sent == link)
        reply = await self._inner.request(command, timeout=timeout)
        match fault:
            case "reply lost" | "reply late":
                raise DeliveryUnknownError("no reply came", link=link)
            case "cut after":
                self._link += 1
                raise DeliveryUnknownError("the link was lost", link=link)
        return replace(reply, link=link)

    async def arrive(self, which: Callable[[int], bool] = lambda _: True) -> None:
        """Have arrive what is late, of some links."""
        arriving = [late for late in self._late if which(late[0])]
        self._late = [late for late in self._late if late not in arriving]
        for _, command in arriving:
            await self._inner.request(command, timeout=5.0)

    async def _look(self) -> None:
        fault, self.fault = self.fault, None
        if fault is not None:
            await asyncio.sleep(0)
            raise NotSentError("no link") if fault == "not sent" else DeliveryUnknownError("no reply came")

    async def ping(self, *, timeout: Duration = 5.0) -> timedelta:
        await self._look()
        return await self._inner.ping(timeout=timeout)

    def watch(self, run: RunRef) -> asyncio.Future[EncodedOutcome]:
        return self._inner.watch(run)

    async def find_run(self, run: RunRef) -> RunInfo | None:
        await self._look()
        return await self._inner.find_run(run)

    async def has_begun(self, run: RunRef) -> bool:
        await self._look()
        return await self._inner.has_begun(run)

    async def find_type(self, workflow_type: str) -> TypeInfo | None:
        await self._look()
        return await self._inner.find_type(workflow_type)

    def history(self, run: RunRef, *, follow: bool) -> AsyncIterator[HistoryEvent]:
        return self._inner.history(run, follow=follow)

    def list_runs(self, run_filter: RunFilter) -> AsyncIterator[RunInfo]:
        return self._inner.list_runs(run_filter)

    def add_listener(self, listener: ConnectionListener) -> Callable[[], None]:
        return self._inner.add_listener(listener)

    async def close(self, *, grace: float = 5.0) -> None:
        await self._inner.close(grace=grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
