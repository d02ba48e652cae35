from __future__ import annotations

import asyncio
import gc
import json
from datetime import timedelta

import msgspec
import pytest
from broker import Broker
from fake_server import NOW, FakeServer, event_body, new_run
from fault_proxy import Direction, FaultProxy, Faults, frames, replies
from nats.aio.client import Client

from grctl_core.codec import encode
from grctl_core.errors import (
    AccessDeniedError,
    ConnectionClosedError,
    DecodeError,
    InvalidInputError,
    ServerError,
    UnsupportedOperationError,
    WorkflowNotFoundError,
)
from grctl_core.outcome import EncodedOutcome, ErrorDetails
from grctl_core.protocols import ConnectionEvent
from grctl_core.run import RunInfo, RunRef, RunStatus
from grctl_nats import NatsConnection, subjects, wire
from grctl_nats import history as history_module
from grctl_nats import watcher as watcher_module
from grctl_nats.records import Record, Records

pytestmark = pytest.mark.usefixtures("nothing_left")


async def within(waiting: asyncio.Future[EncodedOutcome]) -> EncodedOutcome:
    async with asyncio.timeout(30):
        return await waiting


async def settled(connection: NatsConnection) -> None:
    """Wait until the watcher has looked at everything that is due, and is listening."""
    async with asyncio.timeout(20):
        while connection._watcher._due or connection._watcher._listening is None:
            await asyncio.sleep(0.001)
    for _ in range(3):  # behind its own looks
        await connection.find_type("x")


async def going_on(server: FakeServer, wf_id: str = "w", **fields: object) -> RunInfo:
    run = new_run(wf_id, **fields)
    await server.put_run(run)
    return run


ENDS = [
    (RunStatus.COMPLETED, {"result": {"a": 1}}),
    (RunStatus.COMPLETED, {}),
    (RunStatus.FAILED, {"error": {"type": "T", "message": "m", "stack_trace": "s"}}),
    (RunStatus.CANCELLED, {"reason": "why"}),
    (RunStatus.TERMINATED, {"reason": "why"}),
    (RunStatus.TIMED_OUT, {"duration_ms": 5}),
]


def check(outcome: EncodedOutcome, run: RunInfo, status: RunStatus, data: dict[str, object]) -> None:
    assert outcome.run.status is status
    assert outcome.run.ref == run.ref
    assert outcome.run.completed_at is not None
    assert outcome.result == (encode("r", data.get("result")) if status is RunStatus.COMPLETED else None)
    assert outcome.error == (ErrorDetails("T", "m", "s") if "error" in data else None)
    assert outcome.reason == data.get("reason", "")


class TestEnds:
    @pytest.mark.parametrize(("status", "data"), ENDS)
    async def test_before_we_looked(self, server, connection, status, data):
        run = await going_on(server)
        await server.end(run, status, **data)
        check(await within(connection.watch(run.ref)), run, status, data)

    @pytest.mark.parametrize(("status", "data"), ENDS)
    async def test_while_we_wait(self, server, connection, status, data):
        run = await going_on(server)
        waiting = connection.watch(run.ref)
        await settled(connection)
        assert not waiting.done()
        await server.end(run, status, **data)
        check(await within(waiting), run, status, data)

    async def test_by_a_reference_without_the_type(self, server, connection):
        run = await going_on(server)
        waiting = connection.watch(RunRef(run.wf_id, run.id))
        await settled(connection)
        await server.end(run, result=1)
        assert (await within(waiting)).run.wf_type == "W"

    async def test_many_waits_for_one_run(self, server, connection):
        run = await going_on(server)
        waits = [connection.watch(run.ref) for _ in range(100)]
        assert len(set(map(id, waits))) == 100
        await server.end(run, result=1)
        assert {(await within(waiting)).result for waiting in waits} == {b"\x01"}
        await asyncio.sleep(0)
        assert len(connection._watcher) == 0

    async def test_late_events_after_the_end(self, server, connection):
        run = await going_on(server)
        await server.end(run, RunStatus.TERMINATED, reason="why")
        for _ in range(3):
            await server.put_event(run.ref, "task.cancelled", task_id="t")
        assert (await within(connection.watch(run.ref))).reason == "why"

    async def test_the_terminate_of_a_deadline_is_a_timeout(self, server, connection):
        run = await going_on(server)
        await server.end(run, RunStatus.TERMINATED, reason="workflow_timeout exceeded: it took longer than 0:00:01")
        assert (await within(connection.watch(run.ref))).run.status is RunStatus.TIMED_OUT

    async def test_an_old_run_while_a_new_one_goes_on(self, server, connection):
        old = await going_on(server)
        await server.end(old, result="old")
        new = await going_on(server)
        outcome = await within(connection.watch(old.ref))
        assert (outcome.run.id, outcome.result) == (old.id, encode("r", "old"))
        waiting = connection.watch(new.ref)
        await settled(connection)
        assert not waiting.done()
        await server.end(new, result="new")
        assert (await within(waiting)).result == encode("r", "new")

    async def test_an_unknown_status(self, server, connection):
        """Of a newer server: it ended, however that is called."""
        run = await going_on(server)
        waiting = connection.watch(run.ref)
        await settled(connection)
        await server.end(run, RunStatus("exploded"), what="ever")
        outcome = await within(waiting)
        assert outcome.run.status.value == "exploded"
        assert (outcome.result, outcome.error) == (None, None)

    async def test_an_unknown_status_that_goes_on(self, server, connection):
        run = await going_on(server, status="paused")
        waiting = connection.watch(run.ref)
        await settled(connection)
        assert not waiting.done()
        await server.end(run)
        await within(waiting)

    @pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED])
    async def test_the_event_is_gone_but_not_the_records(self, server, connection, status):
        run = await going_on(server)
        await server.put(subjects.output(run.ref), encode("r", 7))
        await server.put(subjects.error(run.ref), wire.encode_error(ErrorDetails("T", "m", "s")))
        await server.end(run, status)
        await server.api(f"STREAM.PURGE.{subjects.STREAM}", {"filter": subjects.history(run.ref)})
        outcome = await within(connection.watch(run.ref))
        if status is RunStatus.COMPLETED:
            assert (outcome.result, outcome.error) == (b"\x07", None)
        else:
            assert (outcome.result, outcome.error) == (None, ErrorDetails("T", "m", "s"))

    async def test_a_record_that_a_late_start_replaced(self, server, connection):
        """docs/protocol.md, section 8, 1."""
        run = await going_on(server)
        await server.end(run, result=5)
        await server.put_run(msgspec.structs.replace(run, status=None, started_at=None))
        assert (await within(connection.watch(run.ref))).result == b"\x05"

    async def test_a_run_that_has_not_begun(self, server, connection):
        run = await going_on(server, status=None, started_at=None)
        waiting = connection.watch(run.ref)
        await settled(connection)
        assert not waiting.done()
        await server.end(run, result=1)
        await within(waiting)

    async def test_a_long_history_is_not_read_from_its_beginning(self, server, connection, monkeypatch):
        """The record of the end was replaced: the state record says where the end is."""
        run = new_run()
        subject = subjects.history(run.ref)
        await server.put_many([(subject, event_body(run.ref, "task.completed", result=n)) for n in range(500)])
        await server.end(run, result=5)
        await server.put_run(msgspec.structs.replace(run, status=None, started_at=None))
        reads = []
        ask = connection._records._ask

        async def counting(*args):
            reads.append(args)
            return await ask(*args)

        monkeypatch.setattr(connection._records, "_ask", counting)
        outcome = await within(connection.watch(run.ref))
        assert msgspec.msgpack.decode(outcome.result) == 5
        assert len(reads) < 20

    async def test_an_end_that_lies_elsewhere_in_a_long_history(self, server, connection):
        run = new_run()
        subject = subjects.history(run.ref)
        await server.end(run, result=5)
        await server.put_many([(subject, event_body(run.ref, "task.completed", result=n)) for n in range(500)])
        await server.put_state(run.ref, "complete")
        await server.put_run(msgspec.structs.replace(run, status=None, started_at=None))
        assert msgspec.msgpack.decode((await within(connection.watch(run.ref))).result) == 5

    async def test_one_end_that_takes_long_keeps_no_other_waiting(self, server, connection, monkeypatch):
        odd, other = await going_on(server, "odd"), await going_on(server, "other")
        reading = asyncio.Event()
        read_outcome = watcher_module.read_outcome

        async def slow(records, info, seq):
            if info.wf_id == "odd":
                reading.set()
                await asyncio.get_running_loop().create_future()
            return await read_outcome(records, info, seq)

        monkeypatch.setattr(watcher_module, "read_outcome", slow)
        stuck, waiting = connection.watch(odd.ref), connection.watch(other.ref)
        await settled(connection)
        await server.end(odd)
        async with asyncio.timeout(20):
            await reading.wait()
        await server.end(other, result=1)
        assert (await within(waiting)).run.status is RunStatus.COMPLETED
        for _ in range(3):
            connection._watcher._sweep()
            await settled(connection)
        assert len(connection._watcher._settlers) == 1  # once, however often it is looked at
        await connection.close()
        with pytest.raises(ConnectionClosedError):
            await stuck


class TestHints:
    async def test_one_that_comes_before_the_storage(self, server, connection):
        run = await going_on(server)
        waiting = connection.watch(run.ref)
        await settled(connection)
        ended = msgspec.structs.replace(run, status=RunStatus.COMPLETED)
        # Seen by everybody, stored by nobody: like a message of a batch that is not committed yet.
        await server.batch(
            [(subjects.run_info(run.ref), wire.encode_run_info(ended)), ("grctl_run.x", b"")], commit=False
        )
        await asyncio.sleep(0.02)
        assert not waiting.done()
        await server.end(run, result=1)
        await within(waiting)

    async def test_a_batch_that_is_never_committed(self, server, connection):
        run = await going_on(server)
        waiting = connection.watch(run.ref)
        await settled(connection)
        ended = msgspec.structs.replace(run, status=RunStatus.COMPLETED, completed_at=NOW)
        batch = [
            (subjects.run_info(run.ref), wire.encode_run_info(ended)),
            (subjects.history(run.ref), event_body(run.ref, "run.completed", result=666)),
        ]
        await server.batch(batch, commit=False)
        await settled(connection)
        async with asyncio.timeout(20):
            while next(connection._watcher._waits[run.wf_id, run.id].pauses, None) is not None:  # it looks on
                await settled(connection)
        assert not waiting.done()
        await server.end(run, result=1)
        assert (await within(waiting)).result == b"\x01"

    async def test_a_forged_event_settles_nothing(self, server, connection):
        run = await going_on(server)
        waiting = connection.watch(run.ref)
        await settled(connection)
        await server.put_event(run.ref, "run.completed", result=666)
        await settled(connection)
        assert not waiting.done()
        await server.end(run, result=1)
        # What is stored first is the forgery: it lies before the record of the end.
        assert (await within(waiting)).result == b"\x01"

    async def test_one_that_is_lost(self, broker, server, monkeypatch):
        monkeypatch.setattr(watcher_module, "_SWEEP_EVERY", 0.05)

        async def deaf(self, message) -> None: ...

        monkeypatch.setattr(watcher_module.Watcher, "_hear", deaf)
        async with await NatsConnection.open(broker.url) as connection:
            run = await going_on(server)
            waiting = connection.watch(run.ref)
            await settled(connection)
            await server.end(run)
            await within(waiting)

    async def test_many_that_are_dropped_as_they_come_too_fast(self, broker, server, monkeypatch):
        """A slow consumer, by the driver's word: what it dropped is looked for, and not each time for each."""
        monkeypatch.setattr(watcher_module, "_SWEEP_EVERY", 1_000.0)
        monkeypatch.setattr(watcher_module, "_SWEEP_AFTER_DROP", 0.1)
        monkeypatch.setattr(watcher_module, "_AFTER_FIRST_LOOK", ())
        subscribe = Client.subscribe
        drops = []
        sweeps = []

        async def narrow(self, subject, **options):
            if subject == subjects.ALL_RUN_INFO:
                options["pending_msgs_limit"] = 1
            return await subscribe(self, subject, **options)

        monkeypatch.setattr(Client, "subscribe", narrow)
        async with await NatsConnection.open(broker.url) as connection:
            runs = [await going_on(server, f"w{n}") for n in range(300)]
            waits = [connection.watch(run.ref) for run in runs]
            await settled(connection)
            link, watcher = connection._uplink.link, connection._watcher
            lost, sweep = link.on_dropped, watcher._sweep
            monkeypatch.setattr(link, "on_dropped", lambda: drops.append(1) or lost())
            monkeypatch.setattr(watcher, "_sweep", lambda: sweeps.append(1) or sweep())
            ended = [msgspec.structs.replace(run, status=RunStatus.COMPLETED, completed_at=NOW) for run in runs]
            await server.put_many(
                [
                    message
                    for run in ended
                    for message in (
                        (subjects.run_info(run.ref), wire.encode_run_info(run)),
                        (subjects.history(run.ref), event_body(run.ref, "run.completed", result=run.wf_id)),
                    )
                ]
            )
            outcomes = await asyncio.wait_for(asyncio.gather(*waits), 30)
            assert [msgspec.msgpack.decode(outcome.result) for outcome in outcomes] == [run.wf_id for run in runs]
        assert 0 < len(sweeps) < len(drops)

    async def test_nobody_listens_where_nobody_waits(self, server, monkeypatch):
        monkeypatch.setattr(watcher_module, "_SWEEP_EVERY", 0.05)
        async with await NatsConnection.open(server.url) as connection:
            pumps = connection._uplink.link._subscriptions
            before = len(pumps)
            for _ in range(2):
                run = await going_on(server)
                waiting = connection.watch(run.ref)
                await settled(connection)
                assert len(pumps) == before + 1
                await server.end(run)
                await within(waiting)
                async with asyncio.timeout(20):
                    while connection._watcher._listening is not None:
                        await asyncio.sleep(0.005)
                assert len(pumps) == before

    async def test_garbage(self, server, connection):
        run = await going_on(server)
        waiting = connection.watch(run.ref)
        await settled(connection)
        for subject in ("grctl_run.W.w.x.info", f"grctl_run.X.other.{run.id}.info", f"grctl_run.W.w.{run.id}.input"):
            await server.put(subject, b"\xc1")
        await server.end(run)
        await within(waiting)

    async def test_one_subscription_and_one_task_for_ten_thousand(self, broker, server):
        runs = [new_run(f"w{n}") for n in range(10_000)]
        await server.put_many([(subjects.run_info(run.ref), wire.encode_run_info(run)) for run in runs])
        async with await NatsConnection.open(broker.url) as connection:
            watching = connection.watch(runs[0].ref)
            await settled(connection)
            tasks = len(asyncio.all_tasks())
            pumps = len(connection._uplink.link._subscriptions)
            waits = [watching, *(connection.watch(run.ref) for run in runs[1:])]
            await settled(connection)
            assert len(asyncio.all_tasks()) == tasks
            assert len(connection._uplink.link._subscriptions) == pumps
            assert len(connection._watcher) == 10_000
            for number, run in enumerate(runs[:50]):
                await server.end(run, result=number)
            outcomes = await asyncio.wait_for(asyncio.gather(*waits[:50]), 30)
            assert [msgspec.msgpack.decode(outcome.result) for outcome in outcomes] == list(range(50))
            for waiting in waits[50:]:
                waiting.cancel()
            await asyncio.sleep(0)
            assert len(connection._watcher) == 0


class TestRefusedHints:
    """The login may read what is stored, and not listen."""

    USERS = [  # noqa: RUF012
        {"user": "all", "password": "x"},
        {"user": "some", "password": "x", "permissions": {"subscribe": {"deny": ["grctl_run.>", "grctl_history.>"]}}},
    ]

    @pytest.fixture
    async def server(self):
        async with Broker({"authorization": {"users": self.USERS}}) as broker:  # noqa: SIM117 - it has the address
            async with FakeServer(broker.url, user="all", password="x") as server:
                yield server

    @pytest.fixture
    async def deaf(self, server):
        async with await NatsConnection.open(server.url, user="some", password="x") as connection:
            yield connection

    async def test_ends_are_looked_for_sooner_and_one_warning_says_so(self, server, deaf, monkeypatch, caplog):
        monkeypatch.setattr(watcher_module, "_SWEEP_EVERY", 1_000.0)
        monkeypatch.setattr(watcher_module, "_SWEEP_WITHOUT_HINTS", 0.05)
        for number in range(3):
            run = await going_on(server, f"w{number}")
            waiting = deaf.watch(run.ref)
            deaf._watcher._waits[run.wf_id, run.id].pauses = iter(())  # only sweeps can find the end
            await settled(deaf)
            async with asyncio.timeout(20):
                while not deaf._watcher._deaf:
                    await asyncio.sleep(0.005)
            await server.end(run)
            await within(waiting)
        (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert f"refuses the subscription to {subjects.ALL_RUN_INFO!r}" in warning

    async def test_a_new_link_may_hear_them(self, server, deaf):
        waiting = deaf.watch((await going_on(server)).ref)
        async with asyncio.timeout(20):
            while not deaf._watcher._deaf:
                await asyncio.sleep(0.005)
            link = deaf._uplink.link
            link.lose("a test")
            while deaf._uplink._link is link or not deaf._watcher._deaf:
                await asyncio.sleep(0.005)
        waiting.cancel()

    def test_many_runs_are_looked_for_less_often(self, monkeypatch):
        watcher = object.__new__(watcher_module.Watcher)
        pauses = []
        for count in (0, 10_000, 10_000_000):
            watcher._waits = range(count)
            pauses.append(watcher._pause_without_hints())
        assert pauses == [2.0, 4.0, 30.0]

    async def test_histories_are_followed_with_one_warning(self, server, deaf, monkeypatch, caplog):
        monkeypatch.setattr(history_module, "_LOOK_EVERY", 1_000.0)
        monkeypatch.setattr(history_module, "_LOOK_WITHOUT_HINTS", 0.05)
        for pauses in ("_AFTER_LISTENING", "_AFTER_HINT"):
            monkeypatch.setattr(history_module, pauses, ())
        runs = [await going_on(server, f"w{number}") for number in range(3)]

        async def follow(run: RunInfo) -> list[str]:
            return [event.kind async for event in deaf.history(run.ref, follow=True)]

        following = [asyncio.create_task(follow(run)) for run in runs]
        async with asyncio.timeout(20):
            while not caplog.records:
                await asyncio.sleep(0.005)
        for run in runs:
            await server.end(run)
        async with asyncio.timeout(20):
            assert await asyncio.gather(*following) == [["run.completed"]] * 3
        (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert "refuses the subscription to 'grctl_history." in warning


HINTS = frames(Direction.TO_CLIENT, subject=subjects.ALL_RUN_INFO)
LOOKS = "$JS.API.DIRECT.GET.grctl_state.grctl_run.>"


class TestWithoutSweeps:
    """Each way to learn of an end, alone: the sweep would make up for any that is missing, half a minute later."""

    @pytest.fixture
    def faults(self):
        return Faults()

    @pytest.fixture
    async def proxy(self, broker, server, faults):
        async with FaultProxy(broker.url, faults) as proxy:
            yield proxy

    @pytest.fixture
    async def connection(self, proxy, monkeypatch):
        monkeypatch.setattr(watcher_module, "_SWEEP_EVERY", 1_000.0)
        async with await NatsConnection.open(proxy.url, request_timeout=0.5) as connection:
            yield connection

    @pytest.fixture
    def one_look(self, monkeypatch):
        monkeypatch.setattr(watcher_module, "_AFTER_FIRST_LOOK", ())

    async def test_a_new_link(self, server, connection, proxy, faults, one_look):
        run = await going_on(server)
        waiting = connection.watch(run.ref)
        await settled(connection)
        lost = faults.drop(HINTS)
        await server.end(run)
        await lost.wait_struck()
        await settled(connection)
        assert not waiting.done()
        proxy.cut()
        await within(waiting)

    async def test_a_new_link_while_it_looks(self, server, connection, proxy, monkeypatch, one_look):
        """It listens over the new link before it looks on: an end after that look has nothing but its hint."""
        run = await going_on(server)
        watcher = connection._watcher
        confirm, first = watcher._confirm, watcher._link
        listening = []

        async def slow(waits):
            listening.append(watcher._listening is watcher._link)
            if len(listening) == 1:
                proxy.cut()
                while watcher._link is first:
                    await asyncio.sleep(0.005)
            await confirm(waits)

        monkeypatch.setattr(watcher, "_confirm", slow)
        waiting = connection.watch(run.ref)
        async with asyncio.timeout(20):
            while len(listening) < 2:
                await asyncio.sleep(0.005)
        assert listening == [True, True]
        await server.end(run)
        await within(waiting)

    async def test_looks_after_the_first_one(self, server, connection, faults):
        """As where the hint went by before we listened, of an end that was not stored yet at the first look."""
        faults.drop(HINTS, may_rest=True)
        run = await going_on(server)
        waiting = connection.watch(run.ref)
        await settled(connection)
        await server.end(run)
        await within(waiting)

    async def test_looks_after_a_hint(self, server, connection, faults, one_look):
        """It hints at what is never stored; the end that is stored then has no hint of its own."""
        for attempt in range(10):  # a slow machine may store it too late
            run = await going_on(server, f"w{attempt}")
            waiting = connection.watch(run.ref)
            await settled(connection)
            ended = msgspec.structs.replace(run, status=RunStatus.COMPLETED)
            hint = faults.delay(HINTS, 0)
            await server.batch([(subjects.run_info(run.ref), wire.encode_run_info(ended))] * 2, commit=False)
            await hint.wait_struck()
            hint.stop()
            lost = faults.drop(HINTS)
            await server.end(run)
            done, _ = await asyncio.wait([waiting], timeout=3)
            lost.stop()
            if done:
                return
            waiting.cancel()
        pytest.fail("no hint was followed by another look")

    async def test_a_hint_that_cannot_be_read(self, server, connection, faults, one_look):
        run = await going_on(server)
        waiting = connection.watch(run.ref)
        await settled(connection)
        faults.corrupt(HINTS)
        await server.end(run)
        await within(waiting)

    async def test_a_look_that_gets_no_answer_is_repeated(self, server, connection, faults, one_look):
        run = await going_on(server)
        await server.end(run)
        faults.drop(replies(LOOKS), nth=1)
        await within(connection.watch(run.ref))

    async def test_a_stream_that_nobody_answers_for_is_not_gone(self, server, connection, monkeypatch, one_look):
        monkeypatch.setattr(watcher_module, "_AFTER_HINT", (0.005,) * 5)
        run = await going_on(server)
        await server.end(run)
        last, refusals = Records.last, iter(range(10))

        async def without_leader(self, subject):
            if subject == subjects.run_info(run.ref) and next(refusals, None) is not None:
                raise UnsupportedOperationError("nobody answers")
            return await last(self, subject)

        monkeypatch.setattr(Records, "last", without_leader)
        await within(connection.watch(run.ref))

    async def test_an_end_whose_reading_gets_no_answer_is_read_again(self, server, connection, faults, one_look):
        run = await going_on(server)
        await server.end(run)
        faults.drop(replies("$JS.API.DIRECT.GET.grctl_state"), nth=1)
        await within(connection.watch(run.ref))


class TestTrouble:
    async def test_a_reconnect(self, broker, server, connection):
        runs = [await going_on(server, f"w{n}") for n in range(5)]
        waits = [connection.watch(run.ref) for run in runs]
        await settled(connection)
        down = asyncio.Event()
        connection.add_listener(lambda event: event is ConnectionEvent.DISCONNECTED and down.set())
        await broker.restart()
        await server.connect()
        for run in runs:
            await server.end(run, result=run.wf_id)
        outcomes = [await within(waiting) for waiting in waits]
        assert [outcome.run.wf_id for outcome in outcomes] == [run.wf_id for run in runs]
        assert down.is_set()

    async def test_an_unknown_run(self, server, connection):
        with pytest.raises(WorkflowNotFoundError, match=r"run r of workflow 'w' has no records"):
            await within(connection.watch(RunRef("w", "r", "W")))

    async def test_one_that_is_stored_a_little_later(self, server, connection):
        run = new_run()
        waiting = connection.watch(run.ref)
        await settled(connection)
        await server.put_run(run)
        await server.end(run)
        await within(waiting)

    async def test_a_purged_stream(self, server, monkeypatch):
        monkeypatch.setattr(watcher_module, "_SWEEP_EVERY", 0.05)
        async with await NatsConnection.open(server.url) as connection:
            run = await going_on(server)
            waiting = connection.watch(run.ref)
            await settled(connection)
            await server.purge()
            with pytest.raises(WorkflowNotFoundError, match="or they are gone"):
                await within(waiting)

    async def test_a_stream_that_is_deleted(self, server, monkeypatch):
        monkeypatch.setattr(watcher_module, "_SWEEP_EVERY", 0.05)
        async with await NatsConnection.open(server.url) as connection:
            run = await going_on(server)
            waiting = connection.watch(run.ref)
            await settled(connection)
            await server.api(f"STREAM.DELETE.{subjects.STREAM}")
            with pytest.raises(WorkflowNotFoundError):
                await within(waiting)

    async def test_a_record_that_is_none_fails_its_run_alone(self, server, connection):
        good, bad = await going_on(server, "good"), await going_on(server, "bad")
        waits = [connection.watch(good.ref), connection.watch(bad.ref)]
        await settled(connection)
        await server.put(subjects.run_info(bad.ref), b"\xc1garbage")
        with pytest.raises(DecodeError, match="cannot be decoded"):
            await within(waits[1])
        assert not waits[0].done()
        await server.end(good)
        await within(waits[0])

    async def test_an_event_that_is_none_fails_its_run_alone(self, server, connection):
        good, bad = await going_on(server, "good"), await going_on(server, "bad")
        waits = [connection.watch(good.ref), connection.watch(bad.ref)]
        ended = msgspec.structs.replace(bad, status=RunStatus.COMPLETED, completed_at=NOW)
        await server.batch(
            [(subjects.run_info(bad.ref), wire.encode_run_info(ended)), (subjects.history(bad.ref), b"\xc1")]
        )
        with pytest.raises(DecodeError):
            await within(waits[1])
        await server.end(good)
        await within(waits[0])

    async def test_no_permission_to_look(self):
        users = [
            {"user": "all", "password": "x"},
            {"user": "some", "password": "x", "permissions": {"publish": {"deny": ["$JS.API.DIRECT.GET.>"]}}},
        ]
        async with Broker({"authorization": {"users": users}}) as broker:  # noqa: SIM117 - it has the address
            async with FakeServer(broker.url, user="all", password="x") as server:
                async with await NatsConnection.open(broker.url, user="some", password="x") as connection:
                    run = await going_on(server)
                    with pytest.raises(AccessDeniedError):
                        await within(connection.watch(run.ref))
                    with pytest.raises(AccessDeniedError):
                        await within(connection.watch(RunRef(run.wf_id, run.id)))

    async def test_each_wait_has_an_error_of_its_own(self, connection):
        ref = RunRef("w", "r", "W")
        first, second = await asyncio.wait_for(
            asyncio.gather(connection.watch(ref), connection.watch(ref), return_exceptions=True), 20
        )
        assert type(first) is type(second) is WorkflowNotFoundError
        assert str(first) == str(second)
        assert first is not second

    @pytest.mark.parametrize("error", [ServerError("x"), DecodeError("x"), InvalidInputError("x")])
    async def test_runs_that_cannot_be_looked_at_together(self, server, connection, monkeypatch, error):
        runs = [await going_on(server, f"w{n}") for n in range(5)]
        for run in runs:
            await server.end(run)

        async def fail(*_: object, **__: object) -> list[Record]:
            raise error

        monkeypatch.setattr(connection._records, "last_of_each", fail)
        outcomes = await asyncio.wait_for(asyncio.gather(*(connection.watch(run.ref) for run in runs)), 20)
        assert [outcome.run.id for outcome in outcomes] == [run.id for run in runs]

    @pytest.mark.parametrize("error", [DecodeError("x"), InvalidInputError("x")])
    async def test_a_run_that_can_never_be_looked_at(self, server, connection, monkeypatch, error):
        run = await going_on(server)

        async def fail(*_: object) -> Record:
            raise error

        monkeypatch.setattr(connection._records, "last", fail)
        with pytest.raises(type(error)):
            await within(connection.watch(run.ref))

    async def test_a_broker_that_refuses_for_a_moment(self, server, connection, monkeypatch):
        run = await going_on(server)
        await server.end(run)
        last = connection._records.last
        refusals = [ServerError("x")]

        async def fail_once(subject: str) -> Record | None:
            if refusals:
                raise refusals.pop()
            return await last(subject)

        monkeypatch.setattr(connection._records, "last", fail_once)
        assert (await within(connection.watch(run.ref))).run.id == run.id
        assert refusals == []

    async def test_a_cancelled_wait_is_forgotten(self, server, connection):
        run = await going_on(server)
        first, second = connection.watch(run.ref), connection.watch(run.ref)
        first.cancel()
        await asyncio.sleep(0)
        assert len(connection._watcher) == 1
        await server.end(run)
        await within(second)
        third = connection.watch(run.ref)
        third.cancel()
        await asyncio.sleep(0)
        assert len(connection._watcher) == 0

    async def test_closing(self, server, connection):
        run = await going_on(server)
        waiting = connection.watch(run.ref)
        await settled(connection)
        await connection.close()
        with pytest.raises(ConnectionClosedError):
            await waiting
        with pytest.raises(ConnectionClosedError):
            connection.watch(run.ref)

    async def test_an_end_that_nobody_asks_for_says_nothing(self, server, connection, caplog):
        connection.watch(RunRef("w", "r", "W"))
        async with asyncio.timeout(20):
            while len(connection._watcher):
                await asyncio.sleep(0.01)
        gc.collect()
        assert caplog.records == []

    async def test_many_missing_at_once(self, server, connection):
        refs = [RunRef(f"w{n}", f"r{n}", "W" if n % 2 else None) for n in range(600)]
        errors = await asyncio.wait_for(
            asyncio.gather(*(connection.watch(ref) for ref in refs), return_exceptions=True), 30
        )
        assert {type(error) for error in errors} == {WorkflowNotFoundError}


async def test_find_run(server, connection):
    old = await going_on(server)
    old = await server.end(old)
    new = await going_on(server, timeout=timedelta(seconds=3))
    assert await connection.find_run(old.ref) == old
    assert await connection.find_run(new.ref) == new
    assert await connection.find_run(RunRef(new.wf_id, new.id)) == new
    assert await connection.find_run(RunRef("w", "none")) is None
    assert await connection.find_run(RunRef("w", "none", "W")) is None


async def test_has_begun_and_find_type(server, connection):
    run = await going_on(server)
    assert not await connection.has_begun(run.ref)
    await server.put_state(run.ref, "step")
    assert await connection.has_begun(run.ref)
    assert await connection.find_type("W") is None
    await server.put_type({"type": "W", "events": [{"name": "go", "timeout_ms": 0}], "new": json.dumps({})})
    assert (await connection.find_type("W")).events == ("go",)
