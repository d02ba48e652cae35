"""Frames that the broker hands on and the driver cannot read: the connection says so and is made anew, it never hangs.

The driver's reading ends on each of them without a word, while the connection looks well.
"""

from __future__ import annotations

import asyncio
import logging

import pytest
from fake_server import new_run

from grctl_core.commands import DescribeCommand
from grctl_core.protocols import ConnectionEvent

SUBJECT = b"grctl_run.T.w.r.info"
FRAMES = {
    "a subject that is not UTF-8": b"PUB grctl_run.\xff.w.r.info 0\r\n\r\n",
    "a reply subject that is not UTF-8": b"PUB " + SUBJECT + b" \xff\xfe 0\r\n\r\n",
    "four bytes of headers": b"HPUB " + SUBJECT + b" 4 4\r\nABCD\r\n",
    "headers that are none": b"HPUB " + SUBJECT + b" 8 8\r\nNATS/1.0\r\n",
    "a status that is not UTF-8": b"HPUB " + SUBJECT + b" 18 18\r\nNATS/1.0 \xff\xff\xff\r\n\r\n\r\n\r\n",
    "headers of garbage": b"HPUB " + SUBJECT + b" 30 30\r\n" + b"\x00\xff" * 15 + b"\r\n",
    "a header without a value": b"HPUB " + SUBJECT + b" 15 15\r\nNATS/1.0\r\na\r\n\r\n\r\n",
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
async def test_waits_and_requests_go_on(server, connection, raw, frame, caplog):
    caplog.set_level(logging.CRITICAL, "nats")  # the driver reports it as an error, with a traceback
    run = new_run()
    await server.put_run(run)
    await server.put_state(run.ref, "wait")
    watch = connection.watch(run.ref)
    watcher = connection._watcher
    async with asyncio.timeout(20):
        while watcher._listening is None:
            await asyncio.sleep(0.005)
    events = []
    connection.add_listener(events.append)
    await raw(frame)
    probe = new_run("probe")
    hint = asyncio.create_task(asyncio.wait_for(connection.watch(probe.ref), 20))
    await server.put_run(probe)
    await server.put_state(probe.ref, "wait")
    await server.end(probe, result=1)
    assert (await hint).run.id == probe.id  # within its own time: not only when pings have gone unanswered
    await server.end(run, result="real")
    assert (await asyncio.wait_for(watch, 20)).run.id == run.id
    async with asyncio.timeout(20):
        while events.count(ConnectionEvent.CONNECTED) < events.count(ConnectionEvent.DISCONNECTED):
            await asyncio.sleep(0.005)
    assert not (await connection.request(DescribeCommand(wf_id="unknown"), timeout=20)).success


async def test_a_stream_of_them_keeps_nobody_from_anything_for_good(server, connection, raw, caplog):
    caplog.set_level(logging.CRITICAL, "nats")
    caplog.set_level(logging.CRITICAL, "grctl")
    run = new_run()
    await server.put_run(run)
    await server.put_state(run.ref, "wait")
    watch = connection.watch(run.ref)
    for frame in list(FRAMES.values()) * 3:
        await raw(frame)
        await asyncio.sleep(0.01)
    await server.end(run, result="real")
    assert (await asyncio.wait_for(watch, 20)).run.id == run.id
