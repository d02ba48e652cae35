"""Stopping: ends the streams when the server is told to end, which otherwise waits for them for ever."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from types import FrameType
from typing import Any, Self, TypeVar

__all__ = ["Stopping"]

T = TypeVar("T")
_END: Any = object()


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
            with contextlib.suppress(ValueError):  # not the main thread, as under a test client: no signals to hear of
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._event.set)
        before = self._before[number]
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, before)
            signal.raise_signal(number)

    def is_set(self) -> bool:
        """Whether it is time to stop."""
        return self._event.is_set()

    async def until(self, items: AsyncIterator[T]) -> AsyncIterator[T]:
        """Yield the items until they end, or it is time to stop."""
        stop = asyncio.ensure_future(self._event.wait())
        following = asyncio.ensure_future(anext(items, _END))
        try:
            while True:
                await asyncio.wait((following, stop), return_when=asyncio.FIRST_COMPLETED)
                if not following.done() or (item := following.result()) is _END:
                    return
                yield item
                following = asyncio.ensure_future(anext(items, _END))
        finally:
            stop.cancel()
            following.cancel()
            await asyncio.wait((following, stop))
            if isinstance(items, AsyncGenerator):
                await items.aclose()
