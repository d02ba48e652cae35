"""What a client has gathered: looked at while nothing is under way, so that the figures can be compared."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from grctl_nats import NatsConnection
from grctl_nats import latest_runs as latest_runs_module
from grctl_nats import link as link_module

__all__ = ["FEWEST", "Look", "grown", "reach_plateaus_early", "settle"]

FEWEST = 6
"""Looks that it takes to judge by them."""
_BOUNDED = 200
_SETTLES_WITHIN = 40.0
"""Seconds: a link that is half open counts as lost after 30."""
_MOST_KB = 3 * 1024
"""How much memory may seem to grow by between two thirds of a soak: the allocator's pages are not given back evenly."""
_MOST_OBJECTS = 2_000


def reach_plateaus_early() -> None:
    """Make what remembers the last ten thousands remember fewer: else it would grow for longer than a soak takes."""
    latest_runs_module._REMEMBERED = _BOUNDED
    link_module._REMEMBERED = _BOUNDED


@dataclass(frozen=True)
class Look:
    """One look.

    Attributes:
        seconds: since the beginning.
        rss: resident memory, in KiB.
        objects: that the garbage collector knows.
        tasks: of the event loop, beside the one that looks.
        files: that are open, sockets too.
        timers: that the event loop holds and that are to go off.
        tables: entries of what the connection keeps, by name.
    """

    seconds: float
    rss: int
    objects: int
    tasks: int
    files: int
    timers: int
    tables: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        tables = " ".join(f"{name} {count}" for name, count in self.tables.items())
        return (
            f"rss {self.rss / 1024:.1f} MB  objects {self.objects}  tasks {self.tasks}  files {self.files}  "
            f"timers {self.timers}  {tables}"
        )


async def settle(connection: NatsConnection, began: float) -> Look:
    """Wait until what was under way has gone, for a while; then look."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SETTLES_WITHIN
    while not _is_settled(connection) and loop.time() < deadline:
        await asyncio.sleep(0.05)
    gc.collect()
    await asyncio.sleep(0)
    gc.collect()
    return Look(
        seconds=loop.time() - began,
        rss=_rss(),
        objects=len(gc.get_objects()),
        tasks=len(asyncio.all_tasks()) - 1,
        files=sum(1 for _ in Path("/proc/self/fd").iterdir()),
        timers=sum(not timer.cancelled() for timer in loop._scheduled),  # type: ignore[attr-defined]
        tables=_tables(connection),
    )


def _is_settled(connection: NatsConnection) -> bool:
    link = connection._uplink._link
    tables = _tables(connection)
    return link is not None and link.is_up and not any(tables[name] for name in _EMPTY)


_EMPTY = ("waits", "ends", "requests", "told of refusals", "deadlines", "closing")
"""Tables that are empty when nothing is under way."""


def _tables(connection: NatsConnection) -> dict[str, int]:
    link = connection._uplink._link
    return {
        "waits": len(connection._watcher._waits),
        "ends": len(connection._watcher._settlers),
        "requests": len(link.replies) if link else 0,
        "told of refusals": len(link._told) if link else 0,
        "deadlines": len(connection._deadlines._upheld),
        "closing": len(link_module._LEFT),
        "subscriptions": len(link._subscriptions) if link else 0,
        "hearers": len(link._hearers) if link else 0,
    }


def _rss() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


def grown(looks: Sequence[Look]) -> list[str]:
    """Return what has grown, from the second third of the looks to the last: the first one is for warming up."""
    if len(looks) < FEWEST:
        return [f"{len(looks)} looks are too few to judge by"]
    third = len(looks) // 3
    middle, last = looks[third : 2 * third], looks[2 * third :]
    found = []

    def compare(name: str, most: float, earlier: Iterable[int], later: Iterable[int]) -> None:
        before, after = median(earlier), median(later)
        if after - before > most:
            found.append(f"{name} grew from {before:g} to {after:g}")

    compare("memory (KiB)", _MOST_KB, (look.rss for look in middle), (look.rss for look in last))
    compare("objects", _MOST_OBJECTS, (look.objects for look in middle), (look.objects for look in last))
    for name in ("tasks", "files"):
        compare(name, 1, (getattr(look, name) for look in middle), (getattr(look, name) for look in last))
    compare("timers", 20, (look.timers for look in middle), (look.timers for look in last))
    for name in looks[0].tables:
        compare(name, 1, (look.tables[name] for look in middle), (look.tables[name] for look in last))
        if name in _EMPTY and all(look.tables[name] for look in last):
            found.append(f"{name} are never all gone: {[look.tables[name] for look in last]}")
    return found
