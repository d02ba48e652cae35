from __future__ import annotations

import contextlib
import functools
import json

import nats
import pytest
from broker import Broker, sync
from fake_server import FakeServer
from fault_proxy import FaultProxy, Faults, replies

from grctl_core.errors import (
    AccessDeniedError,
    DecodeError,
    DeliveryUnknownError,
    ServerError,
    UnsupportedOperationError,
)
from grctl_nats.dial import dial
from grctl_nats.records import Record, Records
from grctl_nats.settings import read_settings

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
async def link(broker, server):
    settings = read_settings(broker.url)
    made = await dial(settings.servers[0], settings, 15)
    yield made
    await made.close()


async def unlimited(link, subject, body, headers, reply_to):
    await link._client.publish(subject, body, reply=reply_to, headers=headers)


@pytest.fixture
def records(link):
    return Records(lambda: link, 20.0)


class TestOne:
    async def test_the_last_one(self, server, records):
        await server.put("grctl_run.a", b"1")
        seq = await server.put("grctl_run.a", b"2")
        assert await records.last("grctl_run.a") == Record("grctl_run.a", seq, b"2")

    async def test_none(self, server, records):
        assert await records.last("grctl_run.none") is None
        assert await records.next("grctl_run.none", 1) is None

    async def test_an_empty_body(self, server, records):
        seq = await server.put("grctl_run.a", b"")
        assert await records.last("grctl_run.a") == Record("grctl_run.a", seq, b"")

    async def test_the_next_one(self, server, records):
        first = await server.put("grctl_run.a", b"1")
        await server.put("grctl_run.b", b"other")
        second = await server.put("grctl_run.a", b"2")
        assert (await records.next("grctl_run.a", 1)).seq == first
        assert (await records.next("grctl_run.a", first + 1)) == Record("grctl_run.a", second, b"2")
        assert await records.next("grctl_run.a", second + 1) is None


class TestLastOfEach:
    @pytest.mark.parametrize("most", [10, 300, 1_000])
    async def test_requests_that_the_broker_takes(self, server, link, records, most):
        subjects = [f"grctl_run.{'x' * 50}.{n}" for n in range(30)]
        for subject in subjects:
            await server.put(subject, b"")
        sent = []
        batch = records._batch

        async def count(body: bytes):
            sent.append(len(body))
            return await batch(body)

        records._batch = count
        link.max_payload = most + 256
        link._publish = functools.partial(unlimited, link)
        assert [record.subject for record in await records.last_of_each(subjects)] == subjects
        assert len(sent) > 1
        assert max(sent) <= max(most, 80) + 256


class TestPages:
    async def test_pages(self, server, records):
        await server.put_many([(f"grctl_history.{'ab'[n % 2]}", str(n).encode()) for n in range(1_000)])
        page = await records.page("grctl_history.a", 1, 100)
        assert [int(record.body) for record in page] == list(range(0, 200, 2))
        page = await records.page("grctl_history.a", page[-1].seq + 1, 1_000)
        assert [int(record.body) for record in page] == list(range(200, 1_000, 2))
        assert await records.page("grctl_history.a", page[-1].seq + 1, 100) == []

    async def test_nothing(self, server, records):
        assert await records.page("grctl_history.none", 1, 10) == []

    async def test_last_of_each(self, server, records):
        subjects = [f"grctl_run.{n}" for n in range(1_000)]
        await server.put_many([(subject, b"old") for subject in subjects[:700]])
        await server.put_many([(subject, subject.encode()) for subject in subjects[:700]])
        found = await records.last_of_each(subjects)
        assert sorted(record.subject for record in found) == sorted(subjects[:700])
        assert all(record.body == record.subject.encode() for record in found)

    async def test_last_of_each_with_wildcards_and_of_none(self, server, records):
        await server.put("grctl_run.A.w.r.info", b"x")
        assert [r.subject for r in await records.last_of_each(["grctl_run.*.w.r.info"])] == ["grctl_run.A.w.r.info"]
        assert await records.last_of_each(["grctl_run.none"]) == []
        assert await records.last_of_each([]) == []


class TestState:
    async def test_it(self, server, records):
        seq = await server.put("grctl_run.a", b"1")
        state = await records.state()
        assert state.last_seq == seq
        assert state.created < state.now
        assert state.now.utcoffset().total_seconds() == 0
        assert await records.exists()

    async def test_no_stream(self, server, records):
        await server.api("STREAM.DELETE.grctl_state")
        with pytest.raises(UnsupportedOperationError, match="there is no Ground Control"):
            await records.state()
        assert not await records.exists()
        for ask in (records.last("a"), records.next("a", 1), records.page("a", 1, 5), records.last_of_each(["a"])):
            with pytest.raises(UnsupportedOperationError, match="is gone from the broker"):
                await ask


class Scripted:
    """Answers like JetStream, as a test says; there is no JetStream."""

    def __init__(self, client: nats.NATS, records: Records) -> None:
        self.client = client
        self.records = records
        self.asked: list[dict[str, object]] = []

    async def answer(self, subject: str, *rounds: list[tuple[dict[str, str] | None, bytes]]) -> None:
        async def hear(message: nats.aio.msg.Msg) -> None:
            self.asked.append(json.loads(message.data or b"{}"))
            for headers, body in rounds[min(len(self.asked), len(rounds)) - 1]:
                await self.client.publish(message.reply, body, headers=headers)

        await self.client.subscribe(subject, cb=hear)
        await sync(self.client)


@pytest.fixture
async def scripted():
    async with Broker(jetstream=False) as broker:
        settings = read_settings(broker.url)
        link = await dial(settings.servers[0], settings, 15)
        client = await nats.connect(broker.url)
        yield Scripted(client, Records(lambda: link, 0.3))
        assert not len(link.replies)
        await client.close()
        await link.close()


def message(subject: str, seq: int, body: bytes = b"x") -> tuple[dict[str, str], bytes]:
    return {"Nats-Subject": subject, "Nats-Sequence": str(seq)}, body


def end(left: int) -> tuple[dict[str, str], bytes]:
    return {"Status": "204", "Description": "EOB", "Nats-Num-Pending": str(left)}, b""


@contextlib.asynccontextmanager
async def through(broker, faults):
    async with FaultProxy(broker.url, faults) as proxy:
        settings = read_settings(proxy.url)
        link = await dial(settings.servers[0], settings, 15)
        yield Records(lambda: link, 1.0)
        await link.close()


class TestErrors:
    async def test_pages_that_the_broker_cuts(self, scripted):
        """By bytes, its own limit."""
        await scripted.answer(
            "$JS.API.DIRECT.GET.grctl_state",
            [message("a", 3), message("a", 5), end(2)],
            [message("a", 8), end(1)],
            [message("a", 9), end(0)],
        )
        assert [record.seq for record in await scripted.records.page("a", 1, 10)] == [3, 5, 8, 9]
        assert [asked["seq"] for asked in scripted.asked] == [1, 6, 9]
        assert [asked["batch"] for asked in scripted.asked] == [10, 8, 7]

    async def test_lasts_that_the_broker_cuts(self, scripted):
        await scripted.answer("$JS.API.DIRECT.GET.grctl_state", [message("a", 3), end(1)], [message("b", 8), end(0)])
        assert [record.seq for record in await scripted.records.last_of_each(["a", "b"])] == [3, 8]
        assert scripted.asked == [{"multi_last": ["a", "b"]}, {"multi_last": ["a", "b"], "seq": 4}]

    async def test_a_status_that_is_none_of_ours(self, scripted):
        await scripted.answer("$JS.API.DIRECT.GET.>", [({"Status": "408", "Description": "Bad Request"}, b"")])
        with pytest.raises(ServerError) as caught:
            await scripted.records.last("a")
        assert caught.value.code == 408

    async def test_too_many_matches(self, scripted):
        await scripted.answer(
            "$JS.API.DIRECT.GET.grctl_state", [({"Status": "413", "Description": "Too Many Results"}, b"")]
        )
        with pytest.raises(ServerError, match="413 Too Many Results"):
            await scripted.records.last_of_each(["a"])

    @pytest.mark.parametrize("headers", [None, {"Nats-Subject": "a"}, {"Nats-Subject": "a", "Nats-Sequence": "x"}])
    async def test_what_is_no_record(self, scripted, headers):
        await scripted.answer("$JS.API.DIRECT.GET.>", [(headers, b"x")])
        with pytest.raises(DecodeError):
            await scripted.records.last("a")

    async def test_a_page_that_stops_in_the_middle(self, scripted):
        await scripted.answer("$JS.API.DIRECT.GET.grctl_state", [message("a", 1)])
        with pytest.raises(DeliveryUnknownError, match="has not gone on"):
            await scripted.records.page("a", 1, 5)

    @pytest.mark.parametrize("which", range(1, 6))
    async def test_an_answer_that_misses_a_message(self, broker, server, which):
        """Four records and the end: without the end nothing says that it was all."""
        for number in range(4):
            await server.put("grctl_history.a.r", b"%d" % number)
            await server.put(f"grctl_history.b.{number}", b"x")
        faults = Faults()
        faults.drop(replies("$JS.API.DIRECT.GET.grctl_state"), nth=which)
        async with through(broker, faults) as records:
            with pytest.raises(DeliveryUnknownError, match="lost on its way" if which < 5 else "has not gone on"):
                await records.page("grctl_history.a.r", 1, 10)
        async with through(broker, Faults()) as records:
            assert [record.body for record in await records.page("grctl_history.a.r", 1, 10)] == [
                b"0",
                b"1",
                b"2",
                b"3",
            ]

    @pytest.mark.parametrize("which", range(1, 5))
    async def test_an_answer_in_which_a_message_comes_twice(self, broker, server, which):
        for number in range(4):
            await server.put("grctl_history.a.r", b"%d" % number)
        faults = Faults()
        faults.duplicate(replies("$JS.API.DIRECT.GET.grctl_state"), nth=which)
        async with through(broker, faults) as records:
            assert [record.body for record in await records.page("grctl_history.a.r", 1, 10)] == [
                b"0",
                b"1",
                b"2",
                b"3",
            ]

    async def test_lasts_of_which_one_is_lost(self, broker, server):
        subjects = [f"grctl_run.a.{number}" for number in range(4)]
        for subject in subjects:
            await server.put(subject, b"x")
        faults = Faults()
        faults.drop(replies("$JS.API.DIRECT.GET.grctl_state"), nth=2)
        async with through(broker, faults) as records:
            with pytest.raises(DeliveryUnknownError, match="lost on its way"):
                await records.last_of_each(subjects)
            assert [record.subject for record in await records.last_of_each(subjects)] == subjects

    @pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b'{"created": 1}', b'{"error": 5}', b"\xff"])
    async def test_a_state_that_is_none(self, scripted, body):
        await scripted.answer("$JS.API.STREAM.INFO.*", [(None, body)])
        with pytest.raises(DecodeError):
            await scripted.records.state()

    async def test_a_state_that_is_refused(self, scripted):
        body = json.dumps({"error": {"code": 503, "description": "offline"}}).encode()
        await scripted.answer("$JS.API.STREAM.INFO.*", [(None, body)])
        with pytest.raises(ServerError, match="offline"):
            await scripted.records.state()
        assert await scripted.records.exists()

    async def test_a_broker_that_permits_no_look(self):
        users = [
            {"user": "all", "password": "x"},
            {"user": "some", "password": "x", "permissions": {"publish": {"deny": ["$JS.API.DIRECT.GET.>"]}}},
        ]
        async with Broker({"authorization": {"users": users}}) as broker:  # noqa: SIM117 - it has the address
            async with FakeServer(broker.url, user="all", password="x"):
                settings = read_settings(broker.url, user="some", password="x")
                link = await dial(settings.servers[0], settings, 15)
                records = Records(lambda: link, 20.0)
                with pytest.raises(AccessDeniedError, match="Have its administrator permit it"):
                    await records.last("grctl_run.A.b.C.info")
                await link.close()
