"""Link: one connection to a broker, from its login to its loss. It never reconnects: a new link does that.

nats-py's own reconnecting buffers, replays and sometimes gives up for good; with a client per link nothing that was
held back is ever sent later, and every loss is final for the link that it happens to.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import inspect
import itertools
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from grctl_core.errors import (
    AccessDeniedError,
    DeliveryUnknownError,
    GrctlError,
    InvalidInputError,
    NotDeliveredError,
    NotSentError,
)

if TYPE_CHECKING:
    from nats.aio.client import Client as NatsClient
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

__all__ = ["Link", "MessageCallback"]

MessageCallback = Callable[["Msg"], Awaitable[None]]

_log = logging.getLogger("grctl.nats")
_log.addHandler(logging.NullHandler())

_WATCH_EVERY = 0.5
"""Seconds between two looks at whether the driver still has its connection: it can close without saying so at once,
stuck in flushing to a peer that does not read."""

_MOST_UNSENT = 512 * 1024
"""Bytes that may lie at the driver unsent; more waits here, where it can be taken back. What a lost link still holds is
sent when a broker that only hung goes on: nobody can call it back from the driver, and even less from the kernel. The
driver holds twice this at most, or two messages where these are larger: as much again may be stuck in its writing."""
_ROOM_WITHIN = 5.0
"""Seconds that a message without a timeout of its own waits for that."""
_LONGEST_PAUSE = 0.02

_HEADER_FRAME = 12  # "NATS/1.0\r\n" and the closing "\r\n"
_REMEMBERED = 10_000
_NUMBERS = itertools.count(1)


class _Waiting:
    """A request that waits for its reply.

    Attributes:
        subject: where it went.
        reply: what the caller waits for.
        timeout: seconds that it may take.
        until: when it is given up, by the event loop's clock.
    """

    __slots__ = ("reply", "subject", "timeout", "until")

    OVERDUE = "has not answered"

    def __init__(self, subject: str, reply: asyncio.Future[Any], timeout: float) -> None:
        self.subject = subject
        self.reply = reply
        self.timeout = timeout
        self.until = math.inf

    def take(self, message: Msg) -> None:
        """Take what came."""
        self.reply.set_result(message)


class _Collecting(_Waiting):
    """A request that waits for several messages.

    Attributes:
        messages: those that came.
    """

    __slots__ = ("messages",)

    OVERDUE = "has not gone on with its answer"

    def __init__(self, subject: str, reply: asyncio.Future[None], timeout: float) -> None:
        super().__init__(subject, reply, timeout)
        self.messages: list[Msg] = []

    def take(self, message: Msg) -> None:
        """Take one more; it is the last one where it has a status."""
        self.messages.append(message)
        self.until = self.reply.get_loop().time() + self.timeout
        if message.headers and "Status" in message.headers:
            self.reply.set_result(None)


class Link:
    """One connection to a broker, with the replies to what was asked over it.

    Attributes:
        number: counts the links of this process.
        server: the broker's address.
        inbox: the subject below which the replies come.
        on_second_reply: called when a request was answered twice (docs/protocol.md, section 8, 10).
        on_dropped: called for each message that the driver dropped, as it came faster than it was taken in.
        on_hints_refused: called with each subject of :meth:`subscribe` that the broker refuses to let us hear.
        on_lost: called once, in the moment in which the loss is first seen, whoever sees it.
        lost: done when the connection is; nothing is sent from then on.
        max_payload: the largest message that the broker takes, headers included, in bytes.
        refusals: the broker's words on subjects that it refused, in lower case; the last hundred.
    """

    def __init__(self, client: NatsClient, server: str, inbox: str) -> None:
        self.inbox = inbox
        self.on_second_reply: Callable[[], None] | None = None
        self.on_dropped: Callable[[], None] | None = None
        self.on_hints_refused: Callable[[str], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self.number = next(_NUMBERS)
        self.server = server
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.max_payload = client.max_payload
        self.refusals: collections.deque[str] = collections.deque(maxlen=100)
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._tokens = itertools.count()
        self._waiting: dict[str, _Waiting] = {}
        self._expiry: asyncio.TimerHandle | None = None  # one for all that wait
        self._expires = math.inf  # when it fires
        self._streams: dict[str, tuple[str, asyncio.Queue[Msg | GrctlError]]] = {}
        self._given_up: dict[str, None] = {}
        self._watchdog: asyncio.TimerHandle | None = None
        self._subscriptions: set[Subscription] = set()
        self._hearers: dict[str, list[Callable[[], None]]] = {}
        self._queue = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Link {self.number} to {self.server}, {'lost' if self.lost.done() else 'up'}>"

    @property
    def is_up(self) -> bool:
        """Whether something can be sent. That the driver has closed without a word is noted as a loss."""
        if self._client.is_connected:
            return not self.lost.done()
        self.lose("the driver closed it")
        return False

    async def open(self) -> None:
        """Begin to listen for replies."""
        await self._subscribe(f"{self.inbox}.*", self._replied)
        self._watch()

    async def subscribe(
        self, subject: str, callback: MessageCallback, refused: Callable[[], None] | None = None
    ) -> Callable[[], Awaitable[None]]:
        """Subscribe until the link is lost; returns what ends it.

        Args:
            subject: what to hear.
            callback: called with each message.
            refused: called when the broker says that we may not hear it, which it does later.

        Raises:
            NotSentError: the link is lost.

        """
        self._check_up()
        key = subject.lower()
        if refused is not None:
            self._hearers.setdefault(key, []).append(refused)

        def forget() -> None:
            hearers = self._hearers.get(key, [])
            if refused in hearers:
                hearers.remove(refused)
            if not hearers:
                self._hearers.pop(key, None)

        try:
            subscription = await self._subscribe(subject, callback)
        except BaseException:
            forget()
            raise

        async def unsubscribe() -> None:
            forget()
            self._subscriptions.discard(subscription)
            with contextlib.suppress(Exception):  # a lost link has no subscriptions
                await subscription.unsubscribe()

        return unsubscribe

    async def _subscribe(self, subject: str, callback: MessageCallback) -> Subscription:
        _check_subject(subject)
        subscription = await self._client.subscribe(subject, cb=callback)
        self._subscriptions.add(subscription)
        if self.lost.done():
            self._end_pumps()
        return subscription

    async def request(self, subject: str, body: bytes, headers: dict[str, str] | None, timeout: float) -> Msg:
        """Send a request and return the one reply.

        Args:
            subject: where to.
            body: what to send.
            headers: message headers; None for none, as an empty map still costs a frame.
            timeout: seconds from the sending; as many again may go by before it, where the broker takes in nothing.

        Raises:
            InvalidInputError: body and headers are too large for the broker.
            NotSentError: nothing was sent: the link is lost, or the broker takes in nothing.
            NotDeliveredError: nobody listens there.
            DeliveryUnknownError: it was sent, and no reply came; in time, or before the link was lost.
            AccessDeniedError: the broker refuses the subject.

        """
        token = str(next(self._tokens))
        reply: asyncio.Future[Msg] = self._loop.create_future()
        waiting = self._waiting[token] = _Waiting(subject, reply, timeout)
        try:
            await self._publish(subject, body, headers, f"{self.inbox}.{token}", timeout)
            self._begin_waiting(waiting)
            message = await reply
        except BaseException:
            # Looking at its exception says that it was seen, also where the caller was cancelled in the same moment.
            if not reply.done() or reply.cancelled() or reply.exception() is not None:
                self._give_up(token)
            raise
        finally:
            del self._waiting[token]
        if not message.data:
            _check_responders(message, subject)
        return message

    async def collect(self, subject: str, body: bytes, timeout: float) -> list[Msg]:
        """Send a request that several messages answer, and return them; the last is the first that has a status.

        Args:
            subject: where to.
            body: what to send.
            timeout: seconds that each message may take after the one before.

        Raises:
            NotSentError, DeliveryUnknownError, AccessDeniedError: as :meth:`request`.

        """
        token = f"s{next(self._tokens)}"  # any number of answers: none of them is a second one
        all_came: asyncio.Future[None] = self._loop.create_future()
        collecting = self._waiting[token] = _Collecting(subject, all_came, timeout)
        try:
            await self._publish(subject, body, None, f"{self.inbox}.{token}")
            self._begin_waiting(collecting)
            await all_came
        except BaseException:
            if all_came.done() and not all_came.cancelled():
                all_came.exception()  # seen, also where the caller was cancelled in the same moment
            raise
        finally:
            del self._waiting[token]
        return collecting.messages

    def _begin_waiting(self, waiting: _Waiting) -> None:
        waiting.until = until = self._loop.time() + waiting.timeout
        if until < self._expires:
            self._expire_at(until)

    @contextlib.asynccontextmanager
    async def stream(self, subject: str, body: bytes) -> AsyncIterator[asyncio.Queue[Msg | GrctlError]]:
        """Send a request that several messages answer; an error in the queue says that no more of them come."""
        token = f"s{next(self._tokens)}"  # any number of answers: none of them is a second one
        queue: asyncio.Queue[Msg | GrctlError] = asyncio.Queue()
        self._streams[token] = (subject, queue)
        try:
            await self._publish(subject, body, None, f"{self.inbox}.{token}")
            yield queue
        finally:
            self._streams.pop(token, None)

    async def publish(self, subject: str, body: bytes = b"", reply_to: str = "") -> None:
        """Send a message; answers go to a subject of the caller's own, if at all.

        Raises:
            NotSentError: nothing was sent.

        """
        await self._publish(subject, body, None, reply_to)

    def denied(self, text: str) -> None:
        """Take the broker's word that a subject is refused: whoever waits for an answer from there hears it.

        The driver hands the word on in lower case.
        """
        text = text.lower()
        self.refusals.append(text)
        said = f"the broker {self.server} refuses: {text.removeprefix('nats: ')}. Have its administrator permit it"
        no_replies = f'"{self.inbox}.*"'.lower() in text  # no answer to anything can come
        if no_replies:
            said += (
                f". Replies come below '{self.inbox.rpartition('.')[0]}.': where the login may listen below another "
                "prefix pass it as inbox_prefix="
            )
        for waiting in self._waiting.values():
            if (no_replies or f'"{waiting.subject}"'.lower() in text) and not waiting.reply.done():
                waiting.reply.set_exception(AccessDeniedError(said))
        refused = text.partition('subscription to "')[2].partition('"')[0]
        if hearers := list(self._hearers.get(refused, ())):
            for hearer in hearers:
                hearer()
            if self.on_hints_refused is not None:
                self.on_hints_refused(refused)
        for subject, queue in list(self._streams.values()):
            if no_replies or f'"{subject}"'.lower() in text:
                queue.put_nowait(AccessDeniedError(said))

    def lose(self, why: str) -> None:
        """Note that the connection is lost: what waits for a reply is in doubt."""
        if self.lost.done():
            return
        self.lost.set_result(None)
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._expiry is not None:
            self._expiry.cancel()
        self._expires = -math.inf  # never armed again
        text = f"the connection to {self.server} was lost before the reply came ({why})"
        for waiting in self._waiting.values():
            if not waiting.reply.done():
                waiting.reply.set_exception(DeliveryUnknownError(text, link=self.number))
        for _, queue in self._streams.values():
            queue.put_nowait(DeliveryUnknownError(text, link=self.number))
        self._end_pumps()
        if self.on_lost is not None:
            self.on_lost()

    def _end_pumps(self) -> None:
        """End the tasks that the driver has made for the subscriptions, one for each.

        It forgets to where it is stuck in sending to a peer that does not read, and does not show them.
        """
        ours = {id(subscription) for subscription in self._subscriptions}
        for task in asyncio.all_tasks() if ours else ():
            coroutine = task.get_coro()
            if inspect.iscoroutine(coroutine) and id(inspect.getcoroutinelocals(coroutine).get("self")) in ours:
                task.cancel()
        self._subscriptions.clear()

    def dropped(self, subject: str) -> None:
        """Note that the driver has dropped a message of a subject, as it came faster than it was taken in."""
        if subject.startswith(f"{self.inbox}."):
            text = "answers of the broker were dropped"  # of any of them, and each would have a gap
            for _, queue in self._streams.values():
                queue.put_nowait(DeliveryUnknownError(text, link=self.number))
            for waiting in self._waiting.values():
                if isinstance(waiting, _Collecting) and not waiting.reply.done():
                    waiting.reply.set_exception(DeliveryUnknownError(text, link=self.number))
        if self.on_dropped is not None:
            self.on_dropped()

    async def close(self, timeout: float = 2.0) -> None:
        """Close the connection; what still waits for a reply is in doubt.

        It goes on when its caller is cancelled, or the peer takes in nothing and the time is over: half closed the
        socket would stay open, as the driver closes once.
        """
        self.lose("closed")
        if self._closing is None:
            closing = self._close(timeout)
            self._closing = asyncio.get_running_loop().create_task(closing, context=contextvars.Context())
        await asyncio.shield(self._closing)

    async def _close(self, timeout: float) -> None:
        closing = asyncio.get_running_loop().create_task(self._client.close(), context=contextvars.Context())
        _CLOSING.add(closing)
        closing.add_done_callback(_closed, context=contextvars.Context())
        await asyncio.wait([closing], timeout=timeout)

    async def _publish(
        self, subject: str, body: bytes, headers: dict[str, str] | None, reply_to: str, within: float = _ROOM_WITHIN
    ) -> None:
        _check_subject(subject)
        size = len(body)
        if headers:
            size += _HEADER_FRAME + sum(len(key) + len(value.encode()) + 4 for key, value in headers.items())
        if size > self.max_payload:
            raise InvalidInputError(
                f"the message has {size} bytes with its headers, and the broker takes {self.max_payload}: send less, "
                "for example a reference to where the data lies"
            )
        self._check_up()
        if self._queue.locked() or not self._has_room(size):
            await self._wait_for_room(size, within)
        try:
            await self._client.publish(subject, body, reply=reply_to, headers=headers or None)
        except Exception as error:
            from nats.errors import BadHeaderError

            if isinstance(error, BadHeaderError):
                raise InvalidInputError(f"this cannot be sent: {error}") from error
            raise NotSentError(f"not sent: the connection to {self.server} failed ({error!r})") from error

    def _has_room(self, size: int) -> bool:
        unsent = self._client.pending_data_size
        return not unsent or unsent + size <= _MOST_UNSENT

    async def _wait_for_room(self, size: int, within: float) -> None:
        """Queue until the driver may have a message; the driver does not say when, so it is asked again and again."""
        pause = 0.0
        try:
            async with asyncio.timeout(within), self._queue:
                while not self._has_room(size):
                    await asyncio.sleep(pause)
                    self._check_up()
                    pause = min(pause * 2 + 0.001, _LONGEST_PAUSE)
        except TimeoutError:
            raise NotSentError(
                f"not sent: {self.server} has taken in nothing for {within:g} s. Is it overloaded or stopped?"
            ) from None
        self._check_up()

    def _check_up(self) -> None:
        if not self.is_up:
            raise NotSentError(f"not sent: the connection to {self.server} is lost")

    async def _replied(self, message: Msg) -> None:
        token = message.subject[len(self.inbox) + 1 :]
        waiting = self._waiting.get(token)
        if waiting is not None and not waiting.reply.done():
            waiting.take(message)
        elif (stream := self._streams.get(token)) is not None:
            stream[1].put_nowait(message)
        elif token in self._given_up:
            del self._given_up[token]  # late, and nobody waits for it any more
        elif self.on_second_reply is not None and token.isdigit() and not _is_failed(waiting):
            self.on_second_reply()

    def _give_up(self, token: str) -> None:
        """Remember whose reply may still come, so that it is not taken for a second one."""
        self._given_up[token] = None
        if len(self._given_up) > _REMEMBERED:
            del self._given_up[next(iter(self._given_up))]

    def _expire_at(self, when: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expires = when
        # In an empty context: it outlives the request that arms it, and would keep that one's span.
        self._expiry = self._loop.call_at(when, self._expire, context=contextvars.Context())

    def _expire(self) -> None:
        """End the requests whose time is over, and come back for the next. Those that were answered are not there.

        One timer for all: a timer for each request, which is almost never needed, costs as much as encoding it does.
        """
        self._expiry, self._expires = None, math.inf
        now = self._loop.time()
        for waiting in self._waiting.values():
            if waiting.until > now:
                self._expires = min(self._expires, waiting.until)
            elif not waiting.reply.done():
                text = f"{self.server} {waiting.OVERDUE} within {waiting.timeout:g} s"
                waiting.reply.set_exception(DeliveryUnknownError(text, link=self.number))
        if self._expires < math.inf:
            self._expire_at(self._expires)

    def _watch(self) -> None:
        if self.is_up:
            self._watchdog = asyncio.get_running_loop().call_later(_WATCH_EVERY, self._watch)


def _check_subject(subject: str) -> None:
    """Refuse what would end the line that a subject stands in: the rest of it would be read as a command."""
    if not subject or " " in subject or not subject.isprintable():
        raise InvalidInputError(f"this cannot be sent: {subject!a} is no NATS subject")


_CLOSING: set[asyncio.Task[None]] = set()
"""Held until they are done, as the loop does not."""


def _closed(closing: asyncio.Task[None]) -> None:
    _CLOSING.discard(closing)
    if not closing.cancelled():
        closing.exception()  # seen: whatever it is, the link is gone


def _is_failed(waiting: _Waiting | None) -> bool:
    """Whether a request has just ended without a reply, and its caller has not heard of it yet."""
    return waiting is not None and (waiting.reply.cancelled() or waiting.reply.exception() is not None)


def _check_responders(message: Msg, subject: str) -> None:
    if message.headers and message.headers.get("Status") == "503":
        raise NotDeliveredError(f"no server listens on {subject!r}: is a Ground Control server running on this broker?")
