"""A ping says what is wrong: the server, the broker, or the connection."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest

from grctl_core.commands import DescribeCommand, ErrorCode, Reply, ReplyError
from grctl_core.errors import ConnectionClosedError, DeliveryUnknownError, NotDeliveredError, NotSentError, ServerError
from grctl_core.protocols import ConnectionEvent
from grctl_nats import NatsConnection

pytestmark = pytest.mark.usefixtures("nothing_left")


async def test_the_server_is_there(connection, server):
    assert timedelta(0) < await connection.ping() < timedelta(seconds=5)
    (command,) = server.commands
    assert type(command) is DescribeCommand


async def test_no_server_listens(connection, server):
    await server.client.close()
    with pytest.raises(NotDeliveredError, match="no server listens"):
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(DeliveryUnknownError):  # the broker has not seen it go
                    await connection.ping(timeout=0.2)


async def test_the_server_is_stuck(connection, server):
    server.answer = lambda command: None
    with pytest.raises(DeliveryUnknownError):
        await connection.ping(timeout=0.05)
    server.answer = server.ok
    assert await connection.ping()


async def test_the_server_cannot_look(connection, server):
    server.answer = lambda command: Reply(success=False, error=ReplyError(ErrorCode.INTERNAL, "nats: timeout"))
    with pytest.raises(ServerError, match="nats: timeout"):
        await connection.ping()


async def test_the_broker_hangs(connection, broker):
    broker.freeze()
    try:
        with pytest.raises(DeliveryUnknownError):
            await connection.ping(timeout=0.05)
    finally:
        broker.thaw()
    assert await connection.ping(timeout=20)


async def test_the_broker_is_gone(connection, broker):
    gone = asyncio.Event()
    connection.add_listener(lambda event: event is ConnectionEvent.DISCONNECTED and gone.set())
    broker.kill()
    await gone.wait()
    with pytest.raises(NotSentError):
        await connection.ping()


async def test_the_connection_is_closed_under_a_ping(connection, server):
    server.answer = lambda command: None
    pinging = asyncio.create_task(connection.ping(timeout=60))
    await server.received(1)
    await connection.close(grace=0)
    with pytest.raises(DeliveryUnknownError):
        await pinging
    with pytest.raises(ConnectionClosedError):
        await connection.ping()


async def test_closing_waits_for_a_ping(connection, server):
    server.answer = lambda command: None
    pinging = asyncio.create_task(connection.ping(timeout=0.1))
    await server.received(1)
    closing = asyncio.create_task(connection.close(grace=60))
    with pytest.raises(DeliveryUnknownError, match=r"a ping within 0\.1 s"):
        await pinging
    await closing


async def test_a_process_that_is_busy_is_not_taken_for_a_server_that_is_away(broker, server):
    async with await NatsConnection.open(broker.url, max_in_flight=1) as connection:
        server.answer = lambda command: server.ok(command) if "ping" in command.wf_id else None
        asking = asyncio.create_task(connection.request(DescribeCommand(wf_id="slow"), timeout=60))
        await server.received(1)
        assert await connection.ping(timeout=20)
        await connection.close(grace=0)
        with pytest.raises(DeliveryUnknownError):
            await asking
