"""Runs, tasks, children and queries per second of the embedded engine, and what a run takes in memory.

    python benchmarks/engine_tasks.py [--runs 5000] [--rounds 3]

Prints one line for each kind of work: the median of the rounds, with the slowest and the fastest. Memory is what
tracemalloc counts, all in all, divided by the runs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import platform
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable

import grctl
from grctl.worker import Context, task
from grctl.workflow import Directive, Workflow
from grctl_engine import EngineLimits

TASKS = 10
QUERIES = 10


@task
async def work(n: int) -> int:
    return n + 1


plain = Workflow(workflow_type="Plain")


@plain.start()
async def start_plain(ctx: Context, n: int) -> Directive:
    return ctx.next.complete(n)


with_tasks = Workflow(workflow_type="WithTasks")


@with_tasks.start()
async def start_with_tasks(ctx: Context, n: int) -> Directive:
    for _ in range(TASKS):
        n = await work(n)
    return ctx.next.complete(n)


with_child = Workflow(workflow_type="WithChild")


@with_child.start()
async def start_with_child(ctx: Context, n: int) -> Directive:
    return ctx.next.complete(await ctx.run_child("Plain", f"{ctx.run.wf_id}-child", n))


waits = Workflow(workflow_type="Waits")


@waits.start()
async def start_waits(ctx: Context, n: int) -> Directive:
    ctx.store.put("n", n)
    return ctx.next.wait()


@waits.query()
async def number(ctx: Context) -> int:
    return await ctx.store.get("n", int)


WORKFLOWS = [plain, with_tasks, with_child, waits]


async def run(client: grctl.Client, workflow_type: str, runs: int) -> None:
    await asyncio.gather(*(client.run_workflow(workflow_type, f"{workflow_type}-{n}", n) for n in range(runs)))


async def ask(client: grctl.Client, runs: int) -> None:
    handle = await client.start_workflow("Waits", "asked", 1)
    for _ in range(runs // 100):
        await asyncio.gather(*(handle.query("number") for _ in range(100 * QUERIES)))


async def rate(do: Callable[[grctl.Client, int], Awaitable[None]], runs: int, each: int) -> float:
    """Return how much is done in a second of one round, on an engine of its own."""
    async with await grctl.connect("memory://", workflows=WORKFLOWS) as connection:
        client = grctl.Client(connection=connection)
        gc.collect()
        began = time.perf_counter()
        await do(client, runs)
        return runs * each / (time.perf_counter() - began)


async def memory(workflow_type: str, runs: int, kind: str) -> float:
    """Return the bytes that one run takes when all have come to where an event of this kind happened."""
    limits = EngineLimits(finished_runs=10 * runs)
    async with await grctl.connect("memory://", workflows=WORKFLOWS, limits=limits) as connection:
        client = grctl.Client(connection=connection)
        await client.run_workflow("Plain", "first", 1)
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for n in range(runs):
            handle = await client.start_workflow(workflow_type, f"{workflow_type}-{n}", n)
            async for event in handle.history(follow=True):
                if event.kind == kind:
                    break
        del handle, event
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return (after - before) / runs


RATES: dict[str, tuple[Callable[[grctl.Client, int], Awaitable[None]], int]] = {
    "runs": (lambda client, runs: run(client, "Plain", runs), 1),
    "tasks": (lambda client, runs: run(client, "WithTasks", runs), TASKS),
    "parents with a child": (lambda client, runs: run(client, "WithChild", runs), 1),
    "queries": (ask, QUERIES),
}

SIZES = {
    "a finished run": ("Plain", "run.completed"),
    f"a finished run with {TASKS} tasks": ("WithTasks", "run.completed"),
    "a waiting run": ("Waits", "wait.started"),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5_000, help="runs in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each kind (default: %(default)s)")
    options = parser.parse_args()
    if options.runs < 100 or options.rounds < 1:
        parser.error("--runs must be at least 100, --rounds at least 1")
    print(f"Python {platform.python_version()}, grctl-client {grctl.__version__}; {options.runs:,} runs a round")
    for name, (do, each) in RATES.items():
        rates = [asyncio.run(rate(do, options.runs, each)) for _ in range(options.rounds)]
        print(
            f"  {name + ' per second':<34} {statistics.median(rates):>8,.0f}   ({min(rates):,.0f} to {max(rates):,.0f})"
        )
    for name, (workflow_type, kind) in SIZES.items():
        print(f"  {'bytes of ' + name:<34} {asyncio.run(memory(workflow_type, min(options.runs, 2_000), kind)):>8,.0f}")


if __name__ == "__main__":
    main()
