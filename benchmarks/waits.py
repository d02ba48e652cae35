"""Rows of waiting: what a wait weighs, what it costs at the broker, and what the ends and a reconnect cost."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grctl
from benchmarks.bed import Bed, Relayed, bed
from benchmarks.measuring import LagMeter, many, settled
from benchmarks.reference import Reference
from benchmarks.responder import TYPE
from benchmarks.rows import Row, Scale, limit_row
from grctl.nats.connection import Connection
from grctl_core.protocols import ConnectionEvent
from grctl_core.run import RunRef
from grctl_nats import subjects

__all__ = ["ends", "sweep", "weight"]

_PAGE = 256
_NAME = "waits"


async def _handles(b: Bed, connection: Any, count: int) -> list[Any]:
    """Start so many runs whose records are stored, and return their handles."""
    client = grctl.Client(connection=connection, plugins=[])
    handles: list[Any] = [None] * count

    async def start(number: int) -> None:
        handles[number] = await client.start_workflow(TYPE, f"wait-{number}")

    await many(start, count, 256)
    for part in _parts(_names(handles)):
        await b.do("going_on", runs=part)
    return handles


def _names(handles: list[Any]) -> list[list[str]]:
    return [[run.wf_id, run.run_id] for run in (handle.run_info.ref for handle in handles)]


def _parts(runs: list[list[str]]) -> Iterator[list[list[str]]]:
    """Divide what is told to the responder: the broker takes a megabyte at a time."""
    for first in range(0, len(runs), 5_000):
        yield runs[first : first + 5_000]


async def weight(scale: Scale) -> AsyncIterator[Row]:
    """Yield what one waiting handle weighs, and what all of them make the broker hold."""
    count = scale.waits
    async with bed() as b, await Connection.open(b.url, name=_NAME) as connection:
        gc.collect()
        tracemalloc.start()
        at_first = tracemalloc.get_traced_memory()[0]
        loop = asyncio.get_running_loop()
        bare = {f"{number:026d}": loop.create_future() for number in range(count)}
        reference = (tracemalloc.get_traced_memory()[0] - at_first) / count / 1024
        del bare
        gc.collect()

        at_first = tracemalloc.get_traced_memory()[0]
        handles = await _handles(b, connection, count)
        futures = [handle.future for handle in handles]
        for future in futures:
            future.add_done_callback(_nothing)
        await _looked_at(connection, handles)
        gc.collect()
        ours = (tracemalloc.get_traced_memory()[0] - at_first) / count / 1024
        tracemalloc.stop()
        yield Row(
            key="wait-memory",
            title=f"a waiting handle, one of {count:,}",
            ours=ours,
            reference=reference,
            unit="KB",
            is_difference=True,
            value=ours - reference,
            goal=1.5,
        )
        yield limit_row("wait-consumers", f"consumers for {count:,} waits", await b.consumers(), "", 0)
        held = await b.subscriptions(_NAME)
        yield limit_row("wait-subscriptions", f"subscriptions for {count:,} waits", held, "", 2)
        for future in futures:
            future.cancel()


def _nothing(_: object) -> None:
    """Wait for a future without a task."""


async def _looked_at(connection: Any, handles: list[Any]) -> None:
    """Wait until the first looks at all runs are over: the last one is a second after the first."""
    await asyncio.sleep(1.3 + len(handles) / 20_000)


async def ends(scale: Scale) -> AsyncIterator[Row]:
    """Yield what it costs when all runs that are waited for end."""
    count = scale.waits
    async with bed() as b, await Connection.open(b.url) as connection:
        plain = Reference(b.nc)
        handles = await _handles(b, connection, count)
        delivered = 0

        def ended(future: asyncio.Future[Any]) -> None:
            nonlocal delivered
            delivered += future.exception() is None

        for handle in handles:
            handle.future.add_done_callback(ended)
        await _looked_at(connection, handles)
        runs = _names(handles)
        half = count // 2
        subject = subjects.run_info(handles[-1].run_info.ref)
        gets = [await many(lambda _: plain.get(subject), scale.calls, 64)]
        settled()
        # The half that the cost is taken from ends unobserved: the observer's timer is not part of it.
        cpu, wall = time.process_time(), time.perf_counter()
        await _end(b, runs[:half], scale.wait_seconds / 2, lambda: delivered >= half)
        cpu = (time.process_time() - cpu) / half
        async with LagMeter() as meter:
            await _end(b, runs[half:], scale.wait_seconds / 2, lambda: delivered >= count)
        wall = time.perf_counter() - wall
        gets.append(await many(lambda _: plain.get(subject), scale.calls, 64))
        get = sum(cost.cpu for cost in gets) / len(gets)
        missing = count - delivered
        yield limit_row("ends-missing", f"ends not delivered of {count:,} within {wall:.0f} s", missing, "", 0)
        blocked = meter.worst * 1e3
        yield limit_row("ends-lag", "longest time that the event loop was blocked meanwhile", blocked, "ms", 50)
        yield Row(
            key="ends-cpu",
            title="an end, from the hint to the result",
            ours=cpu * 1e6,
            reference=get * 1e6,
            unit="us CPU",
            value=cpu / get,
            goal=1.5,
        )


async def _end(b: Bed, runs: list[list[str]], seconds: float, are_delivered: Callable[[], bool]) -> None:
    """Have runs end, and wait until it has been heard of all, or for a minute more."""
    for part in _parts(runs):
        await b.do("ends", runs=part, seconds=seconds * len(part) / len(runs))
    deadline = time.monotonic() + 60
    while not are_delivered() and time.monotonic() < deadline:  # noqa: ASYNC110 - an event would cost each end
        await asyncio.sleep(0.05)


async def sweep(scale: Scale) -> AsyncIterator[Row]:
    """Yield what it costs to look at all that wait over a new link."""
    count = scale.waits
    walls: list[tuple[float, float]] = []
    async with bed() as b, Relayed.before(b.url) as relay, await Connection.open(relay.url) as connection:
        handles = await _handles(b, connection, count)
        marks = max(2, scale.rounds // 3)
        # Those that ended while the connection was cut are seen when the sweep comes to them: the last ones, last.
        up = asyncio.Event()
        connection.add_listener(lambda event: up.set() if event is ConnectionEvent.CONNECTED else None)
        for handle in handles:
            handle.future.add_done_callback(_nothing)
        await _looked_at(connection, handles)
        p99 = 0.0
        for mark in range(1, marks + 1):
            last = handles[-mark]
            seen = last.future
            up.clear()
            await relay.tell("cut")
            await b.do("ends", runs=[[last.run_info.wf_id, last.run_info.id]], seconds=0.0)
            await relay.tell("open")
            async with LagMeter() as meter:
                await up.wait()
                begun = time.perf_counter()
                async with asyncio.timeout(120):
                    await seen
                ours = time.perf_counter() - begun
            p99 = max(p99, meter.p99)
            await _looked_at(connection, handles)
            walls.append((ours, await _raw_sweep(relay.url, handles)))
        ours, raw = (sorted(all_)[len(all_) // 2] for all_ in zip(*walls, strict=True))
        ratio = sorted(a / b for a, b in walls)[len(walls) // 2]
        yield Row(
            key="sweep",
            title=f"sweep of {count:,} waits over a new link",
            ours=ours * 1e3,
            reference=raw * 1e3,
            unit="ms wall",
            value=ratio,
            goal=1.3,
        )
        yield limit_row("sweep-lag", "event loop's lag meanwhile, p99", p99 * 1e3, "ms", 20)


async def _raw_sweep(url: str, handles: list[Any]) -> float:
    """Return how long the same ``multi_last`` calls take by hand, over the same relay."""
    import nats

    refs: list[RunRef] = [handle.run_info.ref for handle in handles]
    wanted = [subjects.run_info(run) for run in refs]
    nc = await nats.connect(url)
    settled()
    begun = time.perf_counter()
    found = await Reference(nc).last_of_each(wanted, _PAGE)
    wall = time.perf_counter() - begun
    await nc.close()
    if found != len(wanted):
        raise AssertionError(f"{found} of {len(wanted)} records of type {TYPE}")
    return wall
