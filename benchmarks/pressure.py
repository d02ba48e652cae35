"""Rows of back-pressure: very many starts in one gather, also against a server that takes one at a time."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import AsyncIterator

import grctl
from benchmarks.bed import bed
from benchmarks.commands import starting
from benchmarks.measuring import Call, Cost, many, settled
from benchmarks.responder import TYPE
from benchmarks.rows import Row, Scale, limit_row
from grctl.nats.connection import Connection

__all__ = ["gathered", "one_at_a_time"]

_AT_ONCE = 512
_PER_SECOND = 330


async def gathered(scale: Scale) -> AsyncIterator[Row]:
    """Yield what very many starts in one gather cost, beside 512 at a time."""
    count = scale.gathered
    async with bed() as b, await Connection.open(b.url) as connection:
        start = starting(connection)
        await many(start, 2_000, _AT_ONCE)
        few = [await many(start, count, _AT_ONCE)]
        before = _peak()
        all_ = [await _gather(start, count)]
        grown = (_peak() - before) / count
        few.append(await many(start, count, _AT_ONCE))
        all_.append(await _gather(start, count))
        wall, plain = (min(cost.wall for cost in costs) for costs in (all_, few))
        cpu = min(cost.cpu for cost in all_) / min(cost.cpu for cost in few)
        yield Row(
            key="gather",
            title=f"{count:,} starts in one gather, beside {_AT_ONCE} at a time",
            ours=wall * count,
            reference=plain * count,
            unit="s wall",
            value=wall / plain,
            goal=1.2,
            note=f"CPU {cpu:.2f}",
        )
        yield limit_row("gather-memory", "its memory at the most, for each start", grown / 1024, "KB", None)


async def _gather(call: Call, count: int) -> Cost:
    settled()
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(call(number) for number in range(count)))
    return Cost((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)


def _peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


async def one_at_a_time(scale: Scale) -> AsyncIterator[Row]:
    """Yield what comes of a gather against a server that handles commands one after the other."""
    count = min(scale.gathered // 20, 5_000)
    async with bed() as b, await Connection.open(b.url) as connection:
        client = grctl.Client(connection=connection, plugins=["retry"])
        await b.do("count", pace=1 / _PER_SECOND)
        began = time.perf_counter()
        starts = (client.start_workflow(TYPE, f"slow-{number}") for number in range(count))
        results = await asyncio.gather(*starts, return_exceptions=True)
        wall = time.perf_counter() - began
        seen = await b.do("count", pace=0.0)
        failed = sum(isinstance(result, BaseException) for result in results)
        title = f"{count:,} starts in one gather, a server that takes one at a time"
        note = f"{count / wall:,.0f} a second"
        yield limit_row("slow-failed", f"{title}: calls that failed", failed, "", 0, note=note)
        commands = sum(seen.values()) / count
        note = f"{seen.get('run.describe', 0)} of them describes"
        yield limit_row("slow-commands", "commands sent for each of them", commands, "", 1.0, note=note)
