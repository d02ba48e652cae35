"""end_tasks: end tasks that talk to the broker, for certain."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["end_tasks"]

_AGAIN_AFTER = 0.25


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and return when they have ended. What they raise is theirs to report.

    Once is not enough. ``asyncio.wait_for`` of Python 3.11, which the driver uses everywhere, loses a cancellation
    that comes in the same turn of the loop as what it waits for, and the driver itself catches some. A task that lost
    its cancellation goes on as if nothing had been said, and whoever waits for its end would wait for ever.
    """
    going_on = {task for task in tasks if not task.done()}
    while going_on:
        for task in going_on:
            task.cancel()
        _, going_on = await asyncio.wait(going_on, timeout=_AGAIN_AFTER)
