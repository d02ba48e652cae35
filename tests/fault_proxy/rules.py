"""Rules: what goes wrong, with which frames, and how often. The same seed gives the same choice each time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TypedDict, Unpack

from .frames import Direction, Frame
from .matching import Match, frames

__all__ = ["Action", "Faults", "Rule", "Which"]


Change = Callable[[Frame], Frame | bytes]
"""What a frame becomes on its way."""


class Which(TypedDict, total=False):
    """Which of the frames that a rule is about it strikes; all of them where nothing is said.

    ``nth``: one or several, counted from 1. ``every``: each third, for 3. ``share``: a probability, under the seed.
    ``may_rest``: striking none at all is right too.
    """

    nth: int | tuple[int, ...]
    every: int
    share: float
    may_rest: bool


class Action(Enum):
    """What goes wrong."""

    DROP = "drop"
    DELAY = "delay"
    DUPLICATE = "duplicate"
    HOLD = "hold"
    CUT = "cut"
    HALF_OPEN = "half-open"
    CORRUPT = "corrupt"
    THROTTLE = "throttle"


class Rule:
    """One thing that goes wrong. Made by a method of :class:`Faults`.

    A rule counts each frame that it matches, also those that an earlier rule has struck already.

    Attributes:
        seen: how many frames it has matched.
        struck: those that it has struck, in order.
    """

    def __init__(
        self,
        action: Action,
        match: Match,
        chance: random.Random,
        **which: Unpack[Which],
    ) -> None:
        nth, every, share = which.get("nth"), which.get("every"), which.get("share")
        if sum(option is not None for option in (nth, every, share)) > 1:
            raise ValueError("a rule strikes by nth, by every or by share: give one of them")
        nths = () if nth is None else (nth,) if isinstance(nth, int) else tuple(nth)
        if any(number < 1 for number in nths) or (every is not None and every < 1) or (nth is not None and not nths):
            raise ValueError("frames are counted from 1")
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"share is between 0 and 1, not {share}")
        self.action = action
        self.match = match
        self.seen = 0
        self.struck: list[Frame] = []
        self.may_rest = which.get("may_rest", share == 0)
        self.in_order = False
        self.after = False
        self.seconds = 0.0
        self.bytes_per_second = 0.0
        self.change: Change = _garble
        self._nths, self._every, self._share = nths, every, share
        self._chance = chance
        self._on = True
        self._has_struck = asyncio.Event()
        self._released = asyncio.Event()

    def __repr__(self) -> str:
        which = "all"
        if self._nths:
            which = f"number {', '.join(map(str, self._nths))}"
        elif self._every is not None:
            which = f"each {self._every}."
        elif self._share is not None:
            which = f"{self._share:.0%}"
        return f"<{self.action.value} {which} of {self.match}: struck {len(self.struck)} of {self.seen}>"

    def stop(self) -> None:
        """Strike no more. What is held stays held."""
        self._on = False

    def release(self) -> None:
        """Let go what is held, and hold no more."""
        self._on = False
        self._released.set()

    async def wait_struck(self, times: int = 1) -> list[Frame]:
        """Wait until it has struck so often; return what it has struck."""
        while len(self.struck) < times:
            self._has_struck.clear()
            await self._has_struck.wait()
        return self.struck

    def strikes(self, frame: Frame) -> bool:
        """Count a frame; whether this rule strikes it."""
        if not self._on or not self.match(frame):
            return False
        self.seen += 1
        if self._nths:
            return self.seen in self._nths
        if self._every is not None:
            return self.seen % self._every == 0
        # Drawn for each frame that matches, so that other rules do not change which ones are chosen.
        return self._share is None or self._chance.random() < self._share

    def note(self, frame: Frame) -> None:
        """Note that it has struck."""
        self.struck.append(frame)
        self._has_struck.set()

    async def released(self) -> None:
        """Wait until what is held may go."""
        await self._released.wait()


class Faults:
    """The rules of one test. With none, everything passes as it came.

    Of the rules that strike a frame the one that was made first counts. A rule that has struck nothing when the proxy
    is closed fails the test, unless it ``may_rest``: it would have tested nothing.

    All rules take the frames that they are about, and :class:`Which` of these they strike, by default all.

    Args:
        seed: of what ``share`` chooses.
        sleep: waits so many seconds; a test may put something in its place.
    """

    def __init__(self, seed: int = 0, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self.seed = seed
        self.sleep = sleep
        self.rules: list[Rule] = []

    def __repr__(self) -> str:
        return f"Faults(seed={self.seed}, rules={self.rules})"

    def _add(self, action: Action, match: Match, **which: Unpack[Which]) -> Rule:
        rule = Rule(action, match, random.Random(f"{self.seed}/{len(self.rules)}"), **which)
        self.rules.append(rule)
        return rule

    def drop(self, match: Match, **which: Unpack[Which]) -> Rule:
        """Lose the frame; those behind it go on."""
        return self._add(Action.DROP, match, **which)

    def duplicate(self, match: Match, **which: Unpack[Which]) -> Rule:
        """Pass the frame on twice."""
        return self._add(Action.DUPLICATE, match, **which)

    def delay(self, match: Match, seconds: float, *, in_order: bool = False, **which: Unpack[Which]) -> Rule:
        """Pass the frame on so much later; ``in_order``: those behind it wait too, as behind a slow network."""
        rule = self._add(Action.DELAY, match, **which)
        rule.seconds, rule.in_order = seconds, in_order
        return rule

    def hold(self, match: Match, *, in_order: bool = False, **which: Unpack[Which]) -> Rule:
        """Pass the frame on when ``rule.release()`` is called; ``in_order``: those behind it wait too."""
        rule = self._add(Action.HOLD, match, **which)
        rule.in_order = in_order
        return rule

    def cut(self, match: Match, *, after: bool = False, **which: Unpack[Which]) -> Rule:
        """Cut the connection on both sides instead of passing the frame on, or right after it was passed on."""
        rule = self._add(Action.CUT, match, **which)
        rule.after = after
        return rule

    def half_open(self, match: Match, **which: Unpack[Which]) -> Rule:
        """From this frame on read what comes from both sides and throw it away; neither side is told."""
        return self._add(Action.HALF_OPEN, match, **which)

    def corrupt(self, match: Match, change: Change | None = None, **which: Unpack[Which]) -> Rule:
        """Pass on what ``change`` makes of the frame, by default a payload of the same size that is no msgpack."""
        rule = self._add(Action.CORRUPT, match, **which)
        rule.change = change or rule.change
        return rule

    def throttle(self, bytes_per_second: float, direction: Direction | None = None, **which: Unpack[Which]) -> Rule:
        """Pass on a byte at a time, so many in a second, whatever there is in this direction."""
        if bytes_per_second <= 0:
            raise ValueError("bytes_per_second must be more than 0; use half_open() or hold() for none")
        rule = self._add(Action.THROTTLE, frames(direction), **which)
        rule.bytes_per_second = bytes_per_second
        return rule

    def strike(self, frame: Frame) -> Rule | None:
        """Return the rule that strikes this frame; None where none does."""
        chosen = None
        for rule in tuple(self.rules):
            if rule.strikes(frame) and chosen is None:
                chosen = rule
        if chosen is not None:
            chosen.note(frame)
        return chosen

    def idle(self) -> list[Rule]:
        """Return the rules that have struck nothing and should have."""
        return [rule for rule in self.rules if not rule.struck and not rule.may_rest]


def _garble(frame: Frame) -> Frame:
    """Replace the payload by bytes that never occur in msgpack."""
    return frame.with_payload(b"\xc1" * len(frame.payload))
