"""Runs per second of the embedded engine, seen by a client: from the call of start to the result in its hands.

    python benchmarks/engine_runs.py [--runs 10000] [--rounds 5] [--in-flight 10000]

Prints one line for each kind of run: the median of the rounds, with the slowest and the fastest.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import grctl
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

one_step = Workflow(workflow_type="OneStep")


@one_step.start()
async def start_one_step(ctx: Context, n: int) -> Directive:
    return ctx.next.complete(n)


with_an_event = Workflow(workflow_type="WithAnEvent")


@with_an_event.start()
async def start_with_an_event(ctx: Context) -> Directive:
    return ctx.next.wait()


@with_an_event.event()
async def finish(ctx: Context, n: int) -> Directive:
    return ctx.next.complete(n)


async def run_one_step(client: grctl.Client, wf_id: str, n: int) -> None:
    result = await client.run_workflow("OneStep", wf_id, n)
    if result != n:
        raise AssertionError(result)


async def run_with_an_event(client: grctl.Client, wf_id: str, n: int) -> None:
    handle = await client.start_workflow("WithAnEvent", wf_id)
    await handle.send("finish", n)
    result = await handle.result()
    if result != n:
        raise AssertionError(result)


Scenario: TypeAlias = Callable[[grctl.Client, str, int], Awaitable[None]]

SCENARIOS: dict[str, Scenario] = {
    "one step": run_one_step,
    "an event": run_with_an_event,
}


async def measure(run: Scenario, runs: int, in_flight: int) -> float:
    """Return runs per second of one round, on an engine of its own."""
    slots = asyncio.Semaphore(in_flight) if in_flight < runs else contextlib.nullcontext()

    async def one(n: int) -> None:
        async with slots:
            await run(client, f"bench-{n}", n)

    async with await grctl.connect("memory://", workflows=[one_step, with_an_event]) as connection:
        client = grctl.Client(connection=connection)
        gc.collect()
        began = time.perf_counter()
        await asyncio.gather(*(one(n) for n in range(runs)))
        return runs / (time.perf_counter() - began)


def processor() -> str:
    """Return the processor's name, as far as it is known."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=10_000, help="runs in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind (default: %(default)s)")
    parser.add_argument("--in-flight", type=int, default=None, help="runs going on at once (default: all)")
    options = parser.parse_args()
    if min(options.runs, options.rounds, options.in_flight or 1) < 1:
        parser.error("--runs, --rounds and --in-flight must be at least 1")
    in_flight = options.in_flight or options.runs

    print(
        f"{processor()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}, grctl-client {grctl.__version__}, "
        f"msgspec {importlib.metadata.version('msgspec')}"
    )
    print(f"{options.runs:,} runs a round, up to {in_flight:,} at once, {options.rounds} rounds; runs per second")
    for name, run in SCENARIOS.items():
        rates = [asyncio.run(measure(run, options.runs, in_flight)) for _ in range(options.rounds)]
        print(f"  {name:<10} {statistics.median(rates):>8,.0f}   ({min(rates):,.0f} to {max(rates):,.0f})")


if __name__ == "__main__":
    main()
