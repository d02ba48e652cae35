"""What becomes of an attempt: a reply, not sent, not delivered, or unknown; exactly one of them."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import nats
import pytest
from broker import Broker, sync

from grctl_core.errors import (
    AccessDeniedError,
    DeliveryUnknownError,
    InvalidInputError,
    NotDeliveredError,
    NotSentError,
)
from grctl_nats import dial as dial_module
from grctl_nats import link as link_module
from grctl_nats.dial import dial
from grctl_nats.link import Link
from grctl_nats.settings import read_settings

LONG = 1_000.0

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
async def broker():
    async with Broker(jetstream=False) as running:
        yield running


async def linked(broker: Broker, **options: Any) -> Link:
    settings = read_settings(broker.url, **options)
    return await dial(settings.servers[0], settings, 15)


@pytest.fixture
async def link(broker):
    made = await linked(broker)
    yield made
    await made.close()


LAST = b"the last"
"""An answer that bears a status: it ends an answer of several messages."""


class Responder:
    """Answers each message on ``ask.>`` with what :attr:`answers` says; remembers them all."""

    def __init__(self, client: nats.NATS) -> None:
        self.client = client
        self.messages: list[Any] = []
        self.answers: list[bytes] = [b"yes"]
        self.came = asyncio.Event()

    async def hear(self, message: Any) -> None:
        self.messages.append(message)
        self.came.set()
        for answer in self.answers:
            headers = {"Status": "204"} if answer == LAST else None
            await self.client.publish(message.reply, answer, headers=headers)


async def responding(broker: Broker, **options: Any) -> Responder:
    async def ignore(_: Exception) -> None: ...

    client = await nats.connect(broker.url, allow_reconnect=False, error_cb=ignore, **options)
    made = Responder(client)
    await client.subscribe("ask.>", cb=made.hear)
    await sync(client)
    return made


@pytest.fixture
async def responder(broker):
    made = await responding(broker)
    yield made
    await made.client.close()


def nothing_waits(link: Link) -> bool:
    return not len(link.replies)


async def within(awaitable: Any) -> Any:
    async with asyncio.timeout(20):
        return await awaitable


def streams() -> list[asyncio.WriteTransport]:
    """List the sockets that this process writes to."""
    return [found for found in gc.get_objects() if isinstance(found, asyncio.WriteTransport)]


class TestFates:
    async def test_a_reply(self, link, responder):
        message = await link.request("ask.x", b"body", {"a": "b"}, LONG)
        assert message.data == b"yes"
        asked = responder.messages[0]
        assert (asked.subject, asked.data, asked.headers) == ("ask.x", b"body", {"a": "b"})
        assert nothing_waits(link)

    @pytest.mark.parametrize("headers", [None, {}])
    async def test_no_headers_cost_no_frame(self, link, responder, headers):
        await link.request("ask.x", b"", headers, LONG)
        assert responder.messages[0].headers is None

    async def test_nobody_listens(self, link):
        with pytest.raises(NotDeliveredError, match=r"no server listens on 'ask\.x'"):
            await within(link.request("ask.x", b"", None, LONG))
        assert nothing_waits(link)

    async def test_no_reply_in_time(self, link, responder):
        responder.answers = []
        with pytest.raises(DeliveryUnknownError, match=r"has not answered within 0.05 s") as caught:
            await link.request("ask.x", b"", None, 0.05)
        assert caught.value.link == link.number
        assert nothing_waits(link)

    async def test_a_late_reply_is_ignored(self, link, responder):
        link.replies.on_second = lambda: pytest.fail("a late reply is no second one")
        responder.answers = []
        with pytest.raises(DeliveryUnknownError):
            await link.request("ask.x", b"", None, 0.05)
        await within(responder.came.wait())
        await responder.messages[0].respond(b"late")
        responder.answers = [b"yes"]
        assert (await link.request("ask.y", b"", None, LONG)).data == b"yes"

    async def test_the_late_reply_of_a_caller_that_went_away(self, link, responder):
        link.replies.on_second = lambda: pytest.fail("a late reply is no second one")
        responder.answers = []
        asking = asyncio.create_task(link.request("ask.x", b"", None, LONG))
        await within(responder.came.wait())
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert nothing_waits(link)
        await responder.messages[0].respond(b"late")
        responder.answers = [b"yes"]
        assert (await link.request("ask.y", b"", None, LONG)).data == b"yes"

    async def test_a_second_reply_is_noticed(self, link, responder):
        seen = []
        link.replies.on_second = lambda: seen.append(1)
        responder.answers = [b"1", b"2"]
        assert (await link.request("ask.x", b"", None, LONG)).data == b"1"
        responder.answers = [b"yes"]
        await link.request("ask.y", b"", None, LONG)  # on the same way, so it comes behind
        assert seen == [1]

    async def test_answers_in_any_number_are_no_second_reply(self, link, responder):
        link.replies.on_second = lambda: pytest.fail("any number of answers may come")
        responder.answers = [b"1", b"2", LAST, b"3"]
        messages = await within(link.collect("ask.x", b"", LONG))
        assert [message.data for message in messages] == [b"1", b"2", LAST]
        responder.answers = [b"yes"]
        await link.request("ask.y", b"", None, LONG)
        assert nothing_waits(link)

    async def test_several_answers_have_their_time_from_one_to_the_next(self, link, responder):
        responder.answers = [b"1", b"2"]
        with pytest.raises(DeliveryUnknownError, match=r"has not gone on with its answer within 0.05 s"):
            await within(link.collect("ask.x", b"", 0.05))
        assert nothing_waits(link)

    async def test_an_empty_reply_is_a_reply(self, link, responder):
        responder.answers = [b""]
        assert (await link.request("ask.x", b"", None, LONG)).data == b""


class TestSize:
    async def test_the_largest_body(self, link, responder):
        assert link.max_payload == 1024 * 1024
        await within(link.request("ask.x", b"x" * link.max_payload, None, LONG))
        assert len(responder.messages[0].data) == link.max_payload

    async def test_one_byte_more(self, link):
        with pytest.raises(InvalidInputError, match="the message has 1048577 bytes with its headers"):
            await link.request("ask.x", b"x" * (link.max_payload + 1), None, LONG)
        assert nothing_waits(link)
        assert link.is_up

    @pytest.mark.parametrize(
        "headers", [{"a": "b"}, {"key": "ü" * 30, "k2": ""}, {f"k{n}": "v" * n for n in range(50)}]
    )
    async def test_headers_count(self, link, responder, headers):
        """To the byte: the broker closes the connection for good where it is one too many."""
        frame = len(b"NATS/1.0\r\n\r\n") + sum(len(f"{key}: {value}\r\n".encode()) for key, value in headers.items())
        await within(link.request("ask.x", b"x" * (link.max_payload - frame), headers, LONG))
        with pytest.raises(InvalidInputError):
            await link.request("ask.x", b"x" * (link.max_payload - frame + 1), headers, LONG)
        assert (await within(link.request("ask.x", b"", None, LONG))).data == b"yes"

    async def test_a_smaller_limit(self):
        async with Broker({"max_payload": 1_000}, jetstream=False) as broker:
            link = await linked(broker)
            with pytest.raises(InvalidInputError, match="the broker takes 1000"):
                await link.request("ask.x", b"x" * 1_001, None, LONG)
            await link.close()

    @pytest.mark.parametrize("headers", [{"a b": "c"}, {"a\r\nb": "c"}, {"a:": "c"}])
    async def test_headers_that_are_none(self, link, headers):
        with pytest.raises(InvalidInputError, match="cannot be sent"):
            await link.request("ask.x", b"", headers, LONG)
        assert link.is_up
        assert nothing_waits(link)

    @pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB b 0\r\n"])
    async def test_subjects_that_are_none(self, link, subject):
        with pytest.raises(InvalidInputError, match="cannot be sent"):
            await link.request(subject, b"", None, 0.5)
        assert link.is_up
        assert nothing_waits(link)


class TestLoss:
    async def test_what_is_under_way_ends_at_once(self, broker, link, responder):
        responder.answers = []
        asking = [asyncio.create_task(link.request(f"ask.{n}", b"", None, LONG)) for n in range(50)]
        async with asyncio.timeout(20):
            while len(responder.messages) < 50:
                responder.came.clear()
                await responder.came.wait()
        broker.kill()
        for error in await within(asyncio.gather(*asking, return_exceptions=True)):
            assert type(error) is DeliveryUnknownError
            assert error.link == link.number
            assert "lost before the reply came" in str(error)
        assert link.lost.done()
        assert not link.is_up
        assert nothing_waits(link)

    async def test_answers_of_several_messages_end_too(self, broker, link, responder):
        responder.answers = [b"1"]
        asking = asyncio.create_task(link.collect("ask.x", b"", LONG))
        await within(responder.came.wait())
        broker.kill()
        with pytest.raises(DeliveryUnknownError, match="lost before the reply came"):
            await within(asking)
        assert nothing_waits(link)

    async def test_nothing_is_sent_after_it(self, broker, link, responder):
        broker.kill()
        await within(link.lost)
        await broker.start()
        later = await responding(broker)
        for ask in (
            link.request("ask.x", b"", None, LONG),
            link.publish("ask.x"),
            link.subscribe("ask.x", responder.hear),
        ):
            with pytest.raises(NotSentError, match="is lost"):
                await ask
        with pytest.raises(NotSentError):
            await link.collect("ask.x", b"", LONG)
        await link.close()
        await later.client.publish("ask.last")
        await within(later.came.wait())
        assert [message.subject for message in later.messages] == ["ask.last"]
        assert nothing_waits(link)
        await later.client.close()

    async def test_what_was_under_way_is_not_sent_again(self, broker, link, responder):
        """The driver's own reconnecting would replay it."""
        responder.answers = []
        asking = asyncio.create_task(link.request("ask.x", b"", None, LONG))
        await within(responder.came.wait())
        broker.kill()
        asking_too = [asyncio.create_task(link.request("ask.y", b"", None, LONG)) for _ in range(10)]
        for task in (asking, *asking_too):
            with pytest.raises((DeliveryUnknownError, NotSentError)):
                await within(task)
        await broker.start()
        later = await responding(broker)
        await later.client.publish("ask.last")
        await within(later.came.wait())
        assert [message.subject for message in later.messages] == ["ask.last"]
        await later.client.close()

    async def test_a_broker_that_shuts_down(self, broker, link):
        broker.kill(15)
        await within(link.lost)

    async def test_a_frozen_broker(self, broker, monkeypatch):
        monkeypatch.setattr(dial_module, "_PING_EVERY", 0.05)
        monkeypatch.setattr(link_module, "_WATCH_EVERY", 0.05)
        link = await linked(broker)
        responder = await responding(broker)
        responder.answers = []
        asking = asyncio.create_task(link.request("ask.x", b"", None, LONG))
        await within(responder.came.wait())
        broker.freeze()
        with pytest.raises(DeliveryUnknownError):
            await within(asking)
        assert link.lost.done()
        broker.thaw()
        await link.close()
        await responder.client.close()

    async def test_a_frozen_broker_and_much_to_send(self, broker, monkeypatch):
        """Nothing hangs in a send buffer that does not empty."""
        monkeypatch.setattr(dial_module, "_PING_EVERY", 0.05)
        monkeypatch.setattr(link_module, "_WATCH_EVERY", 0.05)
        link = await linked(broker)
        broker.freeze()
        asking = [asyncio.create_task(link.request("ask.x", b"x" * 1_000_000, None, LONG)) for _ in range(32)]
        for error in await within(asyncio.gather(*asking, return_exceptions=True)):
            assert type(error) in (DeliveryUnknownError, NotSentError)
        await within(link.close(0.05))
        assert nothing_waits(link)
        broker.kill()

    @pytest.mark.parametrize("size", [1_000_000, 20_000])
    async def test_a_broker_that_thaws_gets_nothing_that_was_not_sent(self, broker, monkeypatch, size):
        """And what was handed over for it, and arrives then, is bounded."""
        monkeypatch.setattr(dial_module, "_PING_EVERY", 0.2)
        monkeypatch.setattr(link_module, "_WATCH_EVERY", 0.05)
        responder = await responding(broker)
        responder.answers = []
        before = set(streams())
        link = await linked(broker)
        (stream,) = set(streams()) - before
        broker.freeze()
        body = b"x" * size
        count = 8_000_000 // size
        asking = [asyncio.create_task(link.request(f"ask.{n}", body, None, LONG)) for n in range(count)]
        errors = await within(asyncio.gather(*asking, return_exceptions=True))
        fates = {f"ask.{n}": type(error) for n, error in enumerate(errors)}
        assert set(fates.values()) == {DeliveryUnknownError, NotSentError}
        await within(link.close(0.05))
        broker.thaw()
        async with asyncio.timeout(20):
            while not stream.is_closing():  # as soon as it has room
                await asyncio.sleep(0.005)
        other = await linked(broker)
        await other.publish("ask.last")
        async with asyncio.timeout(20):
            while "ask.last" not in [message.subject for message in responder.messages[-1_000:]]:
                responder.came.clear()
                await responder.came.wait()
        # The broker reads both connections at once: what the kernel still had of the first may come after that.
        arrived = [message.subject for message in responder.messages if message.subject != "ask.last"]
        assert {fates[subject] for subject in arrived} <= {DeliveryUnknownError}
        assert len(arrived) * size <= max(link_module._MOST_UNCONFIRMED, size)
        await other.close()
        await responder.client.close()

    async def test_closing_while_the_broker_is_frozen(self):
        """It returns in time, and the socket goes when the broker goes on."""
        async with Broker({"max_payload": 60_000_000, "max_pending": 64_000_000}, jetstream=False) as broker:
            before = set(streams())
            link = await linked(broker)
            (stream,) = set(streams()) - before
            broker.freeze()
            with pytest.raises(DeliveryUnknownError):
                await within(link.request("ask.x", b"x" * 50_000_000, None, 0.05))
            assert stream.get_write_buffer_size()  # more than the kernel takes: the driver is stuck
            await within(link.close(0.05))
            assert stream.get_write_buffer_size()
            broker.thaw()
            async with asyncio.timeout(20):
                while not stream.is_closing():
                    await asyncio.sleep(0.005)

    async def test_room_that_does_not_come(self, broker):
        link = await linked(broker)
        broker.freeze()
        asking = [asyncio.create_task(link.request("ask.x", b"x" * 1_000_000, None, 0.05)) for _ in range(64)]
        errors = await within(asyncio.gather(*asking, return_exceptions=True))
        assert {type(error) for error in errors} == {DeliveryUnknownError, NotSentError}
        assert any("has taken in nothing for 0.05 s" in str(error) for error in errors)
        broker.kill()
        await within(link.close())

    async def test_a_burst_beyond_it_is_sent_in_order(self, link, responder):
        asking = [asyncio.create_task(link.request(f"ask.{n}", b"x" * 100_000, None, LONG)) for n in range(100)]
        await within(asyncio.gather(*asking))
        assert [message.subject for message in responder.messages] == [f"ask.{n}" for n in range(100)]

    async def test_a_frozen_broker_and_a_timeout(self, broker):
        link = await linked(broker)
        broker.freeze()
        asking = [asyncio.create_task(link.request("ask.x", b"x" * 1_000_000, None, 0.05)) for _ in range(32)]
        for error in await within(asyncio.gather(*asking, return_exceptions=True)):
            assert type(error) in (DeliveryUnknownError, NotSentError)
        asking = [asyncio.create_task(link.request("ask.x", b"x" * 1_000_000, None, LONG)) for _ in range(32)]
        await asyncio.sleep(0)
        for task in asking:
            task.cancel()
        for error in await within(asyncio.gather(*asking, return_exceptions=True)):
            assert type(error) is asyncio.CancelledError
        assert nothing_waits(link)
        broker.kill()
        await within(link.lost)
        await link.close()

    async def test_closing_ends_what_is_under_way(self, broker, responder):
        link = await linked(broker)
        responder.answers = []
        asking = asyncio.create_task(link.request("ask.x", b"", None, LONG))
        await within(responder.came.wait())
        await link.close()
        await link.close()
        with pytest.raises(DeliveryUnknownError, match="closed"):
            await within(asking)

    async def test_an_error_that_nobody_looks_at_says_nothing(self, broker, link, responder, caplog):
        responder.answers = []
        asking = asyncio.create_task(link.request("ask.x", b"", None, LONG))
        await within(responder.came.wait())
        broker.kill()
        await within(link.lost)
        asking.cancel()
        await asyncio.wait([asking])
        del asking
        gc.collect()
        assert caplog.records == []


class TestPermissions:
    CONFIG = {  # noqa: RUF012
        "authorization": {
            "users": [
                {"user": "all", "password": "x"},
                {"user": "some", "password": "x", "permissions": {"publish": {"deny": ["ask.Secret.>"]}}},
                {"user": "deaf", "password": "x", "permissions": {"subscribe": {"deny": ["_INBOX.>"]}}},
                {"user": "apart", "password": "x", "permissions": {"subscribe": ["_INBOX_apart.>"]}},
            ]
        }
    }

    @pytest.fixture
    async def broker(self):
        async with Broker(self.CONFIG, jetstream=False) as running:
            yield running

    async def test_a_subject_that_is_refused(self, broker):
        responder = await responding(broker, user="all", password="x")
        link = await linked(broker, user="some", password="x")
        allowed = asyncio.create_task(link.request("ask.x", b"", None, LONG))
        with pytest.raises(AccessDeniedError, match=r"refuses: permissions violation for publish to"):
            await within(link.request("ask.Secret.X", b"", None, LONG))
        assert (await within(allowed)).data == b"yes"
        assert link.is_up
        with pytest.raises(AccessDeniedError, match="permissions violation for publish to"):
            await within(link.collect("ask.Secret.Y", b"", LONG))
        assert nothing_waits(link)
        await link.close()
        await responder.client.close()

    async def test_replies_that_are_refused(self, broker):
        responder = await responding(broker, user="all", password="x")
        for user, prefix in (("deaf", "_INBOX"), ("apart", "_INBOX"), ("apart", "_INBOX.apart")):
            link = await linked(broker, user=user, password="x", inbox_prefix=prefix)
            said = rf"permissions violation for subscription to .* Replies come below '{prefix}\.': .* inbox_prefix="
            with pytest.raises(AccessDeniedError, match=said):
                await within(link.request("ask.x", b"", None, LONG))
            await link.close()
        await responder.client.close()

    async def test_an_inbox_of_ones_own(self, broker):
        responder = await responding(broker, user="all", password="x")
        link = await linked(broker, user="apart", password="x", inbox_prefix="_INBOX_apart.here")
        assert (await within(link.request("ask.x", b"", None, LONG))).data == b"yes"
        assert responder.messages[0].reply.startswith("_INBOX_apart.here.")
        await link.close()
        await responder.client.close()


class TestMany:
    async def test_ten_thousand_at_once(self, link, responder):
        async def hear(message: Any) -> None:
            await message.respond(message.data)

        await responder.client.subscribe("echo", cb=hear)
        await sync(responder.client)
        asking = [link.request("echo", str(n).encode(), None, LONG) for n in range(10_000)]
        answers = await within(asyncio.gather(*asking))
        assert [int(message.data) for message in answers] == list(range(10_000))
        assert nothing_waits(link)

    async def test_some_fail_and_some_do_not(self, link, responder):
        responder.answers = [b"yes"]

        async def ask(number: int) -> str:
            subject = "ask.x" if number % 3 else "nobody"
            try:
                return (await link.request(subject, b"", None, LONG)).data.decode()
            except NotDeliveredError:
                return "nobody"

        answers = await within(asyncio.gather(*map(ask, range(1_000))))
        assert answers == ["yes" if number % 3 else "nobody" for number in range(1_000)]
        assert nothing_waits(link)


async def test_answers_that_were_dropped_are_missed(link, responder):
    """An answer of several messages that may have a gap ends in an error; a drop elsewhere does not concern it."""
    responder.answers = []
    told = []
    link.on_dropped = lambda: told.append(1)
    asking = asyncio.create_task(link.collect("ask.x", b"", LONG))
    await within(responder.came.wait())
    link.dropped("grctl_run.W.w.r.info")
    assert len(list(link.replies)) == 1
    link.dropped(f"{link.inbox}.s7")
    with pytest.raises(DeliveryUnknownError, match="dropped"):
        await within(asking)
    assert told == [1, 1]


async def test_subscriptions(link, responder):
    heard = []
    got = asyncio.Event()

    async def hear(message: Any) -> None:
        heard.append(message.data)
        got.set()

    end = await link.subscribe("news", hear)
    await link.publish("news", b"1")
    await within(got.wait())
    await end()
    await link.publish("news", b"2")
    await link.request("ask.x", b"", None, LONG)
    assert heard == [b"1"]


async def test_subscribing_does_not_look_at_all_tasks(link, responder, monkeypatch):
    """There may be ten thousands, and as many subscribers."""
    looks = []
    monkeypatch.setattr(asyncio, "all_tasks", lambda *_: looks.append(1) or set())
    for _ in range(3):
        await (await link.subscribe("news", responder.hear))()
    assert looks == []
    monkeypatch.undo()


async def test_subscriptions_end_with_the_link(broker, monkeypatch):
    """The driver leaves their tasks behind where it is stuck."""
    monkeypatch.setattr(dial_module, "_PING_EVERY", 0.05)
    monkeypatch.setattr(link_module, "_WATCH_EVERY", 0.05)
    link = await linked(broker)

    async def hear(_: Any) -> None: ...

    before = asyncio.all_tasks()
    for n in range(5):
        await link.subscribe(f"news.{n}", hear)
    pumps = asyncio.all_tasks() - before
    assert len(pumps) == 5
    broker.freeze()
    asking = [asyncio.create_task(link.request("ask.x", b"x" * 1_000_000, None, LONG)) for _ in range(64)]
    await within(asyncio.gather(*asking, return_exceptions=True))
    await within(asyncio.wait(pumps))
    await within(link.close(0.05))
    broker.kill()


async def test_unsubscribing_where_the_driver_has_closed_halfway(link):
    """A broken connection breaks its closing too: it is closed by its own word, and its subscriptions go on."""

    async def hear(_: Any) -> None: ...

    before = asyncio.all_tasks()
    unsubscribe = await link.subscribe("news", hear)
    pumps = asyncio.all_tasks() - before
    status, link._client._status = link._client._status, link._client.CLOSED
    try:
        await unsubscribe()
        await within(asyncio.wait(pumps))
    finally:
        link._client._status = status


async def test_numbers_rise(broker):
    first, second = await linked(broker), await linked(broker)
    assert second.number > first.number
    await first.close()
    await second.close()
