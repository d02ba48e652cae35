from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest
from fake_server import event_body, new_run

from grctl_core.errors import ConnectionClosedError, DecodeError, UnsupportedOperationError, WorkflowNotFoundError
from grctl_core.history import HistoryEvent
from grctl_core.run import RunRef, RunStatus
from grctl_nats import history as history_module
from grctl_nats import records as records_module
from grctl_nats import subjects
from grctl_nats.records import Record

pytestmark = pytest.mark.usefixtures("nothing_left")


async def read(connection, run, *, follow: bool = False) -> list[HistoryEvent]:
    async with asyncio.timeout(30):
        return [event async for event in connection.history(run, follow=follow)]


class Reader:
    """Follows a history in a task of its own."""

    def __init__(self, connection, run) -> None:
        self.events: list[HistoryEvent] = []
        self._came = asyncio.Event()
        self.task = asyncio.create_task(self._read(connection, run))

    async def _read(self, connection, run) -> None:
        async with contextlib.aclosing(connection.history(run, follow=True)) as events:
            async for event in events:
                self.events.append(event)
                self._came.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.events) < count:
                self._came.clear()
                await self._came.wait()

    async def end(self) -> list[HistoryEvent]:
        async with asyncio.timeout(30):
            await self.task
        return self.events


@pytest.fixture
async def run(server):
    made = new_run()
    await server.put_run(made)
    await server.put_event(made.ref, "run.started", input=1)
    return made


@pytest.mark.parametrize("count", [1, 255, 256, 257, 2_000])
async def test_all_of_it(server, connection, count):
    run = new_run()
    await server.put_run(run)
    await server.put_many([(subjects.history(run.ref), event_body(run.ref, "e", n=n)) for n in range(count)])
    events = await read(connection, run.ref)
    assert [event.data["n"] for event in events] == list(range(count))
    assert [event.seq for event in events] == sorted({event.seq for event in events})


async def test_of_a_run_without_events(server, connection):
    run = new_run()
    await server.put_run(run)
    assert await read(connection, run.ref) == []


@pytest.mark.parametrize("follow", [False, True])
async def test_of_an_unknown_run(server, connection, follow):
    with pytest.raises(WorkflowNotFoundError, match="is not known"):
        await read(connection, RunRef("w", "none"), follow=follow)


@pytest.mark.parametrize("page", [1, 700_000, records_module._PAGE_BYTES])
async def test_of_large_events(server, connection, run, monkeypatch, page):
    """Pages end where they are large; what is larger than a page comes all the same."""
    monkeypatch.setattr(records_module, "_PAGE_BYTES", page)
    for number in range(10):
        await server.put_event(run.ref, "e", payload="x" * 500_000, n=number)
    pages = []
    one_page = connection._records.page

    async def count(*args: object) -> list[Record]:
        pages.append(await one_page(*args))
        return pages[-1]

    monkeypatch.setattr(connection._records, "page", count)
    assert [event.data.get("n") for event in await read(connection, run.ref)] == [None, *range(10)]
    largest = max(sum(len(record.body) for record in records) for records in pages)
    assert largest < page + 600_000


async def test_of_this_run_alone(server, connection, run):
    other = new_run()
    await server.put_event(other.ref, "other")
    assert [event.kind for event in await read(connection, run.ref)] == ["run.started"]


@pytest.mark.parametrize("follow", [False, True])
async def test_a_record_that_is_none(server, connection, run, follow):
    """What lies before it comes, and the error says where it is."""
    await server.put_event(run.ref, "second")
    seq = await server.put(subjects.history(run.ref), b"\xc1")
    await server.put_event(run.ref, "fourth")
    kinds = []
    with pytest.raises(DecodeError, match=f"event {seq} in the history of run {run.id} of workflow 'w': "):
        async with asyncio.timeout(30), contextlib.aclosing(connection.history(run.ref, follow=follow)) as events:
            async for event in events:
                kinds.append(event.kind)  # noqa: PERF401 - those before the error count
    assert kinds == ["run.started", "second"]


class TestFollow:
    async def test_a_run_that_has_ended(self, server, connection, run):
        await server.end(run, result=1)
        await server.put_event(run.ref, "task.cancelled")
        events = await read(connection, run.ref, follow=True)
        assert [event.kind for event in events] == ["run.started", "run.completed", "task.cancelled"]

    async def test_live(self, server, connection, run):
        reader = Reader(connection, run.ref)
        await reader.until(1)
        for number in range(20):
            await server.put_event(run.ref, "e", n=number)
            await reader.until(number + 2)
        await server.end(run, RunStatus.TERMINATED)
        events = await reader.end()
        assert [event.kind for event in events] == ["run.started", *["e"] * 20, "run.terminated"]

    async def test_quickly(self, server, connection, run):
        reader = Reader(connection, run.ref)
        for start in range(0, 3_000, 300):
            body = [(subjects.history(run.ref), event_body(run.ref, "e", n=n)) for n in range(start, start + 300)]
            await server.put_many(body)
        await server.end(run)
        events = await reader.end()
        assert [event.data["n"] for event in events[1:-1]] == list(range(3_000))

    async def test_late_events_that_are_stored_by_the_end(self, server, connection, run):
        reader = Reader(connection, run.ref)
        await reader.until(1)
        await server.end(run, RunStatus.TERMINATED)
        events = await reader.end()
        assert events[-1].kind == "run.terminated"

    async def test_over_restarts_of_the_broker(self, broker, server, connection, run):
        reader = Reader(connection, run.ref)
        number = 0
        for _ in range(3):
            for _ in range(5):
                await server.put_event(run.ref, "e", n=number)
                number += 1
            await broker.restart()
            await server.connect()
            await server.put_event(run.ref, "e", n=number)
            number += 1
        await server.end(run)
        events = await reader.end()
        assert [event.data["n"] for event in events[1:-1]] == list(range(number))

    @pytest.mark.parametrize("read", ["page", "last"])
    async def test_a_stream_that_nobody_answers_for_for_a_moment(self, server, connection, run, monkeypatch, read):
        """As while a broker starts, or a cluster elects."""
        monkeypatch.setattr(history_module, "_LOOK_EVERY", 0.05)
        original = getattr(connection._records, read)
        refusals = [UnsupportedOperationError("nobody answers")] * 5

        async def refuse(*args: object) -> object:
            if refusals:
                raise refusals.pop()
            return await original(*args)

        reader = Reader(connection, run.ref)
        await reader.until(1)
        monkeypatch.setattr(connection._records, read, refuse)
        await server.put_event(run.ref, "e")
        await reader.until(2)
        await server.end(run)
        assert [event.kind for event in await reader.end()] == ["run.started", "e", "run.completed"]
        assert refusals == []

    async def test_a_stream_that_is_deleted(self, server, connection, run, monkeypatch):
        monkeypatch.setattr(history_module, "_LOOK_EVERY", 0.05)
        reader = Reader(connection, run.ref)
        await reader.until(1)
        await server.api(f"STREAM.DELETE.{subjects.STREAM}")
        with pytest.raises(UnsupportedOperationError, match="is gone"):
            await reader.end()

    async def test_a_hint_that_is_lost(self, server, connection, run, monkeypatch):
        monkeypatch.setattr(history_module, "_LOOK_EVERY", 0.05)

        async def deaf(self, message) -> None: ...

        monkeypatch.setattr(history_module._Hints, "_hear", deaf)
        reader = Reader(connection, run.ref)
        await reader.until(1)
        await server.end(run)
        await reader.end()

    async def test_leaving(self, server, connection, run):
        events = connection.history(run.ref, follow=True)
        await anext(events)
        pumps = len(connection._uplink.link._subscriptions)
        await events.aclose()
        assert len(connection._uplink.link._subscriptions) == pumps - 1

    async def test_being_cancelled(self, server, connection, run):
        reader = Reader(connection, run.ref)
        await reader.until(1)
        reader.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader.task

    async def test_records_that_are_purged(self, server, connection, run, monkeypatch):
        monkeypatch.setattr(history_module, "_LOOK_EVERY", 0.05)
        reader = Reader(connection, run.ref)
        await reader.until(1)
        await server.purge()
        with pytest.raises(WorkflowNotFoundError):
            await reader.end()

    async def test_closing(self, server, connection, run, monkeypatch):
        monkeypatch.setattr(history_module, "_LOOK_EVERY", 1_000.0)
        reader = Reader(connection, run.ref)
        await reader.until(1)
        await connection.close()
        with pytest.raises(ConnectionClosedError):
            await reader.end()

    async def test_an_unknown_terminal_status(self, server, connection, run):
        reader = Reader(connection, run.ref)
        await reader.until(1)
        await server.end(run, RunStatus("exploded"))
        assert (await reader.end())[-1].kind == "run.exploded"

    async def test_a_record_that_a_late_start_replaced(self, server, connection, run):
        """docs/protocol.md, section 8, 1."""
        await server.end(run, result=5)
        await server.put_run(msgspec.structs.replace(run, status=None, started_at=None))
        assert [event.kind for event in await read(connection, run.ref, follow=True)] == [
            "run.started",
            "run.completed",
        ]
