"""The pipeline: layers of middleware around what an operation does, composed once per client.

    operation layers            once per call, on values
      -> retry slot             at most one; the only layer whose proceed may be called again
        -> (reconcile, in grctl_core.reconcile)
          -> attempt layers     once per command on the wire
            -> connection.request

A layer is ``async def layer(call, proceed)``. Layers become nested coroutines that run in the caller's task. With no
layer there is nothing around the innermost function: composing returns that function itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from grctl_core.errors import DeliveryUnknownError

__all__ = ["Layer", "Pipeline", "Proceed", "compose", "resolve_once"]

Proceed: TypeAlias = Callable[[Any], Awaitable[Any]]
Layer: TypeAlias = Callable[[Any, Proceed], Awaitable[Any]]


class _OneShot:
    """A proceed that may be called once: a second call would do the operation twice."""

    __slots__ = ("_inner", "_used")

    def __init__(self, inner: Proceed) -> None:
        self._inner = inner
        self._used = False

    def __call__(self, call: Any) -> Awaitable[Any]:
        if self._used:
            raise RuntimeError("proceed was called a second time: only the retry layer may do that")
        self._used = True
        return self._inner(call)


def _around(layer: Layer, inner: Proceed) -> Proceed:
    async def enter(call: Any) -> Any:
        return await layer(call, _OneShot(inner))

    return enter


def compose(layers: Sequence[Layer], innermost: Proceed) -> Proceed:
    """Return ``innermost`` with the layers around it, the first listed outermost."""
    for layer in reversed(layers):
        innermost = _around(layer, innermost)
    return innermost


async def resolve_once(call: Any, proceed: Proceed) -> Any:
    """Fill an empty retry slot, for operations that can be looked into: a doubt is looked into once.

    The second proceed reaches the reconcile step, which knows of the doubt: it looks, and repeats only what
    it found not done. What it cannot resolve raises the doubt again.
    """
    try:
        return await proceed(call)
    except DeliveryUnknownError:
        return await proceed(call)


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """The layers of one client.

    Attributes:
        operations: for each operation's name, its layers, outermost first.
        retry: what stands in the retry slot; None for nothing.
        attempts: layers around each command on the wire, outermost first.
    """

    operations: Mapping[str, Sequence[Layer]] = {}
    retry: Layer | None = None
    attempts: Sequence[Layer] = ()

    def around_operation(self, operation: str, innermost: Proceed) -> Proceed:
        """Compose one operation's layers around what it does."""
        return compose(self.operations.get(operation, ()), innermost)

    def around_attempt(self, innermost: Proceed) -> Proceed:
        """Compose the attempt layers around what sends a command."""
        return compose(self.attempts, innermost)
