"""The soak's verdict on growth: what is flat passes, and each thing that grows is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .measures import Look, grown

FLAT = Look(seconds=0, rss=40_000, objects=30_000, tasks=7, files=12, timers=3, tables={"waits": 0, "subscriptions": 2})


def looks(**growing: int) -> list[Look]:
    """Return nine looks; what is named grows by so much with each."""
    found = []
    for number in range(9):
        tables = {name: count + number * growing.get(name, 0) for name, count in FLAT.tables.items()}
        values = {name: getattr(FLAT, name) + number * by for name, by in growing.items() if hasattr(FLAT, name)}
        found.append(replace(FLAT, seconds=30.0 * number, tables=tables, **values))
    return found


def test_what_is_flat_passes():
    assert grown(looks()) == []


def test_warming_up_is_no_growth():
    assert grown([replace(look, rss=20_000, objects=9_000) for look in looks()[:3]] + looks()[3:]) == []


def test_a_single_peak_is_no_growth():
    assert grown([*looks()[:8], replace(FLAT, rss=90_000, tasks=50)]) == []


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("rss", 3_000),
        ("objects", 1_000),
        ("tasks", 1),
        ("files", 1),
        ("timers", 10),
        ("waits", 1),
        ("subscriptions", 1),
    ],
)
def test_what_grows_is_named(name, by):
    said = " ".join(grown(looks(**{name: by})))
    assert ("memory" if name == "rss" else name) + " " in said
    assert "grew from" in said


def test_what_never_goes_is_named():
    stuck = [replace(look, tables={"waits": 2}) for look in looks()]
    assert grown(stuck) == ["waits are never all gone: [2, 2, 2]"]


def test_too_few_looks_say_nothing():
    assert grown(looks()[:5]) == ["5 looks are too few to judge by"]
