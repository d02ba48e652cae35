"""From time to place. Long pauses in which nothing begins or ends are cut out, and said so.

Between the cuts one second takes the same room everywhere, but that a piece too short to be seen is widened. A cut
takes a fixed room, whatever it leaves out. So a run whose steps take a second and whose waits take weeks shows both:
the steps to scale, the weeks as cuts with their length.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from grctl.timeline.units import nice_step

__all__ = ["Cut", "Scale", "Tick"]

_LONG = 8.0
"""A pause is cut out when it is so many times as long as all shorter ones together."""
_LEAST = 2.0
"""Seconds: what is shorter is not cut out, for nobody needs it."""
_DIGITS = 6
"""Of seconds: a history's times are in microseconds, and nothing is to be divided by less."""
_CUT_OUT = 0.7
"""The share of the width that cuts take at most."""


@dataclass(frozen=True)
class Cut:
    """A pause that is left out.

    Attributes:
        start: seconds at which it begins.
        end: seconds at which it ends.
        left: place at which it begins.
        right: place at which it ends.
    """

    start: float
    end: float
    left: float
    right: float

    @property
    def seconds(self) -> float:
        """What it leaves out."""
        return self.end - self.start


@dataclass(frozen=True)
class Tick:
    """A mark on the axis.

    Attributes:
        place: where.
        seconds: what to write, as a time since ``since``.
        since: 0, or the seconds at which the last cut before it ends.
    """

    place: float
    seconds: float
    since: float


class Scale:
    """Places on an axis of some width, for times in seconds from 0 to ``length``.

    Attributes:
        length: seconds.
        width: how wide the axis is, in the caller's unit.
        cuts: the pauses left out, in order.
    """

    def __init__(
        self, instants: Iterable[float], length: float, width: float, cut_widths: tuple[float, float], piece: float
    ) -> None:
        """Make a scale.

        Args:
            instants: the times at which something begins, ends or happens.
            length: the whole time; 0 is allowed.
            width: how wide the axis is.
            cut_widths: how wide a cut is at least and at most.
            piece: how wide at least what lies before, between and after cuts is; a shorter one is drawn longer.

        """
        self.length = max(0.0, round(length, _DIGITS))
        self.width = width
        times = sorted({0.0, self.length, *(min(max(round(at, _DIGITS), 0.0), self.length) for at in instants)})
        most = int(width * _CUT_OUT // (cut_widths[0] + piece))
        long = sorted(_long_gaps(times, most), key=lambda gap: gap[1])
        cut_width = min(cut_widths[1], width * _CUT_OUT / len(long) - piece) if long else 0.0
        bounds = [0.0, *(start for _, start in long), self.length]
        ends = [0.0, *(start + size for size, start in long)]
        pieces = [until - since for since, until in zip(ends, bounds[1:], strict=True)]
        self._per_second, widths = _shared(pieces, width - cut_width * len(long), piece)
        self._times, self._places = [0.0], [0.0]
        cuts: list[Cut] = []
        for (size, start), before in zip(long, widths, strict=False):
            left = self._places[-1] + before
            cuts.append(Cut(start, start + size, left, left + cut_width))
            self._times += [start, start + size]
            self._places += [left, left + cut_width]
        self.cuts = tuple(cuts)
        self._times.append(self.length)
        self._places.append(width if self.length > 0 else 0.0)

    def place(self, seconds: float) -> float:
        """Return where a time is, from 0 to ``width``."""
        if seconds <= 0 or self.length <= 0:
            return 0.0
        if seconds >= self.length:
            return self.width
        index = bisect.bisect_right(self._times, seconds) - 1
        start, end = self._times[index], self._times[index + 1]
        left, right = self._places[index], self._places[index + 1]
        if end <= start:
            return left
        return min(max(left, left + (right - left) * (seconds - start) / (end - start)), right)

    @property
    def seconds_per_place(self) -> float:
        """How much time one unit of the width stands for, outside cuts; 0 where all is one moment."""
        return 1 / self._per_second if self._per_second else 0.0

    def ticks(self, least_distance: float) -> list[Tick]:
        """Return round times for the axis, at least ``least_distance`` from each other within a piece."""
        if self._per_second <= 0:
            return [Tick(0.0, 0.0, 0.0)]
        step = nice_step(least_distance / self._per_second)
        found: list[Tick] = []
        bounds = [0.0, *(cut.end for cut in self.cuts)], [*(cut.start for cut in self.cuts), self.length]
        for since, until in zip(*bounds, strict=True):
            first = 0 if since == 0 else 1
            count = int((until - since) / step)
            found += [Tick(self.place(since + n * step), n * step, since) for n in range(first, count + 1)]
        return found


def _long_gaps(times: list[float], most: int) -> list[tuple[float, float]]:
    """Return the gaps to cut out, as (size, start): those beyond the first great leap in length, when they are few."""
    ordered = sorted((later - earlier, earlier) for earlier, later in itertools.pairwise(times))
    shorter = 0.0
    for index, (size, _) in enumerate(ordered):
        long = len(ordered) - index
        if long <= min(most, index - 1) and size >= _LEAST and size > _LONG * shorter > 0:
            return ordered[index:]
        shorter += size
    return []


def _shared(pieces: list[float], width: float, least: float) -> tuple[float, list[float]]:
    """Share the width among pieces of some seconds; return the width of a second, and of each piece."""
    if len(pieces) == 1:
        return (width / pieces[0] if pieces[0] > 0 else 0.0), [width]
    short: set[int] = set()
    while True:
        seconds = sum(piece for index, piece in enumerate(pieces) if index not in short)
        room = max(0.0, width - least * len(short))
        per_second = room / seconds if seconds > 0 else 0.0
        more = {index for index, piece in enumerate(pieces) if piece * per_second < least} - short
        if not more:
            return per_second, [least if index in short else piece * per_second for index, piece in enumerate(pieces)]
        short |= more
