"""Cell: one operation under one fault, with a connection, a proxy and a workflow id of its own."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from fault_proxy import FaultProxy, Faults, Rule

from grctl import Client
from grctl_core.doubt import DoubtBounds
from grctl_core.handle import WorkflowHandle
from grctl_core.operations import Operations
from grctl_core.protocols import ConnectionEvent
from grctl_nats import NatsConnection
from grctl_nats import dial as dial_module

from .site import LONG, PATIENCE, Site
from .table import TABLE, Fault, Operation, Verdict

__all__ = ["Cell", "Result"]

_NUMBERS = itertools.count(1)

_BOUNDS = DoubtBounds(reached_within=PATIENCE, begun_within=PATIENCE, quarantine=0.3)
"""A machine that has other things to do is no reason for a doubt to stay."""


@dataclass
class Result:
    """What became of a cell.

    Attributes:
        fault: the fault.
        operation: the operation.
        verdicts: what the callers were told, one for each time that it ran.
        hung: how often it did not end.
        lost: how often what the caller was told to be done was not.
        duplicated: how often it was done more than once.
        wrong: whatever else was not as it must be.
    """

    fault: Fault
    operation: Operation
    verdicts: list[Verdict] = field(default_factory=list)
    hung: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def did_harm(self) -> bool:
        """Whether something is wrong that no slow machine excuses."""
        return bool(self.hung or self.lost or self.duplicated or self.wrong)

    def troubles(self) -> list[str]:
        """Say what is not as it must be."""
        counts = {"hung": self.hung, "lost": self.lost, "duplicated": self.duplicated}
        right = TABLE[self.fault, self.operation]
        unexpected = [verdict.value for verdict in self.verdicts if verdict not in right]
        return [
            *(f"{count} {what}" for what, count in counts.items() if count),
            *self.wrong,
            *(f"the caller is told {verdict!r}, not {[each.value for each in right]}" for verdict in unexpected),
            *([] if self.verdicts else ["it has not run"]),
        ]


class Cell:
    """One operation under one fault.

    Attributes:
        timeout: seconds for one attempt of the operation; a fault that wants it over soon makes it short.
        connect_timeout: seconds, for the operation that connects.
        workflow_timeout: of what the cell starts.
        struck: set once the fault has struck.
        rule: what strikes at the proxy, where the fault does.
        connection: through the proxy; None before an operation that connects.
        handle: to a run that goes on, for the operations that need one.
        waiting: for the end of that run, where the operation has somebody wait.
        purged: whether the stream has been purged: what was stored cannot be told any more.
    """

    def __init__(self, site: Site, fault: Fault, operation: Operation, seed: int, *, result: Result) -> None:
        self.site = site
        self.fault = fault
        self.operation = operation
        self.result = result
        self.wf_id = f"{fault.name}-{operation.name}-{next(_NUMBERS)}".lower()
        self.timeout = LONG
        self.connect_timeout = PATIENCE
        self.workflow_timeout: float | None = None
        self.struck = asyncio.Event()
        self.lost = asyncio.Event()
        self.rule: Rule | None = None
        self.faults = Faults(seed)
        self.proxy = FaultProxy(site.near.url, self.faults, receive_buffer=4_096)
        self.connection: NatsConnection | None = None
        self.client: Client | None = None
        self.handle: WorkflowHandle[Any] | None = None
        self.waiting: asyncio.Future[Any]
        self.purged = False
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<{self.operation.value} where {self.fault.value}>"

    @property
    def servers(self) -> list[str]:
        return [self.proxy.url, *self.site.others]

    async def open(self, *, look_timeout: float, ping_every: float | None) -> None:
        """Open the proxy, and a connection through it.

        Args:
            look_timeout: seconds for one look at the records.
            ping_every: seconds between the driver's pings; None for as many as users have.

        """
        await self._stack.enter_async_context(self.proxy)
        self.look_timeout = look_timeout
        if self.operation is Operation.CONNECT:
            return
        connection = await self.connect(ping_every, PATIENCE)
        await self._stack.enter_async_context(connection)
        self.use(connection)

    async def connect(self, ping_every: float | None, timeout: float) -> NatsConnection:
        with patch.object(dial_module, "_PING_EVERY", ping_every or dial_module._PING_EVERY):
            return await NatsConnection.open(self.servers, connect_timeout=timeout, request_timeout=self.look_timeout)

    def use(self, connection: NatsConnection) -> None:
        """Make a connection the cell's."""
        self.connection = connection
        connection.add_listener(self._changed)
        self.client = Client(connection=connection, request_timeout=LONG, plugins=[])
        self.client._operations = Operations(connection, self.client.plugins.pipeline, _BOUNDS)

    def _changed(self, event: ConnectionEvent) -> None:
        if event is ConnectionEvent.DISCONNECTED:
            self.lost.set()

    async def close(self) -> None:
        """Close the connection and the proxy; see that nothing waits in them."""
        if self.connection is not None:
            await self.connection.close(grace=0)
            self._look_inside(self.connection)
        await self._stack.aclose()

    def _look_inside(self, connection: NatsConnection) -> None:
        left = {
            "waits": len(connection._watcher),
            "deadlines": len(connection._deadlines),
            "requests": connection._under_way,
            "cancels and terminates": len(connection._ending),
            "free slots": connection._slots._free - connection._settings.max_in_flight,
        }
        link = connection._uplink._link
        if link is not None:
            left |= {"replies": len(link.replies)}
        self.result.wrong += [f"{count} {what} left" for what, count in left.items() if count]
