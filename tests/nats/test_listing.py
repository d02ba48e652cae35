from __future__ import annotations

import asyncio
import contextlib
import itertools
from datetime import timedelta

import msgspec
import pytest
from fake_server import NOW, new_run
from fault_proxy import Direction, FaultProxy, Faults, frames

from grctl_core.errors import DecodeError, DeliveryUnknownError, ServerError
from grctl_core.run import RunFilter, RunInfo, RunStatus
from grctl_nats import NatsConnection, listing, subjects, wire
from grctl_nats import link as link_module

pytestmark = pytest.mark.usefixtures("nothing_left")

ALL = RunFilter()


def stored(run: RunInfo) -> tuple[str, bytes]:
    return subjects.run_info(run.ref), wire.encode_run_info(run)


async def listed(connection, run_filter: RunFilter = ALL) -> list[RunInfo]:
    async with asyncio.timeout(30):
        return [run async for run in connection.list_runs(run_filter)]


async def consumers(server) -> int:
    return (await server.api(f"STREAM.INFO.{subjects.STREAM}"))["state"]["consumer_count"]


async def no_consumers(server) -> None:
    async with asyncio.timeout(20):
        while await consumers(server):
            await asyncio.sleep(0.005)


async def test_none(server, connection):
    assert await listed(connection) == []
    await no_consumers(server)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 512])
async def test_any_number(server, connection, count):
    runs = [new_run(f"w{n}") for n in range(count)]
    await server.put_many([stored(run) for run in runs])
    assert await listed(connection) == runs
    await no_consumers(server)


@contextlib.asynccontextmanager
async def through(broker, faults):
    async with FaultProxy(broker.url, faults) as proxy, await NatsConnection.open(proxy.url) as connection:
        yield connection


RECORDS = frames(Direction.TO_CLIENT, subject=subjects.ALL_RUN_INFO)


async def test_a_record_that_comes_twice_is_listed_once(broker, server):
    runs = [new_run(f"w{n}") for n in range(5)]
    await server.put_many([stored(run) for run in runs])
    faults = Faults()
    faults.duplicate(RECORDS, nth=2)
    async with through(broker, faults) as connection:
        assert await listed(connection) == runs
    await no_consumers(server)


async def test_a_record_that_is_lost_leaves_no_gap_in_silence(broker, server):
    runs = [new_run(f"w{n}") for n in range(5)]
    await server.put_many([stored(run) for run in runs])
    faults = Faults()
    faults.drop(RECORDS, nth=2)
    async with through(broker, faults) as connection:
        with pytest.raises(DeliveryUnknownError, match="lost on its way"):
            await listed(connection)
        assert await listed(connection) == runs
    await no_consumers(server)


async def test_five_thousand_each_as_it_is_now(server, connection):
    runs = [new_run(f"w{n}") for n in range(5_000)]
    await server.put_many([stored(run) for run in runs])
    ended = [msgspec.structs.replace(run, status=RunStatus.COMPLETED) for run in runs[::2]]
    await server.put_many([stored(run) for run in ended])
    found = await listed(connection)
    assert {run.id: run for run in found} == {run.id: run for run in [*runs, *ended]}
    assert len(found) == 5_000


async def test_while_all_are_written_on(server, connection):
    """Each run that was there when the list began is in it, once."""
    runs = [new_run(f"w{n}") for n in range(1_500)]
    await server.put_many([stored(run) for run in runs])
    over = asyncio.Event()

    async def write() -> None:
        while not over.is_set():
            for start in range(0, 1_500, 100):
                await server.put_many([stored(run) for run in runs[start : start + 100]])
            await server.put_many([stored(new_run("new"))])

    writing = asyncio.create_task(write())
    try:
        for _ in range(4):
            found = [run.id for run in await listed(connection) if run.wf_id != "new"]
            assert len(found) == len(set(found))
            assert set(found) == {run.id for run in runs}
    finally:
        over.set()
        await writing


async def test_a_run_that_is_written_while_the_list_begins(server, connection, monkeypatch):
    """Between any two steps of the beginning. Another run has the same id: clients make them."""
    run = new_run()
    other = new_run("other", id=run.id)
    await server.put_run(other)
    await server.put_run(run)
    request = link_module.Link.request

    async def slow(self, subject, *args):
        if "$JS.API" in subject:
            await server.put_run(run)
        answer = await request(self, subject, *args)
        if "$JS.API" in subject:
            await server.put_run(run)
        return answer

    monkeypatch.setattr(link_module.Link, "request", slow)
    assert await listed(connection) == [other, run]


async def test_filters(server, connection):
    runs = [
        new_run("a-1", "A"),
        new_run("a-2", "B", status="completed"),
        new_run("b-1", "A", status="completed", created_at=NOW + timedelta(hours=1)),
        new_run("b-2", "A", status=None, created_at=NOW + timedelta(hours=2)),
    ]
    await server.put_many([stored(run) for run in runs])

    async def ids(**wanted: object) -> list[str]:
        return [run.wf_id for run in await listed(connection, RunFilter(**wanted))]

    assert await ids() == ["a-1", "a-2", "b-1", "b-2"]
    assert await ids(workflow_type="A") == ["a-1", "b-1", "b-2"]
    assert await ids(workflow_type="None") == []
    assert await ids(status=RunStatus.COMPLETED) == ["a-2", "b-1"]
    assert await ids(workflow_id_prefix="a-") == ["a-1", "a-2"]
    assert await ids(created_after=NOW + timedelta(hours=1)) == ["b-1", "b-2"]
    assert await ids(created_before=NOW + timedelta(hours=1)) == ["a-1", "a-2"]
    assert await ids(workflow_type="A", status=RunStatus.COMPLETED, workflow_id_prefix="b") == ["b-1"]


async def test_a_link_that_is_lost_meanwhile(broker, server, connection):
    await server.put_many([stored(new_run(f"w{n}")) for n in range(1_000)])
    runs = connection.list_runs(ALL)
    async with contextlib.aclosing(runs):
        await anext(runs)
        broker.kill()
        with pytest.raises(DeliveryUnknownError, match=r"was lost while listing|was lost before"):
            async with asyncio.timeout(20):
                async for _ in runs:
                    pass


async def test_a_list_that_is_left(server, connection):
    await server.put_many([stored(new_run(f"w{n}")) for n in range(1_000)])
    runs = connection.list_runs(ALL)
    await anext(runs)
    await runs.aclose()
    await no_consumers(server)


@pytest.mark.parametrize("at", [("STREAM.INFO", 1, 0), ("CONSUMER.CREATE", 1, 1), ("STREAM.INFO", 2, 1)])
async def test_a_list_that_is_cancelled_while_it_begins(server, connection, monkeypatch, at):
    subject, nth, made = at
    await server.put_run(new_run())
    asked = itertools.count(1)
    reached = asyncio.Event()
    request = link_module.Link.request

    async def stuck(self, where, *args):
        answer = await request(self, where, *args)
        if f"$JS.API.{subject}" in where and next(asked) == nth:
            reached.set()
            await asyncio.Event().wait()
        return answer

    monkeypatch.setattr(link_module.Link, "request", stuck)
    listing_ = asyncio.create_task(listed(connection))
    await asyncio.wait_for(reached.wait(), 20)
    assert await consumers(server) == made
    listing_.cancel()
    await asyncio.wait([listing_])
    await no_consumers(server)


async def test_a_consumer_that_vanishes_is_no_end_of_the_list(server, connection):
    await server.put_many([stored(new_run(f"w{n}")) for n in range(1_000)])
    runs = connection.list_runs(ALL)
    async with contextlib.aclosing(runs):
        await anext(runs)
        names = (await server.api(f"CONSUMER.NAMES.{subjects.STREAM}", {}))["consumers"]
        await server.api(f"CONSUMER.DELETE.{subjects.STREAM}.{names[0]}")
        with pytest.raises(ServerError, match=r"does not go on with the list.*Take all runs first"):
            async with asyncio.timeout(20):
                async for _ in runs:
                    pass


async def test_a_caller_may_take_minutes_for_a_page(server, connection):
    await server.put_many([stored(new_run(f"w{n}")) for n in range(1_000)])
    async with contextlib.aclosing(connection.list_runs(ALL)) as runs:
        await anext(runs)
        (consumer,) = (await server.api(f"CONSUMER.NAMES.{subjects.STREAM}", {}))["consumers"]
        config = (await server.api(f"CONSUMER.INFO.{subjects.STREAM}.{consumer}"))["config"]
    assert timedelta(microseconds=config["inactive_threshold"] / 1_000) >= timedelta(minutes=10)


async def test_records_that_are_purged_meanwhile(server, connection):
    await server.put_many([stored(new_run(f"w{n}")) for n in range(1_000)])
    runs = connection.list_runs(ALL)
    async with contextlib.aclosing(runs):
        await anext(runs)
        await server.purge()
        async with asyncio.timeout(20):
            count = sum([1 async for _ in runs])
    assert count < 1_000


@pytest.mark.parametrize("left", [100, 256, 300, 384, 500])
async def test_a_part_of_the_records_is_purged_meanwhile(server, connection, left):
    """Fewer are left then than were asked for already: what is left comes, and the list ends."""
    runs = [new_run(f"w{n}", wf_type="A" if n < left else "B") for n in range(1_000)]
    await server.put_many([stored(run) for run in runs])
    async with asyncio.timeout(20), contextlib.aclosing(connection.list_runs(ALL)) as listing_runs:
        found = [await anext(listing_runs)]
        await server.api(f"STREAM.PURGE.{subjects.STREAM}", {"filter": "grctl_run.B.*.*.info"})
        found += [run async for run in listing_runs]
    assert found[:left] == runs[:left]
    assert len(found) <= max(left, 2 * listing._HALF)
    await no_consumers(server)


async def test_records_that_are_none_hide_no_others(server, connection):
    for number in range(7):
        await server.put(f"grctl_run.A.w{number}.r{number}.info", b"\xc1")
    runs = [new_run(f"good-{number}") for number in range(3)]
    await server.put_many([stored(run) for run in runs])
    found: list[str] = []
    with pytest.raises(DecodeError, match=r"^7 of the stored records cannot be read.*grctl_run\.A\.w0\..* and 2 more"):
        async for run in connection.list_runs(ALL):
            found += [run.id]
    assert sorted(found) == sorted(run.id for run in runs)
    await no_consumers(server)


async def test_it_holds_a_page_at_a_time(server, connection, monkeypatch):
    most = []
    queue = asyncio.Queue

    class Counted(queue):
        def put_nowait(self, item):
            super().put_nowait(item)
            most.append(self.qsize())

    await server.put_many([stored(new_run(f"w{n}")) for n in range(2_000)])
    monkeypatch.setattr(listing.asyncio, "Queue", Counted)
    assert len(await listed(connection)) == 2_000
    assert max(most) <= 2 * listing._HALF + 1
