"""Rows of commands over NATS: start, send, run, and what uvloop makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grctl
from benchmarks.bed import Bed, bed
from benchmarks.measuring import Call, Cost, Pair, in_turns, many, settled
from benchmarks.reference import INPUT, Reference
from benchmarks.responder import EVENT, TYPE, run_of
from benchmarks.rows import Point, Row, Scale, limit_row, ratio_row
from grctl.nats.connection import Connection
from grctl_nats import subjects
from grctl_nats.safeguards import Safeguards

__all__ = ["curve", "runs", "sends", "starts", "uvloop"]

_HANDLES = 64


def starting(connection: Any, *plugins: object) -> Call:
    """Return what starts a run by a client of its own."""
    client = grctl.Client(connection=connection, plugins=plugins)

    async def start(number: int) -> None:
        await client.start_workflow(TYPE, f"order-{number}", INPUT)

    return start


async def compared(ours: Call, reference: Call, scale: Scale, at_once: int) -> Pair:
    """Compare two calls, so many at once."""
    calls = scale.calls if at_once > 1 else max(scale.calls // 4, 100)
    return await in_turns(
        lambda: many(ours, calls, at_once), lambda: many(reference, calls, at_once), scale.rounds * (1 + (at_once == 1))
    )


async def starts(scale: Scale) -> AsyncIterator[Row]:
    """Yield the rows of ``start_workflow``."""
    async with bed() as b, await Connection.open(b.url) as connection:
        ours, reference = starting(connection), Reference(b.nc).start
        for at_once in (64, 512):
            pair = await compared(ours, reference, scale, at_once)
            yield ratio_row(f"start-{at_once}", f"start_workflow, {at_once} at once", pair, 0.9)
        pair = await compared(ours, reference, scale, 1)
        yield ratio_row("start-1", "start_workflow, one after the other", pair, 1.1, what="wall")
        plugged = starting(connection, "tracing", "logging", "retry")
        pair = await compared(plugged, reference, scale, 64)
        title = "start_workflow with tracing, logging, retry, 64 at once"
        yield ratio_row("start-plugins", title, pair, 1.2)


async def sends(scale: Scale) -> AsyncIterator[Row]:
    """Yield the rows of ``send``, over 64 handles."""
    async with bed() as b:
        await b.do("register")
        yield await _sends(b, scale, "send", f"send over {_HANDLES} handles, safeguard 6 off", 1.0, gets=False)
        yield await _sends(b, scale, "send-settled", f"send over {_HANDLES} handles, safeguard 6 on", 1.1, gets=True)


async def _sends(b: Bed, scale: Scale, key: str, title: str, goal: float, *, gets: bool) -> Row:
    plain = Reference(b.nc)
    async with await Connection.open(b.url, safeguards=Safeguards(settled_before_send=gets)) as connection:
        client = grctl.Client(connection=connection, plugins=[])
        handles = [await client.start_workflow(TYPE, f"h{number}") for number in range(_HANDLES)]
        names = [handle.run_info.ref for handle in handles]
        await b.do("states", runs=[[run.wf_id, run.run_id] for run in names])

        async def ours(number: int) -> None:
            await handles[number % _HANDLES].send(EVENT, INPUT)

        async def reference(number: int) -> None:
            run = names[number % _HANDLES]
            if gets:
                await asyncio.gather(plain.get(subjects.run_state(run)), plain.get(subjects.events(run.wf_id)))
            await plain.send(run.wf_id)

        # Each handle has one worker, as the events of one handle go out one after the other.
        pair = await compared(ours, reference, scale, _HANDLES)
    return ratio_row(key, title, pair, goal)


async def runs(scale: Scale) -> AsyncIterator[Row]:
    """Yield the row of ``run_workflow``: a start, the wait for its end, and the result."""
    async with bed() as b, await Connection.open(b.url) as connection:
        await b.do("runs", first=0, count=1)
        client = grctl.Client(connection=connection, plugins=[])
        plain = Reference(b.nc)
        subject = subjects.run_info(run_of(0))

        async def ours(number: int) -> None:
            result = await client.run_workflow(TYPE, f"end-{number}", INPUT)
            if result["total"] != INPUT["amount"]:
                raise AssertionError(result)

        async def reference(number: int) -> None:
            await plain.start(number)
            await plain.get(subject)

        for at_once, goal in ((64, 1.3), (512, None)):
            pair = await compared(ours, reference, scale, at_once)
            yield ratio_row(f"run-{at_once}", f"run_workflow, {at_once} at once", pair, goal)


async def curve(scale: Scale) -> AsyncIterator[Point]:
    """Yield the points of the plot."""
    async with bed() as b, await Connection.open(b.url) as connection:
        ours, reference = starting(connection), Reference(b.nc).start
        for at_once in scale.at_once:
            calls = max(min(scale.calls, 1_000 * at_once), at_once)
            pair = await in_turns(
                lambda calls=calls, at_once=at_once: many(ours, calls, at_once),
                lambda calls=calls, at_once=at_once: many(reference, calls, at_once),
                max(scale.rounds // 3, 2),
            )
            figures = pair.figures("cpu")
            yield Point(at_once, figures[0] * 1e6, figures[1] * 1e6)


def uvloop(scale: Scale) -> Iterator[Row]:
    """Yield what the same calls cost on uvloop, beside asyncio's own loop."""
    try:
        import uvloop as fast
    except ImportError:
        yield limit_row("uvloop", "client on uvloop", 0.0, "", None, note="not measured: uvloop is not installed")
        return
    for title, key, at_once in (("start_workflow", "start", 64), ("start_workflow", "start", 1)):
        pair = asyncio.run(_on_loops(scale, at_once, fast.new_event_loop))
        yield ratio_row(f"uvloop-{key}-{at_once}", f"{title} on uvloop, {at_once} at once", pair, None)


async def _on_loops(scale: Scale, at_once: int, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> Pair:
    """Take turns on event loops of both kinds, each in a thread's own run."""
    calls = scale.calls if at_once > 1 else max(scale.calls // 4, 100)

    async def turn(url: str) -> Cost:
        async with await Connection.open(url) as connection:
            start = starting(connection)
            await many(start, min(calls, 200), at_once)
            return await many(start, calls, at_once)

    def on(url: str, make: Callable[[], asyncio.AbstractEventLoop] | None) -> Awaitable[Cost]:
        def run() -> Cost:
            with asyncio.Runner(loop_factory=make) as runner:
                return runner.run(turn(url))

        settled()
        return asyncio.to_thread(run)

    async with bed() as b:
        return await in_turns(lambda: on(b.url, new_loop), lambda: on(b.url, None), max(scale.rounds // 2, 2))
