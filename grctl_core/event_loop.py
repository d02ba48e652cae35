"""The event loop that a call stands in: what belongs to a loop says so when it is used outside one."""

from __future__ import annotations

import asyncio

from grctl_core.errors import EventLoopError

__all__ = ["running_loop"]


def running_loop(what: str) -> asyncio.AbstractEventLoop:
    """Return the running event loop.

    Raises:
        EventLoopError: there is none; the message says that ``what`` needs one.

    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise EventLoopError(
            f"no event loop is running here: use {what} in the event loop of its connection, inside an 'async def'"
        ) from None
