"""What makes a synchronous method of an asynchronous one: nothing is written twice, and the types are kept."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from grctl.sync.iteration import iterate
from grctl.sync.loop_thread import LoopThread

__all__ = ["Bound", "blocking", "iterating", "taking_what"]

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])
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
        pending = self._thread.calling(method, self._inner, *args, **kwargs)
        del args, kwargs  # no traceback is to show them
        return pending.wait()

    return cast("Method[P, R]", _like(call, method))


def iterating(method: Callable[Concatenate[Any, P], AsyncIterator[R]], *, at_once: int = 1) -> Method[P, Iterator[R]]:
    """Make a method that returns an iterator of one that returns an async one; ``at_once`` as for :func:`iterate`."""

    def call(self: Bound, /, *args: Any, **kwargs: Any) -> Any:
        return iterate(self, functools.partial(method, self._inner, *args, **kwargs), at_once=at_once)

    return cast("Method[P, Iterator[R]]", _like(call, method))


def taking_what(method: Callable[..., Any]) -> Callable[[F], F]:
    """Have help() show the arguments of the asynchronous method for one that passes all of its own on."""

    def decorate(function: F) -> F:
        function.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
        return function

    return decorate


def _like(function: Callable[..., Any], method: Callable[..., Any]) -> Callable[..., Any]:
    """Give it what help() shows. Not what functools.wraps adds: who unwraps it would take it for an async function."""
    function.__name__ = method.__name__
    function.__qualname__ = method.__qualname__
    function.__doc__ = method.__doc__
    return taking_what(method)(function)
