"""iterate: a plain iterator over what an asynchronous one yields in another thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from grctl.sync.binding import Bound

__all__ = ["iterate"]

R = TypeVar("R")


def iterate(owner: Bound, make: Callable[[], AsyncIterator[R]]) -> Iterator[R]:
    """Return an iterator over what ``make()`` returns. It is made at once, so that wrong arguments are refused here.

    Leaving the loop early, dropping the iterator, or an interrupt closes the asynchronous one.
    """

    async def begin() -> _Steps[R]:
        return _Steps(make())

    return _items(owner, owner._thread.run(begin))  # noqa: SLF001 - what has such methods gives it


def _items(owner: Bound, steps: _Steps[R]) -> Iterator[R]:
    """Yield what the steps bring. The owner is held, so that its connection is not collected meanwhile."""
    thread = owner._thread  # noqa: SLF001
    try:
        while True:
            brought = thread.run(steps.next)
            if not brought:
                return
            yield brought[0]
    finally:
        thread.post(steps.close)  # maybe in a finalizer, in any thread: it cannot wait


class _Steps(Generic[R]):
    """An asynchronous iterator of which one step at a time is taken; in the loop's thread."""

    def __init__(self, iterator: AsyncIterator[R]) -> None:
        self._iterator = iterator
        self._turn = asyncio.Lock()  # a step that was given up may still be ending when close() comes

    async def next(self) -> tuple[R, ...]:
        """Return the next item in a tuple; an empty one at the end."""
        async with self._turn:
            try:
                return (await anext(self._iterator),)
            except StopAsyncIteration:
                return ()

    async def close(self) -> None:
        """Close the iterator, if it can be."""
        close: Callable[[], Any] | None = getattr(self._iterator, "aclose", None)
        if close is not None:
            async with self._turn:
                await close()
