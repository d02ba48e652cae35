"""examples/queue_consumer.py: each message has one run, whatever is delivered twice and whoever is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from types import SimpleNamespace

import nats
import pytest
from nats.js.errors import NotFoundError
from serving import ROOT, Service, wait_until

import grctl
from grctl.testing import DevServer

ORDERS = 200
SECONDS = 3  # until the broker delivers again


@pytest.fixture
def example():
    from examples import queue_consumer

    return queue_consumer


@pytest.fixture
def ended():
    return []


@pytest.fixture
async def server(example, ended):
    async with DevServer(example.workflows, on_end=ended.append) as server:
        yield server


@pytest.fixture
async def js(server, example):
    async with await nats.connect(server.url) as queue:
        js = queue.jetstream()
        await example.set_up(js, SECONDS)
        yield js


@pytest.fixture
async def client(server):
    async with await grctl.connect(server.url) as connection:
        yield grctl.Client(connection=connection)


@pytest.fixture
async def processes(server, tmp_path):
    """Two consumers, each in a process of its own."""
    command = [str(ROOT / "examples" / "queue_consumer.py"), "--ack-wait", str(SECONDS)]
    environment = {"GRCTL_NATS_SERVERS": server.url}
    async with AsyncExitStack() as stack:
        services = [Service(command, ready="consuming", log=tmp_path / name, environment=environment) for name in "ab"]
        yield [await stack.enter_async_context(service) for service in services]


async def waiting(js):
    return (await js.stream_info("ORDERS")).state.messages


async def until_empty(js):
    async with asyncio.timeout(60):
        while await waiting(js):
            await asyncio.sleep(0.05)


async def runs_of(client):
    return [run async for run in client.list_workflows(workflow_type="QueuedOrder")]


async def test_each_message_has_one_run_though_a_consumer_is_killed(server, processes, ended, js, client):
    from examples import queue_consumer as example

    killed, other = processes
    orders = [example.Order(f"{number}", 9.5) for number in range(ORDERS)]
    await asyncio.gather(*(example.publish(js, order) for order in orders for _ in range(2)))
    await wait_until(lambda: len(ended) >= ORDERS // 20, "some have ended")
    server.pause()  # what the consumers have sent is on its way
    try:
        assert len(ended) < ORDERS, "too late for the middle"
        await killed.stop(signal.SIGKILL)
    finally:
        server.resume()
    await killed.start()
    await until_empty(js)
    assert len(await runs_of(client)) == ORDERS  # none was lost

    assert all(
        await asyncio.gather(*(example.publish(js, order) for order in orders))
    )  # once more, after all has ended
    await until_empty(js)
    assert [await each.stop() for each in (killed, other)] == [0, 0]
    assert all(each.log.endswith("stopped\n") for each in (killed, other))

    runs = await runs_of(client)
    assert sorted(run.wf_id for run in runs) == sorted(f"order-{order.order_id}" for order in orders)
    outcomes = await asyncio.gather(*[(await client.get_handle(run.wf_id)).outcome(timeout=60) for run in runs])
    assert all(outcome.completed for outcome in outcomes)


async def test_a_lost_acknowledgement_starts_nothing_again(example, js, client):
    consumer = example.Consumer(client, js, ack_wait=SECONDS)
    await example.publish(js, example.Order("1", 9.5))
    queue = await js.pull_subscribe_bind("starter", "ORDERS")
    (message,) = await queue.fetch(1)
    first = await consumer.start_once(example.Order("1", 9.5))
    await first.outcome()
    await message.nak()  # as if the consumer had died before its ack
    (message,) = await queue.fetch(1)
    assert message.metadata.num_delivered == 2
    await consumer.handle(message)
    assert [run.id for run in await runs_of(client)] == [first.run_info.id]
    await until_empty(js)


async def test_what_can_never_be_started_is_put_aside(example, js, client):
    bodies = [b"no json", b'{"total": 1.5}', b'{"order_id": "a b", "total": 1.5}', b'{"order_id": "ok", "total": 1.5}']
    for number, body in enumerate(bodies):
        await js.publish(f"orders.new.{number}", body)
    stopping = asyncio.Event()
    running = asyncio.create_task(example.Consumer(client, js, ack_wait=SECONDS).run(stopping))
    await until_empty(js)
    stopping.set()
    await running
    dead = [await js.get_msg("ORDERS_DEAD", sequence) for sequence in (1, 2, 3)]
    assert {message.data for message in dead} == set(bodies[:3])
    reasons = {message.data: message.headers["Reason"] for message in dead}
    assert "order_id" in reasons[bodies[1]]
    assert reasons[bodies[2]].startswith("InvalidInputError: ")
    with pytest.raises(NotFoundError):
        await js.get_msg("ORDERS_DEAD", 4)
    assert [run.wf_id for run in await runs_of(client)] == ["order-ok"]


def test_a_consumer_without_a_server_gives_up_and_says_why():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "queue_consumer.py")],
        env=os.environ | {"GRCTL_NATS_SERVERS": "nats://127.0.0.1:4"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("ConnectionFailedError: nobody listens on nats://127.0.0.1:4")


PASSES_BY = [
    *(grctl.NotSentError("x"), grctl.NotDeliveredError("x"), grctl.ConnectionClosedError("x")),
    *(grctl.DeliveryUnknownError("x"), TimeoutError("x")),
]
REFUSED = [
    grctl.WorkflowTypeNotRegisteredError("x"),
    grctl.ServerError("x"),
    grctl.AccessDeniedError("x"),
    KeyError("x"),
]


class Delivery:
    """A message, and what was done with it."""

    subject, data = "orders.new.1", b'{"order_id": "1", "total": 1.5}'

    def __init__(self, deliveries=1):
        self.metadata = SimpleNamespace(num_delivered=deliveries, sequence=SimpleNamespace(stream=7))
        self.done = []

    async def publish(self, subject, data, headers):
        self.done.append(("publish", subject, headers["Reason"].split(":")[0]))

    async def ack(self):
        self.done.append("ack")

    async def nak(self, delay):
        self.done.append(("nak", delay))

    async def term(self):
        self.done.append("term")


async def test_it_is_acknowledged_when_it_has_been_started_and_not_before(example, monkeypatch):
    message = Delivery()

    async def start_once(order):
        message.done.append(order)

    consumer = example.Consumer(None, message)
    monkeypatch.setattr(consumer, "start_once", start_once)
    await consumer.handle(message)
    assert message.done == [example.Order("1", 1.5), "ack"]


@pytest.mark.parametrize("error", [*PASSES_BY, *REFUSED], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("deliveries", [1, 10, 1000])
async def test_what_failed_is_delivered_again_and_what_never_works_is_put_aside(
    example, error, deliveries, monkeypatch
):
    message = Delivery(deliveries)

    async def fail(order):
        raise error

    consumer = example.Consumer(None, message)
    monkeypatch.setattr(consumer, "start_once", fail)
    await consumer.handle(message)
    if deliveries == 1:
        assert message.done == [("nak", 1)]
    elif error in PASSES_BY:
        assert message.done == [("nak", 60)]
    else:
        assert message.done == [("publish", "orders.dead.7", type(error).__name__), "term"]
