"""grctl_retry over the embedded engine, and over a real broker that is killed while runs are started."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

import grctl
from grctl.testing import DevServer
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_core.errors import DeliveryUnknownError, NotSentError
from grctl_core.hooks import Plugin
from grctl_core.protocols import ConnectionEvent
from grctl_retry import Retry, RetryPlugin

from .rig import Told, no_pause

greeting = Workflow(workflow_type="Greeting")
handled: Counter[str] = Counter()


@greeting.start()
async def begin(ctx: Context, name: str) -> Directive:
    handled[f"start {name}"] += 1
    ctx.store.put("name", name)
    return ctx.next.wait()


@greeting.event()
async def note(ctx: Context, word: str) -> Directive:
    handled[f"note {word}"] += 1
    return ctx.next.wait()


@greeting.event()
async def done(ctx: Context) -> Directive:
    return ctx.next.complete(await ctx.store.get("name", str))


class Losing(Plugin):
    """Loses what it is told to: a request before it is sent, or its reply after it was carried out."""

    name = "losing"

    def __init__(self) -> None:
        self.fates: list[str] = []

    async def grctl_attempt(self, attempt: Any, proceed: Any) -> Any:
        fate = self.fates.pop(0) if self.fates else "reply"
        if fate == "not sent":
            raise NotSentError("away")
        reply = await proceed(attempt)
        if fate == "lost":
            raise DeliveryUnknownError("no reply")
        return reply


async def test_over_the_embedded_engine() -> None:
    handled.clear()
    losing, told = Losing(), Told()
    async with await grctl.connect("memory://", workflows=[greeting]) as connection:
        client = grctl.Client(connection=connection, plugins=[RetryPlugin(sleep=no_pause), losing, told])
        losing.fates = ["not sent", "lost", "lost", "reply"]  # the start twice, then a look twice
        handle = await client.start_workflow("Greeting", "greet-1", {"name": "Ada"})
        assert [error for _, error, _, _ in told.retries] == [
            "NotSentError",
            "DeliveryUnknownError",
            "DeliveryUnknownError",
        ]
        losing.fates = ["not sent", "lost"]
        with pytest.raises(DeliveryUnknownError):
            await handle.send("note", {"word": "once"})
        losing.fates = ["lost", "lost"]
        await handle.send("note", {"word": "again"}, idempotent=True)
        await handle.send("done")
        assert await handle.result() == "Ada"
        assert handled == {"start Ada": 1, "note once": 1, "note again": 3}

        other = await client.start_workflow("Greeting", "greet-2", {"name": "Bob"})
        losing.fates = ["reply", "lost"]  # the look, then the cancel
        await other.cancel("no longer needed")
        assert (await other.outcome()).status == "cancelled"


RUNS = 60
AT_ONCE = 10


@pytest.mark.timeout(60)
async def test_a_broker_that_is_killed_while_runs_are_started() -> None:
    """Every start comes to a good end, with the defaults, and no run is started twice."""
    handled.clear()
    told = Told()
    async with DevServer([greeting]) as server, await grctl.connect(server.url) as connection:
        client = grctl.Client(connection=connection, plugins=["retry", told], request_timeout=2)
        some, enough, room = asyncio.Event(), asyncio.Event(), asyncio.Semaphore(AT_ONCE)
        started = 0

        async def start(number: int) -> grctl.WorkflowHandle:
            nonlocal started
            async with room:
                handle = await client.start_workflow("Greeting", f"greet-{number}", {"name": str(number)})
            started += 1
            (enough if started >= RUNS // 2 else some).set()
            return handle

        tasks = [asyncio.create_task(start(number)) for number in range(RUNS)]
        for moment in (some, enough):
            await moment.wait()
            await server.kill_broker()
            seen = len(told.retries)
            while len(told.retries) == seen and not all(task.done() for task in tasks):
                await asyncio.sleep(0.01)  # somebody has met it
            await server.restart_broker()
        handles = await asyncio.gather(*tasks)
        assert len({handle.run_info.id for handle in handles}) == RUNS
        assert told.retries

        for handle in handles:
            await handle.send("done", retry=Retry(deadline=30))
        assert await asyncio.gather(*(handle.result() for handle in handles)) == [str(n) for n in range(RUNS)]
        assert handled == {f"start {number}": 1 for number in range(RUNS)}
        runs = [run.wf_id async for run in client.list_workflows()]
        assert sorted(runs) == sorted(f"greet-{number}" for number in range(RUNS))


@pytest.mark.timeout(60)
async def test_a_send_while_the_broker_is_away() -> None:
    """With nothing known of the type yet: its definition is read first, and that waits for the broker too."""
    handled.clear()
    told = Told()
    async with DevServer([greeting]) as server, await grctl.connect(server.url) as connection:
        client = grctl.Client(connection=connection, plugins=["retry", told])
        handle = await client.start_workflow("Greeting", "greet-1", {"name": "Ada"})
        lost = asyncio.Event()
        connection.add_listener(lambda event: lost.set() if event is ConnectionEvent.DISCONNECTED else None)
        await server.kill_broker()
        await lost.wait()
        send = asyncio.create_task(handle.send("done"))
        while not told.retries:
            await asyncio.sleep(0.01)
        await server.restart_broker()
        await send
        assert await handle.result() == "Ada"
        assert {operation for operation, _, _, _ in told.retries} == {"send"}
