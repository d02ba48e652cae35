"""Budget: what keeps all calls of a plugin together from a retry storm."""

from __future__ import annotations

import math

__all__ = ["Budget"]

_PARTS = 10
"""A token has so many parts: counted in whole numbers, as ten tenths are no whole in binary."""


class Budget:
    """Tokens for repetitions.

    A repetition takes one. A call that is answered gives back what it took, one that fails does not, and one that is
    cancelled gives back that of the repetition that was under way; each call that is answered at the first try puts a
    tenth back. So while nobody answers no more repetitions are sent than there are
    tokens, and as long as most calls are answered in the end they do not run out.

    Args:
        tokens: how many there are at first, and at most; None for no limit.
    """

    __slots__ = ("_left", "_most")

    def __init__(self, tokens: int | None) -> None:
        self._most = math.inf if tokens is None else tokens * _PARTS
        self._left = self._most

    def take(self, tokens: int) -> bool:
        """Take tokens; False, and none taken, where there are too few."""
        if self._left < tokens * _PARTS:
            return False
        self._left -= tokens * _PARTS
        return True

    def give_back(self, tokens: int) -> None:
        """Put tokens back that were not used."""
        self._left = min(self._left + tokens * _PARTS, self._most)

    def answered(self, taken: int) -> None:
        """Note that a call was answered that had taken so many."""
        if self._left < self._most:
            self._left = min(self._left + (taken * _PARTS or 1), self._most)
