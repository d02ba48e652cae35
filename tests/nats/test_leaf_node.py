"""A first attempt that arrives late: it lies in a stopped leaf node while the client goes on over another way.

All is real: the hub with the development server behind it, the leaf node, the client that is connected to the leaf
and knows the hub as well.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import nats
import pytest
from broker import Broker, sync
from nats.aio.msg import Msg

from grctl import Client, RunStatus
from grctl.protocols import ConnectionEvent
from grctl.testing import DevServer
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_core.commands import CancelCommand, Command, DescribeCommand, EventCommand, StartCommand
from grctl_core.doubt import DoubtBounds
from grctl_core.errors import ConnectionFailedError, DeliveryUnknownError
from grctl_core.operations import Operations
from grctl_core.pipeline import Layer, Pipeline
from grctl_nats import NatsConnection, Safeguards, subjects, uplink, wire
from grctl_nats import dial as dial_module

T = TypeVar("T", bound=Command)
PATIENCE = 20.0
TRIES = 10
SHORT = 0.3
"""Seconds for a request that is known to get no answer; one that gets none by chance is made again."""

collects = Workflow(workflow_type="Collects")


@collects.start()
async def start(ctx: Context) -> Directive:
    ctx.store.put("collected", [])
    return ctx.next.wait()


@collects.event()
async def add(ctx: Context, value: int) -> Directive:
    ctx.store.put("collected", [*await ctx.store.get("collected", list), value])
    return ctx.next.wait()


@collects.event()
async def done(ctx: Context) -> Directive:
    return ctx.next.complete(await ctx.store.get("collected", list))


class Way:
    """A client whose way to the server leads through a leaf node, and what reaches the server."""

    def __init__(self, leaf: Broker, connection: NatsConnection) -> None:
        self.leaf = leaf
        self.connection = connection
        self.arrived: list[Command] = []
        self.freeze_at: type[Command] | None = None
        self.thaw_at: type[Command] | None = None
        self._news = asyncio.Event()
        self._elsewhere = asyncio.Event()
        self._lost = False
        connection.add_listener(self._changed)
        self.client = Client(connection=connection)

    def goes_on(self, bounds: DoubtBounds) -> None:
        """Have the client try again once it is connected anew."""
        retry, attempt = Layer("test", "grctl_retry", self._retry), Layer("test", "grctl_attempt", self._attempt)
        pipeline = Pipeline(retry=retry, attempts=[attempt])
        self.client._operations = Operations(self.connection, pipeline, bounds)

    async def hear(self, message: Msg) -> None:
        self.arrived.append(wire.decode_command(message.data))
        if self.thaw_at is not None and isinstance(self.arrived[-1], self.thaw_at):
            self.thaw_at = None
            self.leaf.thaw()
        self._news.set()

    def count(self, kind: type[Command]) -> int:
        return sum(isinstance(command, kind) for command in self.arrived)

    async def until_arrived(self, kind: type[T], count: int) -> list[T]:
        async with asyncio.timeout(PATIENCE):
            while self.count(kind) < count:
                self._news.clear()
                await self._news.wait()
        return [command for command in self.arrived if isinstance(command, kind)]

    def _changed(self, event: ConnectionEvent) -> None:
        if event is ConnectionEvent.DISCONNECTED:
            self._lost = True
        elif event is ConnectionEvent.CONNECTED and self._lost:
            self._elsewhere.set()

    async def _attempt(self, attempt: Any, proceed: Callable[[Any], Awaitable[Any]]) -> Any:
        if self.freeze_at is not None and isinstance(attempt.command, self.freeze_at):
            self.freeze_at = None
            self.leaf.freeze()
        return await proceed(attempt)

    async def _retry(self, call: Any, proceed: Callable[[Any], Awaitable[Any]]) -> Any:
        for _ in range(TRIES):
            try:
                return await proceed(call)
            except (DeliveryUnknownError, ConnectionFailedError):
                await asyncio.wait_for(self._elsewhere.wait(), PATIENCE)
        return await proceed(call)


@pytest.fixture
async def way(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Way]:
    monkeypatch.setattr(dial_module, "_PING_EVERY", 0.1)
    monkeypatch.setattr(uplink, "_DIAL_TIMEOUT", 0.5)
    async with AsyncExitStack() as stack:
        # A leaf without JetStream passes its interface on only under the name of a domain.
        hub = await stack.enter_async_context(
            Broker({"leafnodes": {"host": "127.0.0.1", "port": -1}, "jetstream": {"domain": "hub"}})
        )
        port = re.search(r"leafnode connections on 127\.0\.0\.1:(\d+)", hub.log)
        assert port is not None, hub.log
        config = {
            "server_name": "leaf",
            "leafnodes": {"remotes": [{"url": f"nats-leaf://127.0.0.1:{port[1]}"}]},
            "default_js_domain": {"$G": "hub"},
        }
        leaf = await stack.enter_async_context(Broker(config, jetstream=False))
        await stack.enter_async_context(DevServer([collects], nats_url=hub.url))
        # What they do is looked at without them; the commands are to reach the stopped node.
        guards = Safeguards(begun_before_cancel=False, settled_before_send=False)
        async with await NatsConnection.open(leaf.url, connect_timeout=PATIENCE):
            pass  # the leaf has found its hub
        connection = await stack.enter_async_context(
            await NatsConnection.open([leaf.url, hub.url], safeguards=guards, connect_timeout=PATIENCE)
        )
        way = Way(leaf, connection)
        spy = await nats.connect(hub.url, allow_reconnect=False)
        stack.push_async_callback(spy.close)
        await spy.subscribe(subjects.ALL_COMMANDS, cb=way.hear)
        await sync(spy)
        assert connection._uplink.link.server == leaf.url
        yield way


async def runs(way: Way) -> list[tuple[str, RunStatus | None]]:
    return [(run.id, run.status) async for run in way.client.list_workflows()]


async def kinds(handle: Any) -> list[str]:
    return [event.kind async for event in handle.history()]


async def answered(way: Way) -> None:
    """What arrived before this has been carried out: the server does one command after the other."""
    await way.connection.request(DescribeCommand(wf_id="a"), timeout=PATIENCE)


async def the_id_is_free(way: Way) -> None:
    again = await way.client.start_workflow("Collects", "a")
    await again.send("done", request_timeout=PATIENCE)
    assert await again.result(PATIENCE) == []


async def test_a_start_that_arrives_after_the_run_was_started_over_another_way(way: Way) -> None:
    way.goes_on(DoubtBounds(quarantine=0.2))
    way.leaf.freeze()
    handle = await way.client.start_workflow("Collects", "a", request_timeout=SHORT)
    assert way.count(StartCommand) == 1  # the second attempt; the first one is in the leaf
    assert [command.run.id for command in way.arrived if isinstance(command, StartCommand)] == [handle.run_info.id]
    way.leaf.thaw()
    first, second = await way.until_arrived(StartCommand, 2)
    assert first.run.id == second.run.id == handle.run_info.id
    await answered(way)
    assert await runs(way) == [(handle.run_info.id, RunStatus.RUNNING)]
    await handle.send("add", 1)
    await handle.send("done")
    assert await handle.result(PATIENCE) == [1]
    assert (await kinds(handle)).count("run.started") == 1
    await the_id_is_free(way)


async def test_a_start_that_arrives_while_it_is_looked_for(way: Way) -> None:
    way.goes_on(DoubtBounds(quarantine=PATIENCE))
    way.thaw_at = DescribeCommand
    way.leaf.freeze()
    handle = await way.client.start_workflow("Collects", "a", request_timeout=SHORT)
    (only,) = await way.until_arrived(StartCommand, 1)
    assert only.run.id == handle.run_info.id
    assert way.count(DescribeCommand) >= 1
    assert await runs(way) == [(handle.run_info.id, RunStatus.RUNNING)]
    await handle.send("done")
    assert await handle.result(PATIENCE) == []
    assert way.count(StartCommand) == 1
    await the_id_is_free(way)


async def test_a_start_that_arrives_after_its_run_has_ended(way: Way) -> None:
    """It blocks the id on grctld (docs/protocol.md, section 8, 1), whatever a client does; not on our server."""
    way.goes_on(DoubtBounds(quarantine=0.2))
    way.leaf.freeze()
    handle = await way.client.start_workflow("Collects", "a", request_timeout=SHORT)
    await handle.send("done")
    assert await handle.result(PATIENCE) == []
    way.leaf.thaw()
    await way.until_arrived(StartCommand, 2)
    await answered(way)
    assert await runs(way) == [(handle.run_info.id, RunStatus.COMPLETED)]
    assert (await kinds(handle)).count("run.started") == 1
    await the_id_is_free(way)


async def test_a_cancel_that_arrives_after_the_run_was_cancelled_over_another_way(way: Way) -> None:
    way.goes_on(DoubtBounds())
    handle = await way.client.start_workflow("Collects", "a", request_timeout=PATIENCE)
    way.freeze_at = CancelCommand
    await handle.cancel("enough", request_timeout=SHORT)
    assert way.count(CancelCommand) == 1
    assert (await handle.outcome(PATIENCE)).reason == "enough"
    way.leaf.thaw()
    await way.until_arrived(CancelCommand, 2)
    await answered(way)
    assert (await kinds(handle)).count("run.cancelled") == 1
    assert await runs(way) == [(handle.run_info.id, RunStatus.CANCELLED)]
    await the_id_is_free(way)


async def test_a_send_is_in_doubt_and_arrives_once(way: Way) -> None:
    """Also with a retry around it: only what the caller called idempotent is sent again."""
    way.goes_on(DoubtBounds())
    handle = await way.client.start_workflow("Collects", "a", request_timeout=PATIENCE)
    await handle.send("add", 1, request_timeout=PATIENCE)  # what its type knows is known from here on
    way.freeze_at = EventCommand
    with pytest.raises(DeliveryUnknownError) as caught:
        await handle.send("add", 2, request_timeout=SHORT)
    assert (caught.value.operation, caught.value.run) == ("send", handle.run_info.ref)
    assert way.count(EventCommand) == 1
    way.leaf.thaw()
    await way.until_arrived(EventCommand, 2)
    await handle.send("done", request_timeout=PATIENCE)
    assert await handle.result(PATIENCE) == [1, 2]
    assert way.count(EventCommand) == 3


async def test_a_send_that_may_come_twice_does(way: Way) -> None:
    way.goes_on(DoubtBounds())
    handle = await way.client.start_workflow("Collects", "a", request_timeout=PATIENCE)
    await handle.send("add", 1, request_timeout=PATIENCE)
    way.freeze_at = EventCommand
    await handle.send("add", 2, idempotent=True, request_timeout=SHORT)
    repeated = way.count(EventCommand) - 1  # more than once where the machine is too slow for SHORT
    assert repeated >= 1
    way.leaf.thaw()
    await way.until_arrived(EventCommand, 1 + repeated + 1)
    await handle.send("done", request_timeout=PATIENCE)
    assert await handle.result(PATIENCE) == [1, 2, *[2] * repeated]
