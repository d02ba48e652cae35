from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from broker import Broker
from fake_server import FakeServer, new_run
from fault_proxy import FaultProxy, Faults, replies

from grctl_core.commands import DescribeCommand, Reply
from grctl_core.errors import (
    AccessDeniedError,
    ConnectionClosedError,
    ConnectionFailedError,
    DeliveryUnknownError,
    NotDeliveredError,
    NotSentError,
    UnsupportedOperationError,
    WorkflowNotFoundError,
)
from grctl_core.outcome import EncodedOutcome
from grctl_core.protocols import ConnectionEvent
from grctl_core.run import RunFilter, RunRef, RunStatus
from grctl_nats import NatsConnection
from grctl_nats import uplink as uplink_module

UP, DOWN, CLOSED = ConnectionEvent.CONNECTED, ConnectionEvent.DISCONNECTED, ConnectionEvent.CLOSED

pytestmark = pytest.mark.usefixtures("nothing_left")


class Events:
    """What a listener heard."""

    def __init__(self, connection: NatsConnection) -> None:
        self.heard: list[ConnectionEvent] = []
        self._came = asyncio.Event()
        connection.add_listener(self._hear)

    def _hear(self, event: ConnectionEvent) -> None:
        self.heard.append(event)
        self._came.set()

    async def until(self, *events: ConnectionEvent) -> None:
        async with asyncio.timeout(30):
            while self.heard != list(events):
                self._came.clear()
                await self._came.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def ask(connection: NatsConnection) -> Reply:
    return await connection.request(DescribeCommand(wf_id="w"), timeout=20)


async def test_a_broker_that_is_restarted(broker, server, connection):
    events = Events(connection)
    before = (await ask(connection)).link
    await broker.restart()
    await server.connect()
    await events.until(DOWN, UP)
    assert (await ask(connection)).link > before
    await connection.close()
    assert events.heard == [DOWN, UP, CLOSED]


async def test_what_is_asked_meanwhile_is_not_sent(broker, server, connection):
    events = Events(connection)
    broker.kill()
    await events.until(DOWN)
    with pytest.raises(NotSentError, match="is lost, and being made anew"):
        await ask(connection)
    await broker.start()
    await server.connect()
    await events.until(DOWN, UP)
    await ask(connection)
    assert len(server.commands) == 1


async def test_what_is_under_way_is_unknown(broker, server, connection):
    server.answer = lambda _: None
    asking = asyncio.create_task(connection.request(DescribeCommand(wf_id="w"), timeout=1_000))
    await server.received(1)
    broker.kill()
    with pytest.raises(DeliveryUnknownError) as caught:
        async with asyncio.timeout(20):
            await asking
    assert caught.value.link is not None


async def test_restarts_without_end(broker, server, connection):
    events = Events(connection)
    links = set()
    for _ in range(3):
        events.heard.clear()
        await broker.restart()
        await server.connect()
        await events.until(DOWN, UP)
        links.add((await ask(connection)).link)
    assert len(links) == 3


async def test_waits_go_on(broker, server, connection):
    run = new_run()
    await server.put_run(run)
    events = Events(connection)
    waiting = connection.watch(run.ref)
    broker.kill()
    await events.until(DOWN)
    await broker.start()
    await server.connect()
    await server.end(run, result=7)
    async with asyncio.timeout(20):
        outcome: EncodedOutcome = await waiting
    assert outcome.run.status is RunStatus.COMPLETED


async def test_subscriptions_are_made_anew(broker, server, connection, monkeypatch):
    run = new_run()
    await server.put_run(run)
    events = Events(connection)
    waiting = connection.watch(run.ref)
    await broker.restart()
    await server.connect()
    await events.until(DOWN, UP)
    await server.end(run)  # seconds before the sweep: the hint over the new link says so
    async with asyncio.timeout(20):
        await waiting


def close_without_a_word(monkeypatch, link) -> None:
    """Have the driver's connection be gone, before its callback or our watchdog says so."""
    driver = link._client
    monkeypatch.setattr(type(driver), "is_connected", property(lambda client: client is not driver))
    assert not link.lost.done()


SEEN_BY = {
    "request": ask,
    "look": lambda connection: connection.find_run(RunRef("w", "r", "W")),
    "list": lambda connection: anext(connection.list_runs(RunFilter())),
}


@pytest.mark.parametrize("first", SEEN_BY)
async def test_listeners_hear_of_a_loss_before_anybody_is_refused_for_it(
    broker, server, connection, monkeypatch, first
):
    events = Events(connection)
    before = connection._uplink.link
    close_without_a_word(monkeypatch, before)
    steps = SEEN_BY[first](connection).__await__()
    with pytest.raises(NotSentError, match="is lost"):
        next(steps)  # in this turn of the loop: no task of ours has run
    assert events.heard == [DOWN]
    await events.until(DOWN, UP)
    assert connection._uplink.link.number > before.number


async def test_a_loss_is_told_once(broker, server, connection):
    """However many see it: who asks, who waits, the driver's callback."""
    events = Events(connection)
    link = connection._uplink.link
    broker.kill()
    async with asyncio.timeout(20):
        while link.is_up:
            await asyncio.sleep(0)
    assert events.heard == [DOWN]  # nothing of ours has run since
    for _ in range(3):
        with pytest.raises(NotSentError):
            await ask(connection)
    link.lose("again")
    await link.close()
    await broker.start()
    await server.connect()
    await events.until(DOWN, UP)


async def test_who_waits_for_a_link_sees_that_the_driver_closed(broker, server, connection, monkeypatch):
    """And does not spin until somebody else does."""
    uplink = connection._uplink
    events = Events(connection)
    link = uplink.link
    close_without_a_word(monkeypatch, link)
    waiting = asyncio.create_task(uplink.wait_up())
    await asyncio.sleep(0)
    assert events.heard == [DOWN]
    assert (await asyncio.wait_for(waiting, 20)).number > link.number


@pytest.mark.parametrize("how", ["told", "without a word"])
async def test_a_link_that_is_lost_before_it_is_taken(broker, server, connection, monkeypatch, how):
    """Between its last sign of life and the moment in which it becomes the present one."""
    prepare = NatsConnection._prepare
    prepared = []

    async def lose_once(self, link):
        await prepare(self, link)
        prepared.append(link)
        if len(prepared) == 1:
            if how == "told":
                link.lose("just now")
            else:
                close_without_a_word(monkeypatch, link)

    monkeypatch.setattr(connection._uplink, "_prepare", lambda link: lose_once(connection, link))
    events = Events(connection)
    connection._uplink.link.lose("a test")
    assert events.heard == [DOWN]
    await events.until(DOWN, UP)
    assert len(prepared) == 2
    assert connection._uplink.link is prepared[1]
    await ask(connection)
    # The same at the first connect: it is tried again.
    prepared.clear()
    monkeypatch.setattr(NatsConnection, "_prepare", lose_once)
    async with await NatsConnection.open(broker.url, connect_timeout=20) as other:
        assert len(prepared) == 2
        await ask(other)


async def test_one_server_of_two_is_dead(broker, server):
    for servers in (f"127.0.0.1:{free_port()},{broker.url}", f"{broker.url},127.0.0.1:{free_port()}"):
        async with await NatsConnection.open(servers, connect_timeout=20) as connection:
            await ask(connection)


async def test_the_other_server_takes_over(server, broker):
    async with (
        Broker() as other,
        FakeServer(other.url),
        await NatsConnection.open([broker.url, other.url]) as connection,
    ):
        events = Events(connection)
        broker.kill()
        await events.until(DOWN, UP)
        await ask(connection)


async def test_a_login_that_fails_after_the_loss_is_tried_on(caplog):
    user = {"user": "me", "password": "right"}
    async with Broker({"authorization": user}) as broker:
        server = FakeServer(broker.url, **user)
        await server.connect()
        async with await NatsConnection.open(broker.url, **user) as connection:
            events = Events(connection)
            broker.kill()
            broker.config["authorization"] = {"user": "me", "password": "changed"}
            await broker.start()
            async with asyncio.timeout(20):
                while "Authorization Violation" not in caplog.text:
                    await asyncio.sleep(0.01)
            broker.kill()
            broker.config["authorization"] = user
            await broker.start()
            await server.connect()
            await events.until(DOWN, UP)
            await ask(connection)
            assert events.heard == [DOWN, UP]
        await server.client.close()
        assert "right" not in caplog.text


async def test_closing_while_it_connects_anew(broker, server, connection):
    events = Events(connection)
    run = new_run()
    await server.put_run(run)
    waiting = connection.watch(run.ref)
    broker.kill()
    await events.until(DOWN)
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await connection.close()
    assert events.heard == [DOWN, CLOSED]
    with pytest.raises(ConnectionClosedError):
        await ask(connection)
    with pytest.raises(ConnectionClosedError):
        await waiting


async def test_closing_while_it_dials(broker, server, connection, monkeypatch):
    """At any moment of the dialling: each takes another number of turns of the loop."""
    for turns in range(60):
        opened = await NatsConnection.open(broker.url)
        opened._uplink.link.lose("a test")
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await opened.close(grace=0)


async def test_cancelling_while_it_opens(broker, server):
    for turns in range(60):
        opening = asyncio.create_task(NatsConnection.open(broker.url, connect_timeout=1_000))
        for _ in range(turns):
            await asyncio.sleep(0)
        was_open = not opening.cancel()
        async with asyncio.timeout(20):
            if was_open:
                await (await opening).close()
                continue
            with pytest.raises(asyncio.CancelledError):
                await opening


async def test_connecting_begins_before_the_server():
    broker = Broker()
    broker.port = free_port()
    opening = asyncio.create_task(NatsConnection.open(broker.url, connect_timeout=1_000))
    await asyncio.sleep(0.05)
    async with broker, FakeServer(broker.url):
        async with asyncio.timeout(20):
            connection = await opening
        await connection.close()


async def test_a_last_try_that_was_cut_short_hides_nothing(monkeypatch):
    """It has a tenth of a second: of a far broker it would say that it says nothing."""
    tries = []

    async def dial(server, settings, timeout):
        tries.append(timeout)
        if len(tries) == 1:
            raise UnsupportedOperationError("it has no stream")
        await asyncio.sleep(timeout)
        raise ConnectionFailedError("it says nothing")

    monkeypatch.setattr(uplink_module, "dial", dial)
    with pytest.raises(UnsupportedOperationError):
        async with asyncio.timeout(20):
            await NatsConnection.open("nats://far", connect_timeout=0.3)
    assert len(tries) > 1


@pytest.mark.parametrize("kind", ["nobody", "silent", "frozen"])
async def test_the_connect_timeout_is_for_all_of_it(kind, broker, server):
    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hanging.append(writer)

    hanging: list[asyncio.StreamWriter] = []
    listening = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    addresses = {
        "nobody": [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"],
        "silent": [f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"] * 2,
        "frozen": [broker.url],
    }[kind]
    if kind == "frozen":
        broker.freeze()
    with pytest.raises(ConnectionFailedError):
        async with asyncio.timeout(20):
            await NatsConnection.open(addresses, connect_timeout=0.2, request_timeout=1_000)
    broker.thaw()
    for writer in hanging:
        writer.close()
    listening.close()
    await listening.wait_closed()


async def test_a_broker_that_falls_silent_after_the_login(broker, server, monkeypatch):
    prepare = NatsConnection._prepare

    async def frozen(self, link):
        broker.freeze()
        await prepare(self, link)

    monkeypatch.setattr(NatsConnection, "_prepare", frozen)
    with pytest.raises(ConnectionFailedError, match="let us in and then said nothing"):
        async with asyncio.timeout(20):
            await NatsConnection.open(broker.url, connect_timeout=0.3, request_timeout=1_000)
    broker.thaw()


async def test_a_refusal_among_servers_is_what_is_said(broker, server):
    async with Broker({"authorization": {"token": "x"}}, jetstream=False) as other:
        with pytest.raises(AccessDeniedError):
            await NatsConnection.open([other.url, f"127.0.0.1:{free_port()}"], connect_timeout=1_000)
        async with await NatsConnection.open([other.url, broker.url]) as connection:
            await ask(connection)


async def test_the_records_are_gone_after_the_restart(broker, server, connection):
    run = new_run()
    await server.put_run(run)
    events = Events(connection)
    waiting = connection.watch(run.ref)
    broker.kill()
    broker.config["jetstream"] = {"store_dir": str(broker.folder / "new")}
    await broker.start()
    await events.until(DOWN)
    await server.connect()
    await events.until(DOWN, UP)
    with pytest.raises(WorkflowNotFoundError, match="has no records"):
        async with asyncio.timeout(20):
            await waiting


async def test_a_server_that_is_gone_while_the_broker_is_there(server, connection):
    await server.client.close()
    with pytest.raises(NotDeliveredError):
        async with asyncio.timeout(20):
            while True:  # the broker may not know yet
                with contextlib.suppress(DeliveryUnknownError):
                    await connection.request(DescribeCommand(wf_id="w"), timeout=0.1)


async def test_a_listener_that_raises_harms_nobody(broker, server, connection, caplog):
    def bad(_: ConnectionEvent) -> None:
        raise RuntimeError("mine")

    connection.add_listener(bad)
    events = Events(connection)
    await broker.restart()
    await server.connect()
    await events.until(DOWN, UP)
    assert "mine" in caplog.text


async def test_a_listener_that_is_removed(broker, server, connection):
    heard = []
    remove = connection.add_listener(heard.append)
    remove()
    remove()
    await connection.close()
    assert heard == []


async def test_pauses_grow_to_a_bound():
    assert uplink_module._FIRST_PAUSE < uplink_module._LONGEST_PAUSE <= 2


async def test_a_broker_whose_first_word_on_the_stream_is_lost_is_asked_again(broker, server):
    """The look at the stream may take as long as all connecting may: it must leave time for another try."""
    faults = Faults()
    faults.drop(replies("$JS.API.STREAM.INFO.>"), nth=1)
    async with FaultProxy(broker.url, faults) as proxy:
        connection = await NatsConnection.open(proxy.url, connect_timeout=8, request_timeout=8)
        assert not (await connection.request(DescribeCommand(wf_id="w"), timeout=20)).success
        await connection.close()
