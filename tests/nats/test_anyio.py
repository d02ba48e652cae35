"""Inside anyio's cancel scopes, which cancel again and again until the scope is left."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from grctl_core.commands import DescribeCommand
from grctl_nats import NatsConnection

pytestmark = pytest.mark.usefixtures("nothing_left")


async def test_opening_that_is_given_up_leaves_nothing(broker, server):
    opened = 0
    for turns in range(0, 120, 3):
        with anyio.CancelScope() as scope:
            cancelling = asyncio.create_task(after(turns, scope.cancel))
            connection = await NatsConnection.open(broker.url)
            opened += 1
        await cancelling
        if not scope.cancelled_caught:
            await connection.close()
    assert opened < 40


async def test_a_request_that_is_given_up(connection):
    for turns in range(12):
        with anyio.CancelScope() as scope:
            cancelling = asyncio.create_task(after(turns, scope.cancel))
            await connection.request(DescribeCommand(wf_id="w"), timeout=60)
        await cancelling
    assert await connection.ping(timeout=60)


async def test_closing_goes_on(broker, server):
    connection = await NatsConnection.open(broker.url)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await connection.close()


async def after(turns: int, call) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    call()
