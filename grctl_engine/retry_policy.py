"""RetryPolicy: how often a task is tried, how long it waits in between, and which errors it is tried again after."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from grctl_core.errors import InvalidInputError

__all__ = ["RetryPolicy", "qualified_name"]

DEFAULT_ATTEMPTS = 1
DEFAULT_INITIAL_DELAY_MS = 100
DEFAULT_MULTIPLIER = 2.0
DEFAULT_MAX_DELAY_MS = 5_000

_LONGEST_MS = 36_500 * 86_400_000
"""100 years, as for all durations."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How a task is repeated. What is None has the default of the server's SDK.

    An error is named by its class, ``"ConnectionError"`` or ``"builtins.ConnectionError"``, and by that class alone: a
    base class in the list does not stand for the classes below it, since a worker of the server goes by the name as
    well. An error that is not an ``Exception``, such as a cancellation, is never repeated.

    Attributes:
        max_attempts: how often the task is tried at most, the first time included. 1.
        initial_delay_ms: milliseconds between the first and the second attempt. 100.
        backoff_multiplier: by how much each further delay is longer than the one before. 2.
        max_delay_ms: milliseconds that no delay exceeds, before jitter. 5,000.
        jitter: how much may be added to a delay at random, as a share of it: 0.1 for up to a tenth. 0.
        retryable_errors: names of the only errors that are repeated after. Every error.
        non_retryable_errors: names of errors that are never repeated after, even if they are in the other list. None.
    """

    max_attempts: int | None = None
    initial_delay_ms: int | None = None
    backoff_multiplier: float | None = None
    max_delay_ms: int | None = None
    jitter: float | None = None
    retryable_errors: Sequence[str] | None = None
    non_retryable_errors: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InvalidInputError: one is out of range, or of another type.

        """
        _check_number("max_attempts", self.max_attempts, int, 1)
        _check_delay("initial_delay_ms", self.initial_delay_ms)
        _check_number("backoff_multiplier", self.backoff_multiplier, (int, float), 1)
        _check_delay("max_delay_ms", self.max_delay_ms)
        _check_number("jitter", self.jitter, (int, float), 0)
        _check_names("retryable_errors", self.retryable_errors)
        _check_names("non_retryable_errors", self.non_retryable_errors)

    @property
    def attempts(self) -> int:
        """How often the task is tried at most."""
        return self.max_attempts or DEFAULT_ATTEMPTS

    def retries(self, error: Exception) -> bool:
        """Whether the task is tried again after this error, if attempts are left."""
        names = {type(error).__name__, qualified_name(error)}
        if self.non_retryable_errors is not None and not names.isdisjoint(self.non_retryable_errors):
            return False
        return self.retryable_errors is None or not names.isdisjoint(self.retryable_errors)

    def delay_ms(self, attempt: int) -> int:
        """Return the delay after the given attempt, counted from 1."""
        initial = DEFAULT_INITIAL_DELAY_MS if self.initial_delay_ms is None else self.initial_delay_ms
        longest = DEFAULT_MAX_DELAY_MS if self.max_delay_ms is None else self.max_delay_ms
        multiplier = DEFAULT_MULTIPLIER if self.backoff_multiplier is None else self.backoff_multiplier
        try:
            delay = min(initial * float(multiplier) ** (attempt - 1), float(longest))
        except OverflowError:
            delay = float(longest) if initial else 0.0
        if self.jitter:
            delay += random.uniform(0, self.jitter) * delay
        return min(round(delay), _LONGEST_MS)


def qualified_name(error: BaseException) -> str:
    """Return the name of the error's class with its module, such as ``"builtins.ConnectionError"``."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _check_number(name: str, value: object, kind: type | tuple[type, ...], least: int) -> None:
    if value is None:
        return
    # Written so that a NaN is refused.
    if not isinstance(value, kind) or isinstance(value, bool) or not least <= value < 2**53:  # type: ignore[operator]
        what = "a whole number" if kind is int else "a number"
        raise InvalidInputError(f"RetryPolicy.{name} must be {what} of at least {least}, not {value!r}")


def _check_delay(name: str, value: int | None) -> None:
    _check_number(name, value, int, 0)
    if value is not None and value > _LONGEST_MS:
        raise InvalidInputError(f"RetryPolicy.{name} must be 100 years at most, {_LONGEST_MS} ms, not {value!r}")


def _check_names(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        raise InvalidInputError(
            f"RetryPolicy.{name} must be a list of names of error classes, such as ['ConnectionError'], not {value!r}"
        )
