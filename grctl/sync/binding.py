"""What makes a synchronous method of an asynchronous one: nothing is written twice, and the types are kept."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from grctl.sync.iteration import iterate
from grctl.sync.loop_thread import LoopThread

__all__ = ["Bound", "blocking", "iterating"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Bound(Protocol):
    """What has such methods."""

    _inner: Any
    _thread: LoopThread


class Method(Protocol[P, R_co]):
    """A method, as a type checker sees it: what the asynchronous one takes, and what awaiting that gives."""

    def __get__(self, instance: object, owner: type | None = None) -> Callable[P, R_co]:
        """Bind it."""


def blocking(method: Callable[Concatenate[Any, P], Awaitable[R]]) -> Method[P, R]:
    """Make a method that waits of an async one."""

    def call(self: Bound, /, *args: Any, **kwargs: Any) -> Any:
        return self._thread.run(method, self._inner, *args, **kwargs)

    return cast("Method[P, R]", _named(call, method))


def iterating(method: Callable[Concatenate[Any, P], AsyncIterator[R]]) -> Method[P, Iterator[R]]:
    """Make a method that returns an iterator of one that returns an async one."""

    def call(self: Bound, /, *args: Any, **kwargs: Any) -> Any:
        return iterate(self, functools.partial(method, self._inner, *args, **kwargs))

    return cast("Method[P, Iterator[R]]", _named(call, method))


def _named(function: Callable[..., Any], method: Callable[..., Any]) -> Callable[..., Any]:
    """Give it what help() shows. Not what functools.wraps adds: who unwraps it would take it for an async function."""
    function.__name__ = method.__name__
    function.__qualname__ = method.__qualname__
    function.__doc__ = method.__doc__
    function.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return function
