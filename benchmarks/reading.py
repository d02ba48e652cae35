"""Rows of reading: a long history, and a list of many runs."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable

import grctl
from benchmarks.bed import bed
from benchmarks.measuring import Cost, in_turns, settled
from benchmarks.reference import Reference
from benchmarks.responder import HISTORY_RUN
from benchmarks.rows import Row, Scale, ratio_row
from grctl.nats.connection import Connection
from grctl_nats import subjects

__all__ = ["history", "listing"]


async def _read(read: Callable[[], Awaitable[int]], count: int) -> Cost:
    """Measure one reading of all."""
    settled()
    wall, cpu = time.perf_counter(), time.process_time()
    found = await read()
    cost = Cost(time.perf_counter() - wall, time.process_time() - cpu)
    if found != count:
        raise AssertionError(f"{found:,} instead of {count:,}")
    return cost


async def history(scale: Scale) -> AsyncIterator[Row]:
    """Yield what it takes to read one long history."""
    count = scale.events
    async with bed() as b, await Connection.open(b.url) as connection:
        await b.do("history", count=count)
        run, subject = HISTORY_RUN, subjects.history(HISTORY_RUN)

        async def ours() -> int:
            read = 0
            async for event in connection.history(run, follow=False):
                read += event.kind == "step.completed"
            return read

        plain = Reference(b.nc)
        pair = await in_turns(
            lambda: _read(ours, count),
            lambda: _read(lambda: plain.history(subject, count), count),
            max(scale.rounds // 3, 2),
        )
        title = f"history of {count:,} events"
        yield ratio_row("history", title, pair, 1.1, what="wall", note=f"CPU {pair.ratio('cpu'):.2f}")


async def listing(scale: Scale) -> AsyncIterator[Row]:
    """Yield what it takes to list many runs."""
    count = scale.runs
    async with bed() as b, await Connection.open(b.url) as connection:
        client = grctl.Client(connection=connection, plugins=[])

        async def ours() -> int:
            found = 0
            async for _ in client.list_workflows():
                found += 1
            return found

        async def peak() -> int:
            settled()
            tracemalloc.start()
            await ours()
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return most

        few = count // 5
        await b.do("runs", first=0, count=few)
        await ours()  # what is made at the first time is made
        peak_of_few = await peak()
        await b.do("runs", first=few, count=count - few)
        plain = Reference(b.nc)
        pair = await in_turns(
            lambda: _read(ours, count),
            lambda: _read(lambda: plain.list_runs(count), count),
            max(scale.rounds // 3, 2),
        )
        note = f"CPU {pair.ratio('cpu'):.2f}"
        yield ratio_row("list", f"list_workflows, {count:,} runs", pair, 1.15, what="wall", note=note)
        peak_of_all = await peak()
        yield Row(
            key="list-memory",
            title=f"its memory at {count:,} runs, beside {few:,}",
            ours=peak_of_all / 1024,
            reference=peak_of_few / 1024,
            unit="KB at most",
            value=(peak_of_all - peak_of_few) / 1024,
            goal=512.0,
            is_difference=True,
        )
