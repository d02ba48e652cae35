"""Secret: values that no repr is to show, and so no traceback that shows local variables (rich's, or a service's)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from grctl_core.errors import GrctlError

__all__ = ["Secret", "call", "without_frames"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Secret(Generic[T_co]):
    """Holds a value. A function that was given one in the clear puts it into this, and deletes its parameter."""

    __slots__ = ("_value",)

    def __init__(self, value: T_co) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "<not shown>"

    def reveal(self) -> T_co:
        """Return the value."""
        return self._value


def call(secret: Secret[Callable[[], T]]) -> T:
    """Call a function whose arguments are secret: a ``functools.partial`` that is held by a :class:`Secret`.

    An error of ours that it raises loses the frames in between: their local variables hold what was given.
    """
    try:
        return secret.reveal()()
    except GrctlError as error:
        failure = error.with_traceback(None)
    raise failure


def without_frames(error: Exception) -> Exception:
    """Take the frames from an error and all that it came from: a driver's local variables hold a login."""
    each: BaseException | None = error
    seen: set[int] = set()
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        each = each.with_traceback(None).__cause__ or each.__context__
    return error
