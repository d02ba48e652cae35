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
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

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
        self._tokens = itertools.count()
        self._waiting: dict[str, tuple[str, asyncio.Future[Msg]]] = {}
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
            if subscription not in self._subscriptions:
                return  # it has ended with the link
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()
            if self.is_up:  # else it has ended now, with the link: the driver ends nothing once it calls itself closed
                self._subscriptions.discard(subscription)

        return unsubscribe

    async def _subscribe(self, subject: str, callback: MessageCallback) -> Subscription:
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
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Msg] = loop.create_future()
        self._waiting[token] = (subject, reply)
        try:
            await self._publish(subject, body, headers, f"{self.inbox}.{token}", timeout)
            # A timer that is cancelled stays in the loop for a while, and would keep the caller's context so long.
            timer = loop.call_later(timeout, self._expire, reply, timeout, context=contextvars.Context())
            try:
                message = await reply
            finally:
                timer.cancel()
        finally:
            self._waiting.pop(token, None)
            if not reply.done() or reply.cancelled() or reply.exception() is not None:
                self._give_up(token)
            if reply.done() and not reply.cancelled():
                reply.exception()  # seen, also where the caller was cancelled in the same moment
        _check_responders(message, subject)
        return message

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
        for subject, reply in list(self._waiting.values()):
            if (no_replies or f'"{subject}"'.lower() in text) and not reply.done():
                reply.set_exception(AccessDeniedError(said))
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
        text = f"the connection to {self.server} was lost before the reply came ({why})"
        for _, reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(DeliveryUnknownError(text, link=self.number))
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
            for _, queue in self._streams.values():  # it may have been of any of them, and each would have a gap
                queue.put_nowait(DeliveryUnknownError("answers of the broker were dropped", link=self.number))
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
            from nats.errors import BadHeaderError, BadSubjectError

            if isinstance(error, BadHeaderError | BadSubjectError):
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
        if waiting is not None and not waiting[1].done():
            waiting[1].set_result(message)
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

    def _expire(self, reply: asyncio.Future[Msg], timeout: float) -> None:
        if not reply.done():
            reply.set_exception(
                DeliveryUnknownError(f"{self.server} has not answered within {timeout:g} s", link=self.number)
            )

    def _watch(self) -> None:
        if self.is_up:
            self._watchdog = asyncio.get_running_loop().call_later(_WATCH_EVERY, self._watch)


_CLOSING: set[asyncio.Task[None]] = set()
"""Held until they are done, as the loop does not."""


def _closed(closing: asyncio.Task[None]) -> None:
    _CLOSING.discard(closing)
    if not closing.cancelled():
        closing.exception()  # seen: whatever it is, the link is gone


def _is_failed(waiting: tuple[str, asyncio.Future[Msg]] | None) -> bool:
    """Whether a request has just ended without a reply, and its caller has not heard of it yet."""
    return waiting is not None and (waiting[1].cancelled() or waiting[1].exception() is not None)


def _check_responders(message: Msg, subject: str) -> None:
    if not message.data and message.headers and message.headers.get("Status") == "503":
        raise NotDeliveredError(f"no server listens on {subject!r}: is a Ground Control server running on this broker?")
