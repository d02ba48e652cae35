"""Replies: their time, where the event loop itself is late. What they are on a real link is in test_link.py."""

from __future__ import annotations

import asyncio
import time

import pytest
from nats.aio.msg import Msg

from grctl_core.errors import DeliveryUnknownError
from grctl_nats.replies import Replies


def reply(subject: str) -> Msg:
    return Msg(_client=None, subject=subject, data=b"yes")  # type: ignore[arg-type]


async def test_an_answer_that_came_while_the_loop_was_held_up_is_in_time() -> None:
    replies = Replies("inbox", "nats://x", 1)
    waiting = replies.expect("ask", 0.1)
    replies.sent(waiting)
    time.sleep(0.5)  # noqa: ASYNC251 - this is what holds it up
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the timer has fired by now
    await replies.take(reply(f"inbox.{waiting.token}"))
    assert (await waiting.reply).data == b"yes"
    replies.forget(waiting)
    assert len(replies) == 0


async def test_one_that_never_comes_is_missed_all_the_same() -> None:
    replies = Replies("inbox", "nats://x", 1)
    waiting = replies.expect("ask", 0.1)
    replies.sent(waiting)
    time.sleep(0.5)  # noqa: ASYNC251
    with pytest.raises(DeliveryUnknownError, match=r"has not answered within 0.1 s"):
        await asyncio.wait_for(waiting.reply, 20)
    replies.forget(waiting)


async def test_a_loop_that_is_always_late_has_timeouts_too() -> None:
    replies = Replies("inbox", "nats://x", 1)
    waiting = replies.expect("ask", 0.01)
    replies.sent(waiting)
    with pytest.raises(DeliveryUnknownError):
        async with asyncio.timeout(60):
            while not waiting.reply.done():
                time.sleep(0.11)  # noqa: ASYNC251
                await asyncio.sleep(0)
            await waiting.reply
    replies.forget(waiting)
