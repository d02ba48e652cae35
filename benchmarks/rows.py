"""Row: one line of the table, with what it is held to."""

from __future__ import annotations

import msgspec

from benchmarks.measuring import Pair

__all__ = ["Point", "Row", "Scale", "limit_row", "more_row", "ratio_row"]


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured.

    Attributes:
        rounds: how often each of a pair has its turn.
        calls: calls in one turn of what takes some microseconds.
        waits: handles that wait.
        events: events of one history.
        runs: runs that are listed.
        gathered: starts in one gather.
        engine_runs: runs that end on one embedded engine.
        wait_seconds: in how many seconds the runs that are waited for end.
        processes: how often a process is started.
        at_once: numbers of calls at once for the plot.
    """

    rounds: int = 15
    calls: int = 4_000
    waits: int = 100_000
    events: int = 100_000
    runs: int = 50_000
    gathered: int = 100_000
    engine_runs: int = 100_000
    wait_seconds: float = 60.0
    processes: int = 21
    at_once: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 10_000)


QUICK = Scale(
    rounds=2,
    calls=400,
    waits=2_000,
    events=5_000,
    runs=5_000,
    gathered=2_000,
    engine_runs=3_000,
    wait_seconds=1.0,
    processes=2,
    at_once=(1, 8, 64, 512, 2_048),
)


class Row(msgspec.Struct, kw_only=True):
    """One line of the table.

    Attributes:
        key: its name.
        title: what is measured.
        ours: what ours costs, in ``unit``.
        reference: what the reference costs; None where there is none.
        unit: such as ``"us CPU"``.
        value: what is compared with the goal: the ratio, what ours costs more, or ours itself where it stands alone.
        goal: what it may be at most; None where nothing is asked.
        is_difference: whether that figure is what ours costs more, not a ratio.
        note: what else was seen.
    """

    key: str
    title: str
    ours: float
    unit: str
    value: float
    reference: float | None = None
    goal: float | None = None
    is_difference: bool = False
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met, None where there is none."""
        return None if self.goal is None else self.value <= self.goal


class Point(msgspec.Struct, frozen=True):
    """One point of the plot: CPU microseconds of a start, at so many at once."""

    at_once: int
    ours: float
    reference: float


def ratio_row(key: str, title: str, pair: Pair, goal: float | None, *, what: str = "cpu", note: str = "") -> Row:
    """Return the row of what is compared by its ratio."""
    factor, unit = _scaled(pair.figures(what)[1], what)
    ours, reference = (figure * factor for figure in pair.figures(what))
    value = pair.ratio(what)
    return Row(key=key, title=title, ours=ours, reference=reference, unit=unit, value=value, goal=goal, note=note)


def more_row(key: str, title: str, pair: Pair, goal: float | None, *, what: str = "cpu", note: str = "") -> Row:
    """Return the row of what is compared by its difference; the goal is in the row's unit.

    What disturbs a round only ever adds, and does not shorten itself as in a ratio: so the least disturbed ones count.
    """
    factor, unit = _scaled(pair.least(what)[1], what)
    ours, reference = (figure * factor for figure in pair.least(what))
    return Row(
        key=key,
        title=title,
        ours=ours,
        reference=reference,
        unit=unit,
        value=ours - reference,
        is_difference=True,
        goal=goal,
        note=note,
    )


def limit_row(key: str, title: str, ours: float, unit: str, goal: float | None, *, note: str = "") -> Row:
    """Return the row of what stands by itself."""
    return Row(key=key, title=title, ours=ours, unit=unit, value=ours, goal=goal, note=note)


def _scaled(seconds: float, what: str) -> tuple[float, str]:
    word = "CPU" if what == "cpu" else "wall"
    if seconds < 0.002:
        return 1e6, f"us {word}"
    if seconds < 2:
        return 1e3, f"ms {word}"
    return 1.0, f"s {word}"
