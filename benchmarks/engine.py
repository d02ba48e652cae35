"""Rows of the embedded engine: runs, events, tasks, children and queries, and what stays of a run."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable

import grctl
from benchmarks.measuring import Cost, in_turns, many
from benchmarks.rows import Row, Scale, limit_row, ratio_row
from grctl.worker import Context, task
from grctl.workflow import Directive, Workflow
from grctl_engine import EngineLimits

__all__ = ["engine", "engine_growth", "engine_work"]

_TASKS = 10
_TASKS_OF_A_RUN = 6
_AT_ONCE = 64

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


@task
async def work(n: int) -> int:
    return n + 1


with_tasks = Workflow(workflow_type="WithTasks")


@with_tasks.start()
async def start_with_tasks(ctx: Context, n: int) -> Directive:
    for _ in range(_TASKS):
        n = await work(n)
    return ctx.next.complete(n)


with_child = Workflow(workflow_type="WithChild")


@with_child.start()
async def start_with_child(ctx: Context, n: int) -> Directive:
    return ctx.next.complete(await ctx.run_child("OneStep", f"{ctx.run.wf_id}-child", n))


waits = Workflow(workflow_type="Waits")


@waits.start()
async def start_waits(ctx: Context, n: int) -> Directive:
    ctx.store.put("n", n)
    return ctx.next.wait()


@waits.query()
async def number(ctx: Context) -> int:
    return await ctx.store.get("n", int)


_WORKFLOWS = [one_step, with_an_event, with_tasks, with_child, waits]


async def _nothing() -> None:
    """Do nothing."""


async def _six_tasks(_: int) -> None:
    for _ in range(_TASKS_OF_A_RUN):
        await asyncio.create_task(_nothing())


async def engine(scale: Scale) -> AsyncIterator[Row]:
    """Yield what a run on the embedded engine costs."""

    async def ours() -> Cost:
        async with await grctl.connect("memory://", workflows=_WORKFLOWS) as connection:
            client = grctl.Client(connection=connection, plugins=[])

            async def run(n: int) -> None:
                if await client.run_workflow("OneStep", f"bench-{n}", n) != n:
                    raise AssertionError(n)

            return await many(run, scale.calls, _AT_ONCE)

    pair = await in_turns(ours, lambda: many(_six_tasks, scale.calls, _AT_ONCE), scale.rounds)
    title = f"a run of one step on the embedded engine, {_AT_ONCE} at once, beside {_TASKS_OF_A_RUN} tasks"
    yield ratio_row("engine-run", title, pair, 8.0)


async def engine_growth(scale: Scale) -> AsyncIterator[Row]:
    """Yield what a run costs after very many, beside one after a thousand."""
    step, last = 1_000, scale.engine_runs // 1_000
    gc.collect()
    tracemalloc.start()
    async with await grctl.connect("memory://", workflows=_WORKFLOWS) as connection:
        client = grctl.Client(connection=connection, plugins=[])
        await _batch(client, 0, step)
        held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    async with await grctl.connect("memory://", workflows=_WORKFLOWS) as connection:
        client = grctl.Client(connection=connection, plugins=[])
        costs = [(await _batch(client, batch * step, step)).cpu for batch in range(last + 1)]
    # The first batch warms up. What the next ones cost is compared with what the last ones do.
    few = max(3, min(10, last // 3))
    early, late = statistics.median(costs[1 : 1 + few]), statistics.median(costs[-few:])
    yield Row(
        key="engine-growth",
        title=f"a run after {last * step:,} runs, beside one after {step:,}",
        ours=late * 1e6,
        reference=early * 1e6,
        unit="us CPU",
        value=late / early,
        goal=1.15,
    )
    yield limit_row(
        "engine-held", f"memory for each of the first {step:,} runs that ended", held / step / 1024, "KB", None
    )
    yield limit_row(
        "engine-bounded", "memory of an engine that keeps 1,000 ended runs: after 6,000 beside 2,000", *await _bounded()
    )


async def _bounded() -> tuple[float, str, float]:
    limits = EngineLimits(finished_runs=1_000)
    sizes = []
    gc.collect()
    tracemalloc.start()
    async with await grctl.connect("memory://", workflows=_WORKFLOWS, limits=limits) as connection:
        client = grctl.Client(connection=connection, plugins=[])
        for batch in range(6):
            await _batch(client, batch * 1_000, 1_000)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    return sizes[-1] / sizes[1], "times", 1.15


async def _batch(client: grctl.Client, first: int, count: int) -> Cost:
    async def run(n: int) -> None:
        await client.run_workflow("OneStep", f"grow-{first + n}", n)

    return await many(run, count, _AT_ONCE)


async def engine_work(scale: Scale) -> AsyncIterator[Row]:
    """Yield how much of each kind of work the engine does in a second, and what stays of a run."""
    count = max(200, scale.calls)
    for name, (do, each) in _RATES.items():
        rates = [await _rate(do, count, each) for _ in range(max(3, scale.rounds // 3))]
        yield limit_row(f"engine-{name.split()[0]}", f"{name} in a second", statistics.median(rates), "", None)
    for name, (workflow_type, kind) in _SIZES.items():
        size = await _memory(workflow_type, min(count, 2_000), kind)
        yield limit_row(f"engine-bytes-{workflow_type}", f"memory of {name}", size / 1024, "KB", None)


async def _run(client: grctl.Client, workflow_type: str, count: int) -> None:
    await asyncio.gather(*(client.run_workflow(workflow_type, f"{workflow_type}-{n}", n) for n in range(count)))


async def _send(client: grctl.Client, count: int) -> None:
    async def one(n: int) -> None:
        handle = await client.start_workflow("WithAnEvent", f"event-{n}")
        await handle.send("finish", n)
        if await handle.result() != n:
            raise AssertionError(n)

    await asyncio.gather(*(one(n) for n in range(count)))


async def _ask(client: grctl.Client, count: int) -> None:
    handle = await client.start_workflow("Waits", "asked", 1)
    for _ in range(count // 100):
        await asyncio.gather(*(handle.query("number") for _ in range(100)))


async def _rate(do: Callable[[grctl.Client, int], Awaitable[None]], count: int, each: int) -> float:
    async with await grctl.connect("memory://", workflows=_WORKFLOWS) as connection:
        client = grctl.Client(connection=connection, plugins=[])
        gc.collect()
        began = time.perf_counter()
        await do(client, count)
        return count * each / (time.perf_counter() - began)


async def _memory(workflow_type: str, count: int, kind: str) -> float:
    """Return the bytes that one run takes when all have come to where an event of this kind happened."""
    limits = EngineLimits(finished_runs=10 * count)
    async with await grctl.connect("memory://", workflows=_WORKFLOWS, limits=limits) as connection:
        client = grctl.Client(connection=connection, plugins=[])
        await client.run_workflow("OneStep", "first", 1)
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for n in range(count):
            handle = await client.start_workflow(workflow_type, f"{workflow_type}-{n}", n)
            async for event in handle.history(follow=True):
                if event.kind == kind:
                    break
        del handle, event
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return (after - before) / count


_RATES: dict[str, tuple[Callable[[grctl.Client, int], Awaitable[None]], int]] = {
    "runs of one step": (lambda client, count: _run(client, "OneStep", count), 1),
    "events that end a run": (_send, 1),
    "tasks": (lambda client, count: _run(client, "WithTasks", count // _TASKS), 1),
    "parents with a child": (lambda client, count: _run(client, "WithChild", count), 1),
    "queries": (_ask, 1),
}
_SIZES = {
    "a run that has ended": ("OneStep", "run.completed"),
    f"a run with {_TASKS} tasks that has ended": ("WithTasks", "run.completed"),
    "a run that waits": ("Waits", "wait.started"),
}
