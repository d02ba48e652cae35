"""A call's deadline: it bounds the attempt that is under way, too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from grctl_core.calls import CommandCall
from grctl_core.errors import DeliveryUnknownError

__all__ = ["by_deadline"]


async def by_deadline(
    call: CommandCall, attempt: Callable[[Any], Awaitable[Any]], out_of_time: Callable[[], Exception] | None
) -> Any:
    """Make an attempt, and give it up when the call's deadline passes.

    Args:
        call: a call that has a deadline.
        attempt: makes the attempt.
        out_of_time: returns the error to raise then; None for operations that change nothing.

    """
    limit = asyncio.timeout_at(call.deadline)
    in_time = call.deadline is None or call.deadline > asyncio.get_running_loop().time()
    try:
        async with limit:
            if in_time:  # nothing begins after the deadline
                return await attempt(call)
    except TimeoutError:
        if not limit.expired():
            raise
    if out_of_time is not None:
        raise out_of_time()
    raise DeliveryUnknownError(
        f"the {call.operation} of workflow {call.workflow_id!r} was not answered before the call's deadline"
    )
