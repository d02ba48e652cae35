"""Site: a real broker, or three, with a development server behind it. The server's engine is the truth of a test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Self

import nats
import nats.errors
from broker import Broker
from nats.aio.client import Client

from grctl.testing import DevServer
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_core.codec import encode
from grctl_core.commands import DescribeCommand, EventCommand
from grctl_core.history import HistoryEvent
from grctl_core.run import RunFilter, RunInfo, RunRef
from grctl_nats import subjects, wire

from .server_thread import ServerThread

__all__ = ["HANGS_AFTER", "LONG", "PATIENCE", "Cluster", "Site", "order"]

PATIENCE = 30.0
"""Seconds for whatever is not to fail: it takes far less, on a machine that has other things to do too."""

HANGS_AFTER = 60.0
"""Seconds after which an operation counts as hanging."""

LONG = 1_000.0
"""Seconds that a caller is ready to wait where something is to end the waiting before: what does not, hangs."""

order = Workflow(workflow_type="Order")


@order.start()
async def start(ctx: Context, number: int) -> Directive:
    ctx.store.put("number", number)
    ctx.store.put("notes", [])
    return ctx.next.wait()


@order.event()
async def note(ctx: Context, value: int) -> Directive:
    ctx.store.put("notes", [*await ctx.store.get("notes", list), value])
    return ctx.next.wait()


@order.event()
async def ship(ctx: Context) -> Directive:
    return ctx.next.complete([await ctx.store.get("number", int), await ctx.store.get("notes", list)])


class Site:
    """One broker and the server. The broker cuts off who leaves more than 1.1 MB unread."""

    def __init__(self) -> None:
        self.near = Broker({"max_pending": 1_100_000})
        self._stack = AsyncExitStack()
        self._server: ServerThread

    @property
    def others(self) -> list[str]:
        """Addresses that lead to the same server, beside :attr:`near`."""
        return []

    async def __aenter__(self) -> Self:
        async with self._stack:
            await self._start()
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        await self._stack.enter_async_context(self.near)
        await self._serve(self.near)

    async def _serve(self, broker: Broker) -> None:
        server = ServerThread(lambda: DevServer([order], nats_url=broker.url))
        self._server = await self._stack.enter_async_context(server)

    @contextlib.asynccontextmanager
    async def raw(self) -> AsyncIterator[Client]:
        """A plain client of the broker that the server is connected to."""
        client = await nats.connect(self._server.url, allow_reconnect=False, error_cb=_say_nothing)
        try:
            yield client
        finally:
            await client.close()

    async def ready(self) -> None:
        """Wait until the server answers, and has answered all that came before."""
        body = wire.encode_command(DescribeCommand(wf_id="nobody"), "c_test@host")
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(nats.errors.Error, OSError):
                    async with self.raw() as client:
                        await client.request(subjects.command("nobody"), body, timeout=5)
                        return
                await asyncio.sleep(0.02)

    async def call(self, api: str, request: Any = None) -> dict[str, Any]:
        """Call JetStream's interface."""
        async with self.raw() as client:
            body = b"" if request is None else json.dumps(request).encode()
            answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{api}", body, timeout=PATIENCE)).data)
            return answer

    async def restore(self) -> None:
        """Bring back what a fault has taken."""
        await self.ready()

    async def runs(self, wf_id: str) -> list[RunInfo]:
        """The runs of a workflow id, by the server's word."""

        async def look(server: DevServer) -> list[RunInfo]:
            found = server.engine.list_runs(RunFilter(workflow_id_prefix=wf_id))
            return [run async for run in found if run.wf_id == wf_id]

        return await self._server.do(look)

    async def history(self, run: RunRef) -> list[HistoryEvent]:
        """What happened in a run, by the server's word."""

        async def look(server: DevServer) -> list[HistoryEvent]:
            return [event async for event in server.engine.history(run, follow=False)]

        return await self._server.do(look)

    async def send(self, run: RunRef, event_name: str, payload: object = None) -> None:
        """Have the server get an event, past any broker."""
        body = None if payload is None else encode("payload", payload)

        async def send(server: DevServer) -> None:
            server.engine.execute(EventCommand(wf_id=run.wf_id, run=run, event_name=event_name, payload=body))

        await self._server.do(send)


class Cluster(Site):
    """Three brokers with the stream on all of them. Clients are near one, the server is at another."""

    def __init__(self) -> None:
        super().__init__()
        ports = [_free_port() for _ in range(3)]
        cluster = {
            "name": "trio",
            "host": "127.0.0.1",
            "pool_size": -1,
            "routes": [f"nats-route://127.0.0.1:{port}" for port in ports],
        }
        self.near, self.far, self.third = (
            Broker(
                {
                    "server_name": name,
                    "cluster": cluster | {"port": port},
                    "lame_duck_duration": "30s",
                    "lame_duck_grace_period": "100ms",
                }
            )
            for name, port in zip(("near", "far", "third"), ports, strict=True)
        )

    @property
    def others(self) -> list[str]:
        return [self.far.url, self.third.url]

    async def _start(self) -> None:
        for broker in (self.near, self.far, self.third):
            await self._stack.enter_async_context(broker)
        await self._has_leader(self.far)
        await self._serve(self.far)
        config = (await self.call(f"STREAM.INFO.{subjects.STREAM}"))["config"]
        await self.call(f"STREAM.UPDATE.{subjects.STREAM}", config | {"num_replicas": 3})
        await self.is_whole()

    async def _has_leader(self, broker: Broker) -> None:
        async with asyncio.timeout(PATIENCE):
            client = await nats.connect(broker.url, allow_reconnect=False)
            try:
                while True:
                    with contextlib.suppress(nats.errors.Error):
                        answer = await client.request("$JS.API.INFO", b"", timeout=2)
                        if "error" not in json.loads(answer.data):
                            return
                    await asyncio.sleep(0.05)
            finally:
                await client.close()

    async def is_whole(self) -> None:
        """Wait until the stream is on all three, and up to date."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(nats.errors.Error, OSError):
                    cluster = (await self.call(f"STREAM.INFO.{subjects.STREAM}")).get("cluster", {})
                    replicas = cluster.get("replicas", [])
                    if cluster.get("leader") and len(replicas) == 2 and all(each["current"] for each in replicas):
                        return
                await asyncio.sleep(0.05)

    async def leader(self) -> str:
        """The name of the broker that leads the stream; empty while none does."""
        return str((await self.call(f"STREAM.INFO.{subjects.STREAM}")).get("cluster", {}).get("leader", ""))

    async def move_leader(self, name: str = "") -> None:
        """Have another broker lead the stream, where it is not led by it anyway."""
        request = {"placement": {"preferred": name}} if name else None
        await self.call(f"STREAM.LEADER.STEPDOWN.{subjects.STREAM}", request)

    def retire(self) -> None:
        """Have the near one go into lame-duck mode."""
        assert self.near._process is not None
        self.near._process.send_signal(signal.SIGUSR2)

    async def restore(self) -> None:
        if self.near._process is None or self.near._process.poll() is not None:
            await self.near.restart()
        await self.is_whole()
        await self.ready()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _say_nothing(_: Exception) -> None: ...
