"""What a call costs over NATS, counted: nothing here measures time. What takes more than it did fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from fake_server import FakeServer, new_run
from nats.aio.client import Client

import grctl
from grctl_core.run import RunStatus
from grctl_nats import NatsConnection


class Counts:
    """Counts what the driver is asked for, and the tasks and timers of the loop, while a block runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: Counter[str] = Counter()
        self.headers: list[object] = []
        loop = asyncio.get_running_loop()
        for name in ("publish", "subscribe", "request", "flush"):
            self._count(monkeypatch, Client, name)
        for name in ("call_later", "call_at"):
            self._count(monkeypatch, loop, name)

        def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
            self.of["task"] += 1
            return asyncio.Task(coroutine, loop=loop, **options)

        loop.set_task_factory(make)

    def _count(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.of[name] += 1
            if name == "publish":
                self.headers.append(kwargs.get("headers"))
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)


@pytest.fixture
async def client(connection: NatsConnection) -> grctl.Client:
    return grctl.Client(connection=connection, plugins=[])


async def test_a_start_is_one_publish_and_nothing_else(client, monkeypatch):
    await client.start_workflow("W", "w-first")  # the timer for all replies is there
    counts = Counts(monkeypatch)
    for n in range(20):
        await client.start_workflow("W", f"w{n}", {"n": n})
    # The server of these tests is in this process too, and publishes the replies.
    assert counts.of["publish"] == 40
    assert counts.headers == [None] * 40
    assert not counts.of.keys() - {"publish", "call_at", "call_later"}
    assert counts.of["call_at"] <= 3  # the look every half second whether the link is up, on a slow machine


async def test_a_wait_makes_no_task_and_no_subscription(server: FakeServer, connection, client, monkeypatch):
    runs = [new_run(f"w{n}") for n in range(60)]
    for run in runs:
        await server.put_run(run)
    first = connection.watch(runs[0].ref)  # from here on it listens
    async with asyncio.timeout(20):
        while connection._watcher._due or connection._watcher._listening is None:
            await asyncio.sleep(0.001)
    counts = Counts(monkeypatch)
    waits = [connection.watch(run.ref) for run in runs[1:]]
    assert counts.of["call_at"] == counts.of["task"] == 0
    async with asyncio.timeout(20):
        while connection._watcher._due:
            await asyncio.sleep(0.001)
    assert counts.of["subscribe"] == 0
    assert counts.of["task"] == 0
    monkeypatch.undo()
    asyncio.get_running_loop().set_task_factory(None)
    for run in runs:
        await server.end(run, result=run.wf_id)
    async with asyncio.timeout(20):
        ended = await asyncio.gather(first, *waits)
    assert [end.run.status for end in ended] == [RunStatus.COMPLETED] * 60


async def test_an_end_with_a_hint_is_read_with_one_request(server: FakeServer, connection, monkeypatch):
    run = new_run("w")
    await server.put_run(run)
    watch = connection.watch(run.ref)
    async with asyncio.timeout(20):
        while any(True for _ in connection._watcher._waits[run.wf_id, run.id].pauses):
            await asyncio.sleep(0.001)
        while connection._watcher._due or connection._watcher._listening is None:
            await asyncio.sleep(0.001)
    for _ in range(3):  # behind its own looks
        await connection.find_type("x")
    asked = []
    request = type(connection._records)._ask

    async def noted(self: Any, subject: str, body: bytes) -> Any:
        asked.append(subject.partition("grctl_state.")[2])
        return await request(self, subject, body)

    monkeypatch.setattr(type(connection._records), "_ask", noted)
    await server.end(run, result=7)
    async with asyncio.timeout(20):
        outcome = await watch
    assert outcome.run.completed_at is not None
    # More only where the hint came before the commit, which it may.
    assert asked[0] == f"grctl_history.w.{run.id}"


async def test_a_run_that_was_started_here_is_looked_at_when_its_hint_comes(server, connection, client, monkeypatch):
    other = new_run("other")
    await server.put_run(other)
    waits = [connection.watch(other.ref)]
    async with asyncio.timeout(20):
        while connection._watcher._due or connection._watcher._listening is None:
            await asyncio.sleep(0.001)
    handle = await client.start_workflow("W", "w")
    waits.append(handle.future)
    assert ("w", handle.run_info.id) not in connection._watcher._due
    run = handle.run_info
    await server.put_run(run)
    await server.end(run, result=7)
    async with asyncio.timeout(20):
        assert await waits[1] == 7


async def test_an_end_that_comes_before_anybody_waits(server: FakeServer, connection, client):
    """Of a run that was started here: what was heard of it meanwhile is remembered."""
    other = new_run("other")
    await server.put_run(other)
    waiting = connection.watch(other.ref)
    async with asyncio.timeout(20):
        while connection._watcher._due or connection._watcher._listening is None:
            await asyncio.sleep(0.001)
    handle = await client.start_workflow("W", "w")
    await server.put_run(handle.run_info)
    await server.end(handle.run_info, result=7)
    async with asyncio.timeout(20):
        while connection._watcher._started.get(("w", handle.run_info.id)) is None:
            await asyncio.sleep(0.001)
    async with asyncio.timeout(20):
        assert await handle.result() == 7
    assert not waiting.done()
