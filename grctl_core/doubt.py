"""Doubt: how long it is looked into whether an attempt of unknown fate was carried out, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from grctl_core.errors import DeliveryUnknownError, GrctlError, NotDeliveredError, NotSentError
from grctl_core.run import RunInfo

__all__ = ["DoubtBounds", "Reach", "poll", "still"]

T = TypeVar("T")

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.25


class DoubtBounds(msgspec.Struct, frozen=True, kw_only=True):
    """How long a doubt is looked into, in seconds.

    For one attempt this takes no longer than the sum of the three, beside up to one request timeout for each look.

    Attributes:
        reached_within: how long looks are repeated that reach nobody, as the connection is lost or no server listens:
            what left the doubt is often what cut us off. After that the doubt stays.
        begun_within: how long a run that is recorded may take to begin; after that the doubt stays.
        quarantine: how long a start is looked for after a change of connection, before it is sent again. A first
            attempt that a broker holds back for longer than that and delivers after the run ended does harm
            (docs/protocol.md, section 8, 1); no client can bound that delay.
    """

    reached_within: float = 5.0
    begun_within: float = 2.0
    quarantine: float = 2.0


class Reach:
    """Repeats looks that reach nobody. All looks of one attempt share the time for that, from the first such one on."""

    __slots__ = ("_deadline", "_within")

    def __init__(self, within: float) -> None:
        self._within = within
        self._deadline: float | None = None

    async def __call__(self, look: Callable[[], Awaitable[T]]) -> T:
        """Look; what it raises when the time is over, or for another reason, goes on to the caller."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            try:
                return await look()
            except (NotSentError, NotDeliveredError):
                if self._deadline is None:
                    self._deadline = loop.time() + self._within
                remaining = self._deadline - loop.time()
                if remaining <= 0:
                    raise
            await asyncio.sleep(min(pause, remaining))
            pause = min(pause * 2, _LONGEST_PAUSE)


def still(doubt: DeliveryUnknownError, why: str) -> DeliveryUnknownError:
    """Return the same doubt, with what else is known of it."""
    return DeliveryUnknownError(f"{doubt}; {why}", operation=doubt.operation, run=doubt.run, link=doubt.link)


async def poll(
    look: Callable[[], Awaitable[RunInfo | None]], within: float, reach: Reach, doubt: DeliveryUnknownError
) -> RunInfo | None:
    """Look again and again, with growing pauses, until something is found or the time is over.

    Args:
        look: returns what it found.
        within: seconds.
        reach: repeats looks that reach nobody; it may take longer.
        doubt: what is looked into.

    Raises:
        DeliveryUnknownError: the doubt, as a look failed.

    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    pause = _FIRST_PAUSE
    while True:
        try:
            found = await reach(look)
        except GrctlError as error:
            raise still(doubt, f"and looking for it failed: {error}") from error
        remaining = deadline - loop.time()
        if found is not None or remaining <= 0:
            return found
        await asyncio.sleep(min(pause, remaining))
        pause *= 2
