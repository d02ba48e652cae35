"""Retry: how often, how long and with which pauses a call is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from grctl_core.durations import Duration, to_seconds
from grctl_core.errors import InvalidInputError

__all__ = ["Retry"]


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """How a call is tried again.

    The pause before the n-th repetition is a random share of ``first_delay * 2 ** (n - 1)``, or of ``longest_delay``
    where that is less (exponential backoff with full jitter).

    Args:
        attempts: how often it is tried at most, the first time included; None for as often as the deadline allows.
        first_delay: what the first pause is a random share of.
        longest_delay: what no pause exceeds.
        deadline: how long the call may take in all, pauses and the attempt under way included; None for no limit.

    Durations are seconds or a timedelta; the attributes are seconds.

    Raises:
        InvalidInputError: a value cannot be used, or neither ``attempts`` nor ``deadline`` sets an end.
    """

    attempts: int | None
    first_delay: float
    longest_delay: float
    deadline: float | None

    def __init__(
        self,
        *,
        attempts: int | None = None,
        first_delay: Duration = 0.1,
        longest_delay: Duration = 2.0,
        deadline: Duration | None = 20.0,
    ) -> None:
        if attempts is not None and (not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1):
            raise InvalidInputError(f"attempts must be a whole number from 1, or None for no limit, not {attempts!r}")
        if attempts is None and deadline is None:
            raise InvalidInputError("attempts and deadline cannot both be None: the call might be tried for ever")
        first = to_seconds("first_delay", first_delay)
        longest = to_seconds("longest_delay", longest_delay)
        if longest < first:
            raise InvalidInputError(f"longest_delay ({longest:g} s) must not be below first_delay ({first:g} s)")
        values = {
            "attempts": attempts,
            "first_delay": first,
            "longest_delay": longest,
            "deadline": None if deadline is None else to_seconds("deadline", deadline),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
