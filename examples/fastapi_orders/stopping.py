"""Stopping: ends what waits when the server is told to end, which otherwise waits for it: for streams, for ever."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from types import FrameType
from typing import Any, Self, TypeVar

__all__ = ["Stopping", "StoppingError"]

T = TypeVar("T")
_END: Any = object()


class StoppingError(TimeoutError):
    """The waiting was given up, as the server ends."""


class Stopping:
    """Knows when SIGTERM or SIGINT has come; the server's own handlers run as they would.

    uvicorn closes its sockets on a signal, waits for the requests under way, and only then ends the lifespan: too late
    for streams that have no end. So the signals are listened to here as well.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            if callable(signal.getsignal(number)):  # else no server waits: the signal ends the process at once
                with contextlib.suppress(ValueError):  # not the main thread, as under a test client: no signals here
                    self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._event.set)
        self._before[number](number, frame)

    async def unless(self, work: Awaitable[T]) -> T:
        """Wait for the work, unless it is time to stop: then it is cancelled.

        Raises:
            StoppingError: it is time to stop.

        """
        doing, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait((doing, stop), return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            raise StoppingError("the server stops")
        finally:
            doing.cancel()
            stop.cancel()
            await asyncio.wait((doing, stop))

    async def until(self, items: AsyncIterator[T]) -> AsyncIterator[T]:
        """Yield the items until they end, or it is time to stop."""
        try:
            while (item := await self.unless(anext(items, _END))) is not _END:
                yield item
        except StoppingError:
            return
        finally:
            if isinstance(items, AsyncGenerator):
                await items.aclose()
