"""iterate: a plain iterator over what an asynchronous one yields in another thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from grctl.sync.binding import Bound

__all__ = ["iterate"]

R = TypeVar("R")


def iterate(owner: Bound, make: Callable[[], AsyncIterator[R]], *, at_once: int = 1) -> Iterator[R]:
    """Return an iterator over what ``make()`` returns. It is made at once, so that wrong arguments are refused here.

    Leaving the loop early, dropping the iterator, or an interrupt closes the asynchronous one.

    Args:
        owner: has the thread; held as long as the iterator is there, so that its connection is not collected meanwhile.
        make: returns the asynchronous iterator; called in the event loop.
        at_once: how many items one look fetches. More than one saves most of the way, and is for what nobody waits for.

    """

    async def begin() -> _Steps[R]:
        return _Steps(make(), at_once)

    return _items(owner, owner._thread.run(begin))  # noqa: SLF001 - what has such methods gives it


def _items(owner: Bound, steps: _Steps[R]) -> Iterator[R]:
    thread = owner._thread  # noqa: SLF001
    try:
        while items := thread.run(steps.next):
            yield from items
    finally:
        thread.post(steps.close)  # maybe in a finalizer, in any thread: it cannot wait


class _Steps(Generic[R]):
    """An asynchronous iterator of which one step at a time is taken; in the loop's thread."""

    def __init__(self, iterator: AsyncIterator[R], at_once: int) -> None:
        self._iterator = iterator
        self._at_once = at_once
        self._error: Exception | None = None
        self._turn = asyncio.Lock()  # a step that was given up may still be ending when close() comes

    async def next(self) -> list[R]:
        """Return the next items; none at the end. An error comes after the items that came before it."""
        items: list[R] = []
        async with self._turn:
            if self._error is not None:
                raise self._error
            try:
                while len(items) < self._at_once:
                    items.append(await anext(self._iterator))
            except StopAsyncIteration:
                pass
            except Exception as error:
                if not items:
                    raise
                self._error = error
        return items

    async def close(self) -> None:
        """Close the iterator, if it can be."""
        close: Callable[[], Any] | None = getattr(self._iterator, "aclose", None)
        if close is not None:
            async with self._turn:
                await close()
