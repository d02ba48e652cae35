"""Ping: one round trip to the server, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from grctl_core.commands import Command, DescribeCommand, ErrorCode, Reply
from grctl_core.durations import Duration, to_seconds
from grctl_core.ids import new_ulid
from grctl_core.run import RunRef
from grctl_core.wire import in_time, refusal

__all__ = ["PING_TIMEOUT", "ping"]

PING_TIMEOUT = 5.0
"""Seconds."""


async def ping(request: Callable[[Command, float], Awaitable[Reply]], timeout: Duration) -> timedelta:
    """Ask the server for a run that nobody has, and return how long its answer took.

    The wire protocol has no ping. A describe stands in for it, as the one command that changes nothing, whichever
    way it ends (docs/protocol.md, section 2). Its id is new, so the answer is 4002, which the server gives after a
    look at its records: it is alive, and so is what it stores in. An unknown kind or a body that does not fit (4000,
    4005) would be answered without that look, and might be known to the next version. It takes the permissions that
    any command takes.

    Args:
        request: sends one command, and waits for its reply for so many seconds.
        timeout: for all of it, waiting to be sent too.

    Raises:
        InvalidInputError: ``timeout`` is no duration.
        DeliveryUnknownError: no answer came in time.
        ServerError: the server answered that it cannot look.

    """
    seconds = to_seconds("timeout", timeout)
    command = DescribeCommand(wf_id=f"grctl-ping-{new_ulid()}")
    began = time.perf_counter()
    reply = await in_time(request(command, seconds), seconds, "the server has not answered a ping")
    took = time.perf_counter() - began
    if not reply.success and (reply.error is None or reply.error.code != ErrorCode.NOT_FOUND):
        raise refusal(reply, "ping", RunRef(command.wf_id, ""), changes_state=False)
    return max(timedelta(seconds=took), timedelta.resolution)
