"""Runs in flight while the broker is killed and started again: every end is to come, once.

    python benchmarks/soak_broker_restarts.py [--runs 1000] [--kills 3]

A development server hosts the runs; its broker, a real nats-server with its store on disk, is killed in between. It
exits with 1 if an end is missing, came twice or is not the run's own, or if something is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
import time
from collections import Counter
from datetime import timedelta

import grctl
from grctl.nats.connection import Connection
from grctl.testing import DevServer
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

soak = Workflow(workflow_type="Soak")


@soak.start(timeout=timedelta(minutes=5))
async def start(ctx: Context, n: int, seconds: float) -> Directive:
    await ctx.sleep(seconds)
    return ctx.next.complete(n)


async def start_patiently(client: grctl.Client, number: int, seconds: float) -> grctl.WorkflowHandle[int]:
    """Start a run; where it is certain that nothing was started, try again: what a retry plugin does."""
    while True:
        try:
            return await client.start_workflow(
                "Soak", f"soak-{number}", {"n": number, "seconds": seconds}, result_type=int, on_conflict="attach"
            )
        except (grctl.ConnectionFailedError, grctl.DeliveryUnknownError):
            await asyncio.sleep(0.2)


async def main(runs: int, kills: int) -> int:
    began = time.monotonic()
    problems: list[str] = []
    ends: Counter[int] = Counter()
    async with DevServer(workflows=[soak]) as server:  # noqa: SIM117 - the second needs the first
        async with await Connection.open(server.url, connect_timeout=10) as connection:
            client = grctl.Client(connection=connection)
            handles = await asyncio.gather(
                *(start_patiently(client, n, random.uniform(1, 4 + 4 * kills)) for n in range(runs))
            )
            print(f"{runs} runs are in flight after {time.monotonic() - began:.1f} s")

            async def wait(number: int, handle: grctl.WorkflowHandle[int]) -> None:
                outcome = await handle.outcome()
                ends[number] += 1
                if outcome.result != number:
                    problems.append(f"run {number} ended as {outcome}")

            waiters = [asyncio.create_task(wait(n, handle)) for n, handle in enumerate(handles)]
            for kill in range(1, kills + 1):
                await asyncio.sleep(2)
                await server.kill_broker()
                done = sum(ends.values())
                await asyncio.sleep(random.uniform(0.1, 2))
                await server.restart_broker()
                print(f"kill {kill}: {done} ends had come by then; the broker is up again")
            await asyncio.wait(waiters, timeout=120)
            missing = [n for n in range(runs) if ends[n] != 1]
            if missing:
                problems.append(f"{len(missing)} runs without exactly one end, such as {missing[:5]}")
            histories = await asyncio.gather(*(kinds(handle) for handle in handles[:: max(1, runs // 200)]))
            problems += [f"a doubled history: {h}" for h in histories if h.count("run.completed") != 1]
            del handles, waiters
    await asyncio.sleep(0)
    gc.collect()
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if left:
        problems.append(f"tasks left behind: {left}")
    print(f"{sum(ends.values())} ends came, {len(problems)} problems, {time.monotonic() - began:.1f} s")
    for problem in problems:
        print(" ", problem)
    return 1 if problems else 0


async def kinds(handle: grctl.WorkflowHandle[int]) -> list[str]:
    return [event.kind async for event in handle.history()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000, help="runs in flight (default %(default)s)")
    parser.add_argument("--kills", type=int, default=3, help="how often the broker is killed (default %(default)s)")
    arguments = parser.parse_args()
    sys.exit(asyncio.run(main(arguments.runs, arguments.kills)))
