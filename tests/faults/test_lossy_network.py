"""A network that loses requests and replies while the connection is kept: what is promised holds at volume.

Every tenth request is lost, and three of ten replies, of commands and of looks at the records alike.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest
from fault_proxy import FaultProxy, Faults, replies, requests

import grctl
from grctl.testing import DevServer
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_nats import NatsConnection
from grctl_retry import Retry, RetryPlugin

RUNS = 1_000
AT_ONCE = 100
SOON = 0.3
"""Seconds until an answer counts as lost. One that only comes late is one more fault: on a slow machine there are many,
so that whatever must not be lost goes straight, or may be repeated."""
PATIENCE = 100

order = Workflow(workflow_type="Order")


@order.start()
async def start(ctx: Context, number: int) -> Directive:
    ctx.store.put("number", number)
    ctx.store.put("notes", 0)
    return ctx.next.wait()


@order.event()
async def note(ctx: Context) -> Directive:
    ctx.store.put("notes", await ctx.store.get("notes", int) + 1)
    return ctx.next.wait()


@order.event()
async def ship(ctx: Context) -> Directive:
    return ctx.next.complete([await ctx.store.get("number", int), await ctx.store.get("notes", int)])


@pytest.fixture
def faults():
    return Faults(seed=20)


@pytest.fixture
async def place(faults):
    """A server, a client behind a network that loses things, and a client that sees all as it is."""
    async with (
        DevServer(workflows=[order]) as server,
        FaultProxy(server.url, faults) as proxy,
        await NatsConnection.open(server.url, request_timeout=PATIENCE) as straight,
        await NatsConnection.open(proxy.url, request_timeout=SOON) as lossy,
    ):
        retry = RetryPlugin(Retry(deadline=120, first_delay=0.01, longest_delay=0.2), budget=20 * RUNS)
        yield (
            grctl.Client(lossy, request_timeout=SOON, plugins=[retry, Counts()]),
            grctl.Client(straight, request_timeout=PATIENCE),
        )


class Counts(grctl.Plugin):
    """Counts the events that may have been sent, by workflow id."""

    name = "counts"

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()

    async def grctl_attempt(self, attempt, proceed):
        try:
            reply = await proceed(attempt)
        except grctl.NotSentError:
            raise
        except BaseException:
            self._count(attempt)
            raise
        self._count(attempt)
        return reply

    def _count(self, attempt) -> None:
        if attempt.kind == "run.event":
            self.events[attempt.call.workflow_id] += 1


@contextlib.contextmanager
def losses(faults: Faults):
    """Lose things inside the block; at its end, make sure that it happened: half of the share at the least."""
    rules = {faults.drop(requests(), share=0.1): 0.05, faults.drop(replies(), share=0.3): 0.15}
    yield
    for rule, least in rules.items():
        rule.stop()
        assert len(rule.struck) >= max(5, least * rule.seen), rule


async def each(count: int, one) -> list:
    """Do something for each number, not too many at once."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def do(number: int):
        async with slots:
            return await one(number)

    return await asyncio.gather(*map(do, range(count)))


async def ship_each(straight: grctl.Client, handles: list) -> None:
    """Have the very runs of these handles end."""

    async def ship(number: int) -> None:
        run = handles[number].run_info
        handle = await straight.get_handle(run.wf_id)
        assert handle.run_info.id == run.id
        await handle.send("ship")

    await each(len(handles), ship)


async def test_a_thousand_starts_make_a_thousand_runs_and_each_handle_is_right(place, faults):
    client, straight = place
    with losses(faults):
        handles = await each(RUNS, lambda number: client.start_workflow("Order", f"order-{number}", {"number": number}))

    runs = Counter([run.wf_id async for run in straight.list_workflows()])
    assert runs == Counter(f"order-{number}" for number in range(RUNS))
    assert len({handle.run_info.id for handle in handles}) == RUNS
    await ship_each(straight, handles)
    assert await each(RUNS, lambda number: handles[number].result()) == [[number, 0] for number in range(RUNS)]


async def test_a_send_is_never_repeated_by_itself(place, faults):
    client, straight = place
    handles = await each(200, lambda number: client.start_workflow("Order", f"order-{number}", {"number": number}))
    other = await client.start_workflow("Order", "other", {"number": 0})
    await other.send("note", idempotent=True)  # the registered events are known from here on

    async def send(number: int) -> bool:
        try:
            await handles[number].send("note")
        except grctl.DeliveryUnknownError:
            return False
        return True

    counts = client.plugins[1]
    counts.events.clear()
    with losses(faults):
        accepted = await each(200, send)
    assert counts.events == {f"order-{number}": 1 for number in range(200)}
    assert 0 < accepted.count(False) < 200
    await ship_each(straight, handles)
    for number, handle in enumerate(handles):
        _, notes = await handle.result()
        assert notes in ((1,) if accepted[number] else (0, 1))


async def test_a_send_that_may_arrive_twice_arrives(place, faults):
    client, straight = place
    handles = await each(100, lambda number: client.start_workflow("Order", f"order-{number}", {"number": number}))
    with losses(faults):
        await each(100, lambda number: handles[number].send("note", idempotent=True))
    await ship_each(straight, handles)
    results = await each(100, lambda number: handles[number].result())
    assert all(notes >= 1 for _, notes in results)


async def test_cancels_end_each_run_once_and_each_caller_knows(place, faults):
    client, straight = place
    handles = await each(300, lambda number: client.start_workflow("Order", f"order-{number}", {"number": number}))
    with losses(faults):
        await each(300, lambda number: handles[number].cancel("enough"))  # none is left in doubt
    for handle in handles:
        assert (await handle.outcome()).status == "cancelled"
        seen = await straight.get_handle(handle.run_info.wf_id, handle.run_info.id)
        ends = [event.kind async for event in seen.history() if event.kind == "run.cancelled"]
        assert len(ends) == 1
