"""grctl_core.ping: what a ping sends, and what it makes of each answer."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from grctl_core.commands import DescribeCommand, ErrorCode, Reply
from grctl_core.errors import DeliveryUnknownError, InvalidInputError, NotDeliveredError, ServerError

from .scripted import NEVER, refused, run_info

PASSES = [refused(ErrorCode.NOT_FOUND, "workflow run not found"), Reply(success=True, run=run_info("R1"))]
FAILS = [refused(code) for code in (ErrorCode.INTERNAL, ErrorCode.PANIC, ErrorCode.UNKNOWN_COMMAND, 4999)]


async def test_it_describes_an_id_that_nobody_has_and_nothing_else(connection):
    await asyncio.gather(*(connection.ping() for _ in range(10)))
    assert {type(command) for command in connection.commands} == {DescribeCommand}
    ids = {command.wf_id for command in connection.commands}
    assert len(ids) == 10
    assert all(wf_id.startswith("grctl-ping-") for wf_id in ids)
    assert not connection.looks


@pytest.mark.parametrize("reply", PASSES)
async def test_an_answer_is_a_round_trip(connection, reply):
    connection.script("run.describe", reply)
    assert await connection.ping() > timedelta(0)


@pytest.mark.parametrize("reply", [*FAILS, Reply(success=False)])
async def test_a_server_that_cannot_look_is_not_well(connection, reply):
    connection.script("run.describe", reply)
    with pytest.raises(ServerError, match="refused the ping"):
        await connection.ping()


async def test_what_the_transport_raises_comes_as_it_is(connection):
    connection.script("run.describe", NotDeliveredError("nobody listens"))
    with pytest.raises(NotDeliveredError, match="nobody listens"):
        await connection.ping()


@pytest.mark.parametrize("timeout", [0.01, timedelta(milliseconds=10)])
async def test_no_answer_in_time(connection, timeout):
    connection.script("run.describe", NEVER)
    with pytest.raises(DeliveryUnknownError, match=r"has not answered a ping within 0\.01 s"):
        await connection.ping(timeout=timeout)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5", None])
async def test_a_timeout_that_is_none(connection, timeout):
    with pytest.raises(InvalidInputError, match="timeout"):
        await connection.ping(timeout=timeout)
    assert connection.commands == []


async def test_it_can_be_cancelled(connection):
    connection.script("run.describe", NEVER)
    pinging = asyncio.create_task(connection.ping())
    await asyncio.sleep(0)
    pinging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pinging
