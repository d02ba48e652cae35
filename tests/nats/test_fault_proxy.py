"""The fault proxy between a real broker and the transport: what each fault becomes for the caller."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from fake_server import new_run
from fault_proxy import Direction, FaultProxy, Faults, frames, replies, requests

from grctl_core.commands import DescribeCommand, EventCommand, StartCommand
from grctl_core.errors import DeliveryUnknownError, NotSentError
from grctl_core.protocols import ConnectionEvent
from grctl_nats import NatsConnection, wire

pytestmark = pytest.mark.usefixtures("nothing_left")

LONG = 1_000.0
SOON = 0.2


def asking(wf_id: str = "w") -> DescribeCommand:
    return DescribeCommand(wf_id=wf_id)


@contextlib.asynccontextmanager
async def through(broker, faults):
    async with (
        asyncio.timeout(60),
        FaultProxy(broker.url, faults) as proxy,
        await NatsConnection.open(proxy.url) as connection,
    ):
        yield connection


async def reconnected(connection) -> None:
    """Wait until something can be sent again."""
    while True:
        with contextlib.suppress(NotSentError):
            await connection.request(asking(), timeout=LONG)
            return
        await asyncio.sleep(0.001)


async def test_no_fault(broker, server):
    run = new_run()
    await server.put_run(run)
    async with through(broker, Faults()) as connection:
        assert (await connection.request(asking(), timeout=LONG)).run.id == run.id
        assert (await connection.find_run(run.ref)).id == run.id
        waiting = connection.watch(run.ref)
        await server.end(run)
        assert (await waiting).run.id == run.id


async def test_a_reply_that_is_lost_after_it_was_carried_out(broker, server):
    faults = Faults()
    lost = faults.drop(replies(), nth=1)
    async with through(broker, faults) as connection:
        with pytest.raises(DeliveryUnknownError, match="has not answered"):
            await connection.request(StartCommand(wf_id="w", run=new_run()), timeout=SOON)
        assert [command.kind for command in server.commands] == ["run.start"]
        assert wire.decode_command(lost.struck[0].request.payload).kind == "run.start"
        assert (await connection.request(asking(), timeout=LONG)).success  # the connection is kept


async def test_a_request_that_is_lost_never_arrives(broker, server):
    faults = Faults()
    faults.drop(requests("grctl_api.workflow.w"), nth=1)
    async with through(broker, faults) as connection:
        with pytest.raises(DeliveryUnknownError, match="has not answered"):
            await connection.request(EventCommand(wf_id="w", event_name="e"), timeout=SOON)
        await connection.request(asking("other"), timeout=LONG)
    assert [command.wf_id for command in server.commands] == ["other"]


async def test_a_reply_that_comes_twice_is_warned_of_once(broker, server, caplog):
    faults = Faults()
    doubled = faults.duplicate(replies())
    async with through(broker, faults) as connection:
        for _ in range(5):
            await connection.request(asking(), timeout=LONG)
    assert len(doubled.struck) == 5
    assert [record.levelname for record in caplog.records if "answered twice" in record.getMessage()] == ["WARNING"]


async def test_a_request_that_comes_twice_is_carried_out_twice(broker, server):
    faults = Faults()
    faults.duplicate(requests(), nth=1)
    async with through(broker, faults) as connection:
        await connection.request(EventCommand(wf_id="w", event_name="e"), timeout=LONG)
        first, second = await server.received(2)
    assert first == second


async def test_a_late_reply_is_overtaken(broker, server):
    faults = Faults()
    late = faults.hold(replies(), nth=1)
    async with through(broker, faults) as connection:
        first = asyncio.ensure_future(connection.request(asking("first"), timeout=LONG))
        await late.wait_struck()
        await connection.request(asking("second"), timeout=LONG)
        assert not first.done()
        late.release()
        assert (await first).error.code == 4002


async def test_a_reply_after_the_caller_has_given_up(broker, server, caplog):
    faults = Faults()
    late = faults.hold(replies(), nth=1)
    async with through(broker, faults) as connection:
        with pytest.raises(DeliveryUnknownError):
            await connection.request(asking(), timeout=SOON)
        late.release()
        await connection.request(asking(), timeout=LONG)
    assert caplog.records == []


async def test_a_delay_waits_as_long_as_it_says(broker, server):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    faults = Faults(sleep=sleep)
    faults.delay(replies(), 3.5, nth=2)
    async with through(broker, faults) as connection:
        for _ in range(3):
            await connection.request(asking(), timeout=LONG)
    assert waits == [3.5]


@pytest.mark.parametrize(
    ("match", "after", "carried_out"),
    [(requests(), False, 0), (requests(), True, 1), (replies(), False, 1)],
    ids=["before the request", "after the request", "before the reply"],
)
async def test_cut_while_a_request_is_under_way(broker, server, match, after, carried_out):
    faults = Faults()
    faults.cut(match, after=after, nth=1)
    async with through(broker, faults) as connection:
        with pytest.raises(DeliveryUnknownError, match="was lost before the reply came"):
            await connection.request(EventCommand(wf_id="w", event_name="e"), timeout=LONG)
        await reconnected(connection)
        events = [command for command in await server.received(carried_out + 1) if command.kind == "run.event"]
    assert len(events) == carried_out


async def test_cut_after_a_reply_which_arrives(broker, server):
    faults = Faults()
    faults.cut(replies(), after=True, nth=1)
    seen: list[ConnectionEvent] = []
    async with through(broker, faults) as connection:
        connection.add_listener(seen.append)
        assert (await connection.request(StartCommand(wf_id="w", run=new_run()), timeout=LONG)).success
        while ConnectionEvent.DISCONNECTED not in seen:
            await asyncio.sleep(0.001)
        await reconnected(connection)
    assert seen == [ConnectionEvent.DISCONNECTED, ConnectionEvent.CONNECTED, ConnectionEvent.CLOSED]


async def test_half_open(broker, server):
    """Nobody is told; what is sent is lost, and only the timeout ends the waiting."""
    faults = Faults()
    faults.half_open(requests(), nth=2)
    seen: list[ConnectionEvent] = []
    async with through(broker, faults) as connection:
        connection.add_listener(seen.append)
        await connection.request(asking(), timeout=LONG)
        for _ in range(2):
            with pytest.raises(DeliveryUnknownError, match="has not answered"):
                await connection.request(EventCommand(wf_id="w", event_name="e"), timeout=SOON)
        assert seen == []
        await connection.close(grace=0)
    assert [command.kind for command in server.commands] == ["run.describe"]


async def test_a_reply_that_is_garbled(broker, server):
    faults = Faults()
    faults.corrupt(replies(), nth=1)
    async with through(broker, faults) as connection:
        with pytest.raises(DeliveryUnknownError, match=r"answered, but .* cannot be decoded"):
            await connection.request(EventCommand(wf_id="w", event_name="e"), timeout=LONG)
        await connection.request(asking(), timeout=LONG)


async def test_a_reply_that_is_changed(broker, server):
    """What it says is believed, unless it is of another workflow than the one that was asked about."""
    run = new_run()
    await server.put_run(run)
    changed = wire.encode_reply(server.ok(asking()))
    faults = Faults()
    faults.corrupt(replies(), lambda frame: frame.with_payload(changed), nth=1)
    faults.corrupt(replies(), lambda frame: frame.with_payload(changed), nth=2)
    async with through(broker, faults) as connection:
        assert (await connection.request(asking(run.wf_id), timeout=LONG)).run.id == run.id
        with pytest.raises(DeliveryUnknownError, match="of a run of another workflow than 'other'"):
            await connection.request(asking("other"), timeout=LONG)


async def test_a_byte_at_a_time_in_both_directions(broker, server):
    faults = Faults()
    faults.throttle(1_000_000)
    async with through(broker, faults) as connection:
        command = EventCommand(wf_id="w", event_name="e", payload=b"\xc4\x03abc", headers={"k": "v"})
        assert (await connection.request(command, timeout=LONG)).success
        (received,) = await server.received(1)
    assert received.payload == command.payload


async def test_a_share_of_replies_and_requests(broker, server):
    faults = Faults(seed=11)
    lost = [faults.drop(replies(), share=0.3), faults.drop(requests(), share=0.1)]

    async def fate(connection, number: int) -> bool:
        with contextlib.suppress(DeliveryUnknownError):
            return (await connection.request(EventCommand(wf_id=f"w{number}", event_name="e"), timeout=2)).success
        return False

    async with through(broker, faults) as connection:
        fates = await asyncio.gather(*(fate(connection, number) for number in range(200)))
    struck = [len(rule.struck) for rule in lost]
    assert (lost[1].seen, lost[0].seen) == (200, 200 - struck[1])
    assert fates.count(True) == 200 - sum(struck)
    assert all(struck)


async def test_the_protocols_own_frames(broker, server):
    """Without the server's PONG a connection is never opened."""
    faults = Faults()
    faults.drop(frames(Direction.TO_CLIENT, "pong"))
    async with FaultProxy(broker.url, faults) as proxy:
        with pytest.raises(ConnectionError):
            await NatsConnection.open(proxy.url, connect_timeout=SOON)
