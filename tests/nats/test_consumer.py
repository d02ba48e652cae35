"""grctl_nats.consumer: the rest of a long history. Whatever is in the way ends it, and direct gets go on behind it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from broker import Broker
from fake_server import FakeServer, event_body, new_run

from grctl_core.history import HistoryEvent
from grctl_nats import NatsConnection, subjects
from grctl_nats import consumer as consumer_module
from grctl_nats import history as history_module
from grctl_nats.consumer import read_on

pytestmark = pytest.mark.usefixtures("nothing_left")

COUNT = 1_500


@pytest.fixture
async def run(server, monkeypatch):
    monkeypatch.setattr(history_module, "_PAGES_BEFORE_CONSUMER", 1)
    made = new_run()
    await server.put_run(made)
    await server.put_many([(subjects.history(made.ref), event_body(made.ref, "e", n=n)) for n in range(COUNT)])
    return made


async def consumers(server) -> int:
    return len((await server.api(f"CONSUMER.NAMES.{subjects.STREAM}", {}))["consumers"] or [])


async def read(connection, run) -> list[HistoryEvent]:
    async with asyncio.timeout(60):
        return [event async for event in connection.history(run.ref, follow=False)]


def check(events: list[HistoryEvent], count: int = COUNT) -> None:
    assert [event.data["n"] for event in events] == list(range(count))
    assert [event.seq for event in events] == sorted({event.seq for event in events})


async def test_all_but_the_first_page_comes_by_a_consumer(server, connection, run, monkeypatch):
    pages = []
    one_page = connection._records.page

    async def count(*args: object) -> list[object]:
        pages.append(await one_page(*args))
        return pages[-1]

    monkeypatch.setattr(connection._records, "page", count)
    check(await read(connection, run))
    assert [len(page) for page in pages] == [256, 0]
    async with asyncio.timeout(20):
        while await consumers(server):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("most", [2_000, 40_000])
async def test_pages_that_end_where_they_are_large(connection, run, monkeypatch, most):
    """Bytes: less than a page's records are, and some of them are more than one request brings."""
    monkeypatch.setattr(consumer_module, "_PAGE_BYTES", most)
    check(await read(connection, run))


async def test_a_record_that_is_larger_than_a_page(server, connection, run, monkeypatch):
    monkeypatch.setattr(consumer_module, "_PAGE_BYTES", 50_000)
    await server.put_event(run.ref, "e", n=COUNT, payload="x" * 100_000)
    await server.put_event(run.ref, "e", n=COUNT + 1)
    check(await read(connection, run), COUNT + 2)


async def test_a_consumer_that_is_refused(connection, run, monkeypatch):
    async def refuse(*_: object) -> int:
        raise consumer_module.ServerError("no")

    monkeypatch.setattr(consumer_module, "create", refuse)
    check(await read(connection, run))


async def test_who_may_make_none_reads_all_the_same_without_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(history_module, "_PAGES_BEFORE_CONSUMER", 1)
    users = [
        {"user": "all", "password": "x"},
        {"user": "some", "password": "x", "permissions": {"publish": {"deny": ["$JS.API.CONSUMER.>"]}}},
    ]
    async with (
        Broker({"authorization": {"users": users}}) as broker,
        FakeServer(broker.url, user="all", password="x") as server,
        await NatsConnection.open(broker.url, user="some", password="x") as connection,
    ):
        made = new_run()
        await server.put_many([(subjects.history(made.ref), event_body(made.ref, "e", n=n)) for n in range(COUNT)])
        check(await read(connection, made))
        await connection.has_begun(made.ref)  # behind whatever the broker refuses
        assert any("$js.api.consumer.create." in refusal for refusal in connection._uplink.link.refusals)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


async def test_a_consumer_that_vanishes(server, connection, run):
    events = []
    async with asyncio.timeout(60), contextlib.aclosing(connection.history(run.ref, follow=False)) as history:
        async for event in history:
            events.append(event)
            if len(events) == 300:
                names = (await server.api(f"CONSUMER.NAMES.{subjects.STREAM}", {}))["consumers"]
                await server.api(f"CONSUMER.DELETE.{subjects.STREAM}.{names[0]}")
    check(events)


async def test_a_message_that_the_driver_drops(connection, run, monkeypatch):
    hear = consumer_module._Arrivals.hear
    heard = 0

    async def deaf_once(self: object, message: object) -> None:
        nonlocal heard
        heard += 1
        if heard != 400:
            await hear(self, message)

    monkeypatch.setattr(consumer_module._Arrivals, "hear", deaf_once)
    check(await read(connection, run))
    assert heard >= 400


async def test_a_link_that_is_lost_meanwhile(broker, connection, run):
    events = []
    async with asyncio.timeout(60), contextlib.aclosing(connection.history(run.ref, follow=False)) as history:
        async for event in history:
            events.append(event)
            if len(events) == 300:
                connection._uplink.link.lose("for a test")
    check(events)


async def test_who_leaves_leaves_no_consumer(server, connection, run):
    async with contextlib.aclosing(read_on(connection._uplink.link, subjects.history(run.ref), 1, 5.0)) as pages:
        await anext(pages)
        assert await consumers(server) == 1
    async with asyncio.timeout(20):
        while await consumers(server):
            await asyncio.sleep(0.01)
