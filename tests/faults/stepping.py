"""CancelAt: runs a coroutine, and cancels its task at one of its awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

__all__ = ["CancelAt"]

T = TypeVar("T")


class CancelAt(Generic[T]):
    """Awaits a coroutine, and cancels the task that does when it suspends for the n-th time.

    Attributes:
        is_cancelled: whether it came so far.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T], step: int) -> None:
        self.is_cancelled = False
        self._coroutine = coroutine
        self._step = step

    def __await__(self) -> Generator[Any, Any, T]:
        inner = self._coroutine.__await__()
        thrown: BaseException | None = None
        steps = 0
        while True:
            try:
                waits_for = inner.send(None) if thrown is None else inner.throw(thrown)
            except StopIteration as end:
                result: T = end.value
                return result
            steps += 1
            if steps == self._step:
                self.is_cancelled = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            thrown = None
            try:
                yield waits_for
            except BaseException as error:
                thrown = error
