from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import warnings
import weakref

import pytest
from broker import Broker
from fake_server import FakeServer, new_run

from grctl_core.commands import DescribeCommand, EventCommand, Reply
from grctl_core.errors import (
    ConnectionClosedError,
    ConnectionFailedError,
    DeliveryUnknownError,
    EventLoopError,
    InvalidInputError,
)
from grctl_core.protocols import Capabilities, Connection, ConnectionEvent
from grctl_core.run import RunInfo, RunRef
from grctl_nats import NatsConnection
from grctl_nats import connection as connection_module
from grctl_nats.connection import open_url

pytestmark = pytest.mark.usefixtures("nothing_left")

connect = NatsConnection.connect


async def test_it_is_a_connection(connection):
    typed: Connection = connection
    assert isinstance(typed, Connection)
    assert typed.capabilities == Capabilities(workflow_timeout=False, queries=False)


class TestOnePerLoop:
    async def test_the_same_one_every_time(self, broker, server):
        first = await connect(broker.url)
        assert await connect(broker.url) is first
        assert await connect() is first
        await first.close()

    async def test_concurrent_calls_share_one_attempt(self, broker, server):
        found = await asyncio.gather(*(connect(broker.url) for _ in range(20)))
        assert len(set(map(id, found))) == 1
        await found[0].close()

    async def test_the_first_caller_is_cancelled(self, broker, server):
        first = asyncio.create_task(connect(broker.url))
        second = asyncio.create_task(connect(broker.url))
        await asyncio.sleep(0)
        first.cancel()
        connection = await second
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await connection.request(DescribeCommand(wf_id="w"), timeout=20)).success is False
        await connection.close()

    async def test_all_callers_are_cancelled(self, broker, server):
        first = asyncio.create_task(connect(broker.url))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        await (await connect(broker.url)).close()

    async def test_an_attempt_that_all_left_fails_without_a_word(self, caplog):
        async with Broker() as broker:
            broker.kill()
            first = asyncio.create_task(connect(broker.url, connect_timeout=0.1))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
        del first
        attempt = connection_module._shared.pop(asyncio.get_running_loop()).task
        await asyncio.wait([attempt])
        assert not attempt.cancelled()
        del attempt
        gc.collect()
        assert caplog.records == []

    async def test_a_fresh_one_after_closing(self, broker, server):
        first = await connect(broker.url)
        await first.close()
        second = await connect(broker.url)
        assert second is not first
        await second.close()

    async def test_a_fresh_one_while_it_closes(self, broker, server):
        first = await connect(broker.url)
        closing = asyncio.create_task(first.close())
        await asyncio.sleep(0)
        second = await connect(broker.url)
        assert second is not first
        await closing
        await second.request(DescribeCommand(wf_id="w"), timeout=20)
        await second.close()

    async def test_a_failed_attempt_is_not_remembered(self):
        broker = Broker()
        async with broker:
            broker.kill()
            failed = await asyncio.gather(
                *(connect(broker.url, connect_timeout=0.1) for _ in range(3)), return_exceptions=True
            )
            assert [isinstance(error, ConnectionFailedError) for error in failed] == [True] * 3
            await broker.start()
            async with FakeServer(broker.url):
                await (await connect(broker.url)).close()

    async def test_other_servers_are_warned_of(self, broker, server):
        first = await connect(broker.url)
        with pytest.warns(
            UserWarning, match=r"that is open in this event loop, not one to nats://elsewhere:1.*open\(\)"
        ):
            assert await connect("nats://elsewhere:1") is first
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert await connect(f" {broker.url} ,") is first
            assert await connect(connect_timeout=3) is first
        await first.close()

    @pytest.mark.parametrize("name", ["GRCTL_NATS_SERVERS", "grctl_NATS_SERVERS"])
    async def test_other_servers_in_the_environment_are_warned_of(self, broker, server, monkeypatch, name):
        first = await connect(broker.url)
        monkeypatch.setenv(name, "nats://elsewhere:1")
        with pytest.warns(UserWarning, match="not one to nats://elsewhere:1") as caught:
            assert await connect() is first
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert await connect(broker.url) is first  # the argument counts, and not the environment
            monkeypatch.setenv(name, f" {broker.url} ")
            assert await connect() is first
        await first.close()

    async def test_the_warning_shows_no_password(self, broker, server):
        first = await connect(broker.url)
        with pytest.warns(UserWarning, match="elsewhere") as caught:
            await connect("nats://me:s3cr3t@elsewhere:1")
        assert "s3cr3t" not in str(caught[0].message)
        assert caught[0].filename == __file__
        await first.close()

    async def test_bad_arguments_are_refused_also_where_one_is_open(self, broker, server):
        first = await connect(broker.url)
        with pytest.raises(InvalidInputError):
            await connect("http://x")
        await first.close()

    async def test_the_environment(self, broker, server, monkeypatch):
        monkeypatch.setenv("GRCTL_NATS_SERVERS", f" {broker.url} ")
        connection = await connect()
        assert broker.url in repr(connection)
        assert await connect() is connection
        await connection.close()

    async def test_open_gives_others(self, broker, server):
        first = await connect(broker.url)
        second = await NatsConnection.open(broker.url)
        third = await open_url(broker.url)
        assert len({id(first), id(second), id(third), id(await connect())}) == 3
        for connection in (first, second, third):
            await connection.close()

    async def test_the_tasks_keep_nobodys_context(self, broker, server):
        span: contextvars.ContextVar[object] = contextvars.ContextVar("span")

        class Span: ...

        async def caller() -> weakref.ref[Span]:
            mine = Span()
            span.set(mine)
            connection = await connect(broker.url)
            connection.watch(RunRef("w", "r", "W"))
            with pytest.raises(DeliveryUnknownError):
                server.answer = lambda _: None
                await connection.request(DescribeCommand(wf_id="w"), timeout=0.01)
            return weakref.ref(mine)

        mine = await asyncio.create_task(caller())
        await asyncio.sleep(0)  # out of the turn of the loop that the caller ended in
        gc.collect()
        assert mine() is None
        await (await connect()).close()


class TestLoops:
    def test_each_has_its_own(self):
        async def use(url: str) -> tuple[NatsConnection, asyncio.AbstractEventLoop]:
            connection = await connect(url)
            assert await connect(url) is connection
            await connection.request(DescribeCommand(wf_id="w"), timeout=20)
            await connection.close()
            return connection, asyncio.get_running_loop()

        async def main() -> str:
            async with Broker() as broker, FakeServer(broker.url):
                first, _ = await asyncio.to_thread(asyncio.run, use(broker.url))
                second, _ = await asyncio.to_thread(asyncio.run, use(broker.url))
                assert first is not second
            return ""

        asyncio.run(main())

    async def test_two_at_the_same_time_in_two_threads(self, broker, server):
        """Each asks and waits over a connection of its own; none sees what is the other's."""
        runs = [new_run(f"w{number}") for number in range(100)]
        for run in runs:
            await server.put_run(run)
        waiting = [threading.Event() for _ in range(2)]

        async def use(mine: list[RunInfo], waits: threading.Event) -> tuple[list[str], list[str]]:
            connection = await connect(broker.url)
            ends = [connection.watch(run.ref) for run in mine]
            commands = (connection.request(DescribeCommand(wf_id=run.wf_id), timeout=30) for run in mine)
            described = [reply.run.id for reply in await asyncio.gather(*commands) if reply.run is not None]
            waits.set()
            ended = [outcome.run.id for outcome in await asyncio.gather(*ends)]
            await connection.close()
            return described, ended

        async with asyncio.timeout(60):
            halves = runs[:50], runs[50:]
            threads = [
                asyncio.create_task(asyncio.to_thread(asyncio.run, use(*both)))
                for both in zip(halves, waiting, strict=True)
            ]
            for waits in waiting:
                await asyncio.to_thread(waits.wait)
            for run in runs:
                await server.end(run)
            for half, thread in zip(halves, threads, strict=True):
                ids = [run.id for run in half]
                assert await thread == (ids, ids)

    async def test_it_is_refused_in_another_one(self, connection):
        async def misuse() -> None:
            with pytest.raises(EventLoopError, match="belongs to another event loop"):
                await connection.request(DescribeCommand(wf_id="w"), timeout=20)
            with pytest.raises(EventLoopError):
                await connection.close()

        await asyncio.to_thread(asyncio.run, misuse())
        await connection.request(DescribeCommand(wf_id="w"), timeout=20)

    async def test_a_closed_loop_is_let_go(self, broker, server):
        async def forget() -> None:
            await (await connect(broker.url)).close()

        loop = asyncio.new_event_loop()
        await asyncio.to_thread(loop.run_until_complete, forget())
        loop.close()
        gone = weakref.ref(loop)
        del loop
        await (await connect(broker.url)).close()
        gc.collect()
        assert gone() is None


class TestRequests:
    async def test_more_than_the_limit_queue(self, broker, server):
        held: list[object] = []
        server.answer = held.append
        async with await NatsConnection.open(broker.url, max_in_flight=3) as connection:
            asking = [
                asyncio.create_task(connection.request(DescribeCommand(wf_id=f"w{n}"), timeout=20)) for n in range(10)
            ]
            await server.received(3)
            await connection.find_type("x")  # a look at the records goes through, and behind what was sent
            assert len(server.messages) == 3
            server.answer = lambda _: Reply(success=True)
            for message in list(server.messages):
                await message.respond(b"\x81\xa7success\xc3")
            replies = await asyncio.gather(*asking)
            assert all(reply.success for reply in replies)
            assert len(server.messages) == 10

    async def test_a_timeout_runs_from_the_sending(self, broker, server):
        server.answer = lambda _: None
        async with await NatsConnection.open(broker.url, max_in_flight=1) as connection:
            asking = [
                asyncio.create_task(connection.request(DescribeCommand(wf_id=f"w{n}"), timeout=0.05)) for n in range(4)
            ]
            errors = await asyncio.gather(*asking, return_exceptions=True)
            assert [type(error) for error in errors] == [DeliveryUnknownError] * 4
            assert len(await server.received(4)) == 4  # each was sent, although it had queued for longer

    async def test_a_cancelled_caller_frees_its_place(self, broker, server):
        server.answer = lambda _: None
        async with await NatsConnection.open(broker.url, max_in_flight=2) as connection:
            asking = [
                asyncio.create_task(connection.request(DescribeCommand(wf_id=f"w{n}"), timeout=1_000)) for n in range(6)
            ]
            await server.received(2)
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
            server.answer = server.ok
            async with asyncio.timeout(20):
                await connection.request(DescribeCommand(wf_id="w"), timeout=20)
            assert len(server.commands) == 3  # what had queued was never sent
            async with asyncio.timeout(20):
                await connection.close(grace=1_000)  # nothing is under way

    @pytest.mark.parametrize("body", [b"", b"\xc1", b"not msgpack", b"\x80"])
    async def test_a_reply_that_is_none_is_a_doubt(self, server, connection, body):
        server.answer = lambda _: body
        with pytest.raises(DeliveryUnknownError, match="the server answered, but"):
            await connection.request(EventCommand(wf_id="w", event_name="e"), timeout=20)

    async def test_headers_go_along(self, server, connection):
        await connection.request(DescribeCommand(wf_id="w", headers={"traceparent": "00-1"}), timeout=20)
        assert server.messages[0].headers == {"traceparent": "00-1"}


class TestClosing:
    async def test_it_is_idempotent(self, connection):
        await asyncio.gather(connection.close(), connection.close())
        await connection.close()
        assert "closed" in repr(connection)

    async def test_afterwards_nothing_works(self, connection):
        await connection.close()
        with pytest.raises(ConnectionClosedError, match=r"open a new one"):
            await connection.request(DescribeCommand(wf_id="w"), timeout=20)
        with pytest.raises(ConnectionClosedError):
            async for _ in connection.list_runs(None):
                pass
        with pytest.raises(ConnectionClosedError):
            async with connection:
                pass

    async def test_it_waits_for_what_is_under_way(self, server, connection):
        server.answer = lambda _: None
        asking = asyncio.create_task(connection.request(DescribeCommand(wf_id="w"), timeout=1_000))
        await server.received(1)
        closing = asyncio.create_task(connection.close(grace=1_000))
        await asyncio.sleep(0)
        with pytest.raises(ConnectionClosedError):
            await connection.request(DescribeCommand(wf_id="w"), timeout=20)
        await server.messages[0].respond(b"\x81\xa7success\xc3")
        assert (await asking).success
        async with asyncio.timeout(20):
            await closing

    async def test_but_not_for_longer_than_the_grace(self, server, connection):
        server.answer = lambda _: None
        heard = []
        connection.add_listener(heard.append)
        asking = asyncio.create_task(connection.request(DescribeCommand(wf_id="w"), timeout=1_000))
        await server.received(1)
        async with asyncio.timeout(20):
            await connection.close(grace=0.05)
        with pytest.raises(DeliveryUnknownError):
            await asking
        assert heard == [ConnectionEvent.CLOSED]

    async def test_what_queues_is_not_sent(self, broker, server):
        server.answer = lambda _: None
        connection = await NatsConnection.open(broker.url, max_in_flight=1)
        asking = [
            asyncio.create_task(connection.request(DescribeCommand(wf_id=f"w{n}"), timeout=1_000)) for n in range(3)
        ]
        await server.received(1)
        await connection.close(grace=0)
        errors = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(error) for error in errors] == [DeliveryUnknownError, ConnectionClosedError, ConnectionClosedError]
        assert len(server.messages) == 1


async def test_nothing_is_logged_and_nothing_warned_of(broker, server, caplog):
    async with await NatsConnection.open(broker.url) as connection:
        await connection.request(DescribeCommand(wf_id="w"), timeout=20)
    assert caplog.records == []


async def test_a_refusal_that_nobody_waits_for_is_warned_of_once_for_each_kind(broker, server, caplog):
    async with await NatsConnection.open(broker.url) as connection:
        link = connection._uplink.link
        for number in range(100):
            for subject in (
                f"grctl_api.workflow.w{number}",
                f"$JS.API.DIRECT.GET.grctl_state.grctl_run.W.w{number}.r.info",
            ):
                link.denied(f'nats: permissions violation for publish to "{subject.lower()}"')
        assert len(connection._refused) == 2
    said = [record.getMessage() for record in caplog.records]
    assert [("grctl_api.workflow.w0" in line, "grctl_run.w.w0.r" in line) for line in said] == [
        (True, False),
        (False, True),
    ]
