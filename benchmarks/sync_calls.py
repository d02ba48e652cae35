"""What a call costs through the synchronous client, beside the same call through the asynchronous one.

    python benchmarks/sync_calls.py [CALLS]

Both work on the embedded engine, so that what is measured is the way: one thread hands a call to another and waits.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grctl
import grctl.sync
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

approval = Workflow(workflow_type="Approval")


@approval.start()
async def start(ctx: Context) -> Directive:
    return ctx.next.wait()


def show(what: str, calls: int, seconds: float) -> None:
    print(f"{what:<42} {seconds / calls * 1e6:8.1f} us a call, {calls / seconds:9,.0f} calls/s")


async def with_await(calls: int) -> None:
    async with await grctl.connect("memory://", workflows=[approval]) as connection:
        handle = await grctl.Client(connection=connection).start_workflow("Approval", "id")
        began = time.perf_counter()
        for _ in range(calls):
            await handle.describe()
        show("asynchronous describe", calls, time.perf_counter() - began)


def without(calls: int) -> None:
    with grctl.sync.connect("memory://", workflows=[approval]) as connection:
        client = grctl.sync.Client(connection=connection)
        handle = client.start_workflow("Approval", "id")
        show("synchronous describe, one thread", calls, timed(lambda: [handle.describe() for _ in range(calls)]))
        with ThreadPoolExecutor(20) as pool:
            show(
                "synchronous describe, 20 threads",
                calls,
                timed(lambda: list(pool.map(lambda _: handle.describe(), range(calls)))),
            )
        for number in range(calls):
            client.start_workflow("Approval", f"id-{number}")
        show("one run of a listing", calls + 1, timed(lambda: list(client.list_workflows())))
        made = calls // 10
        show(
            "a client", made, timed(lambda: [grctl.sync.Client(connection=connection, plugins=[]) for _ in range(made)])
        )


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    asyncio.run(with_await(calls))
    without(calls)
