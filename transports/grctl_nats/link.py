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
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from grctl_core.errors import (
    AccessDeniedError,
    GrctlError,
    InvalidInputError,
    NotDeliveredError,
    NotSentError,
)
from grctl_core.safe_text import one_line
from grctl_nats.replies import Replies

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

_MOST_UNCONFIRMED = 512 * 1024
"""Bytes that may be under way without the broker having said that it has come so far; or one message that is larger.
More waits here, where it can be taken back. What a lost link has handed over is taken in when a broker that only hung
goes on: nobody can call it back from the driver, and even less from the kernel. What the driver says that it holds is
not enough to go by: the event loop of Python 3.12.1 and 3.13.0 takes whatever the driver gives it, without a bound."""
_ROOM_WITHIN = 5.0
"""Seconds that a message without a timeout of its own waits for that."""
_ASKED_TO_CONFIRM = "$JS.API.DIRECT.GET.grctl_state.grctl_registry.-"
"""What is asked to learn how far the broker has come: any answer does, a refusal too. Every client may ask it."""

_MOST_SAID = 300  # characters of the broker's words on why it ends a connection
_HEADER_FRAME = 12  # "NATS/1.0\r\n" and the closing "\r\n"
_NUMBERS = itertools.count(1)
_ENDS_A_TOKEN = re.compile(r"[\x00-\x20\x7f]").search


class Link:
    """One connection to a broker, with the replies to what was asked over it.

    Attributes:
        number: counts the links of this process.
        server: the broker's address.
        inbox: the subject below which the replies come.
        replies: who waits for what.
        on_dropped: called for each message that the driver dropped, as it came faster than it was taken in.
        on_hints_refused: called with each subject of :meth:`subscribe` that the broker refuses to let us hear.
        on_unheard_refusal: called with subject and message where nobody waits for what the broker refuses.
        on_lost: called once, in the moment in which the loss is first seen, whoever sees it.
        lost: done when the connection is; nothing is sent from then on.
        max_payload: the largest message that the broker takes, headers included, in bytes.
        refusals: the broker's words on subjects that it refused, in lower case; the last hundred.
    """

    def __init__(self, client: NatsClient, server: str, inbox: str) -> None:
        self.inbox = inbox
        self.on_dropped: Callable[[], None] | None = None
        self.on_hints_refused: Callable[[str], None] | None = None
        self.on_unheard_refusal: Callable[[str, str], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self.number = next(_NUMBERS)
        self.server = server
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.max_payload = client.max_payload
        self.refusals: collections.deque[str] = collections.deque(maxlen=100)
        self._client = client
        self.replies = Replies(inbox, server, self.number)
        self._watchdog: asyncio.TimerHandle | None = None
        self._subscriptions: set[Subscription] = set()
        self._hearers: dict[str, list[Callable[[], None]]] = {}
        self._told: dict[object, tuple[tuple[str, ...], Callable[[AccessDeniedError], None]]] = {}
        self._queue = asyncio.Lock()
        self._sent = self._confirmed = 0
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
        await self._subscribe(f"{self.inbox}.*", self.replies.take)
        for task in _tasks_of({id(self._client)}):
            task.add_done_callback(self._driver_ended, context=contextvars.Context())
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
        if refused is not None:
            self._hearers.setdefault(subject, []).append(refused)

        def forget() -> None:
            hearers = self._hearers.get(subject, [])
            if refused in hearers:
                hearers.remove(refused)
            if not hearers:
                self._hearers.pop(subject, None)

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
        _check_subject(subject)
        subscription = await self._client.subscribe(subject, cb=callback)
        self._subscriptions.add(subscription)
        if self.lost.done():
            self._end_pumps()
        return subscription

    async def request(
        self, subject: str, body: bytes | memoryview, headers: dict[str, str] | None, timeout: float
    ) -> Msg:
        """Send a request and return the one reply.

        Args:
            subject: where to.
            body: what to send; as a memoryview it is in no traceback that shows local variables.
            headers: message headers; None for none, as an empty map still costs a frame.
            timeout: seconds from the sending; as many again may go by before it, where the broker takes in nothing.

        Raises:
            InvalidInputError: body and headers are too large for the broker.
            NotSentError: nothing was sent: the link is lost, or the broker takes in nothing.
            NotDeliveredError: nobody listens there.
            DeliveryUnknownError: it was sent, and no reply came; in time, or before the link was lost.
            AccessDeniedError: the broker refuses the subject.

        """
        waiting = self.replies.expect(subject, timeout)
        try:
            await self._publish(subject, body, headers, f"{self.inbox}.{waiting.token}", timeout)
            waiting.sent = self._sent
            self.replies.sent(waiting)
            message: Msg = await waiting.reply
        finally:
            self.replies.forget(waiting)
        self._confirmed = max(self._confirmed, waiting.sent)
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
        collecting = self.replies.collect(subject, timeout)
        try:
            await self._publish(subject, body, None, f"{self.inbox}.{collecting.token}")
            self.replies.sent(collecting)
            await collecting.reply
        finally:
            self.replies.forget(collecting)
        return collecting.messages

    @contextlib.contextmanager
    def telling_of_refusals(self, told: Callable[[AccessDeniedError], None], *subjects: str) -> Iterator[None]:
        """Have it told where the broker refuses what :meth:`publish` and :meth:`subscribe` do with these subjects."""
        key = object()
        self._told[key] = (subjects, told)
        try:
            yield
        finally:
            del self._told[key]

    async def publish(self, subject: str, body: bytes = b"", reply_to: str = "") -> None:
        """Send a message; answers go to a subject of the caller's own, if at all.

        Where the broker refuses it ``on_unheard_refusal`` is called, unless somebody is told of it.

        Raises:
            NotSentError: nothing was sent.

        """
        await self._publish(subject, body, None, reply_to)

    def denied(self, text: str) -> None:
        """Take the broker's word that a subject is refused: whoever waits for an answer from there hears it.

        The driver hands the word on in lower case.
        """
        text = one_line(text.lower())
        self.refusals.append(text)
        said = f"the broker {self.server} refuses: {text.removeprefix('nats: ')}. Have its administrator permit it"
        no_replies = _as_refused(f"{self.inbox}.*") in text  # no answer to anything can come
        if no_replies:
            said += (
                f". Replies come below '{self.inbox.rpartition('.')[0]}.': where the login may listen below another "
                "prefix pass it as inbox_prefix="
            )
        asking = [tell for subject, tell in self._asking() if no_replies or _as_refused(subject) in text]
        for tell in asking:
            tell(AccessDeniedError(said))
        deaf = [subject for subject in self._hearers if _as_refused(subject) in text]
        for subject in deaf:
            for hearer in list(self._hearers[subject]):
                hearer()
            if self.on_hints_refused is not None:
                self.on_hints_refused(subject)
        if not asking and not deaf and self.on_unheard_refusal is not None:
            self.on_unheard_refusal(text.partition('"')[2].rpartition('"')[0], said)

    def _asking(self) -> Iterator[tuple[str, Callable[[AccessDeniedError], object]]]:
        """Return who wants to hear that a subject is refused, with the subject."""
        for waiting in self.replies:
            yield waiting.subject, waiting.reply.set_exception
        for subjects, told in self._told.values():
            for subject in subjects:
                yield subject, told

    def lose(self, why: str) -> None:
        """Note that the connection is lost: what waits for a reply is in doubt."""
        if self.lost.done():
            return
        self.lost.set_result(None)
        if self._watchdog is not None:
            self._watchdog.cancel()
        why = one_line(why, _MOST_SAID)
        self.replies.lose(f"the connection to {self.server} was lost before the reply came ({why})")
        self._end_pumps()
        if self.on_lost is not None:
            self.on_lost()

    def _end_pumps(self) -> None:
        """End the tasks that the driver has made for the subscriptions, one for each.

        It forgets to where it is stuck in sending to a peer that does not read, and does not show them.
        """
        for task in _tasks_of({id(subscription) for subscription in self._subscriptions}):
            task.cancel()
        self._subscriptions.clear()

    def _driver_ended(self, _: asyncio.Task[None]) -> None:
        """Note that a task of the driver's has ended: without reading, writing and pings there is no connection.

        What it cannot read ends its reading without a word: a subject that is not UTF-8, a header block that is none.
        """
        if not self.lost.done():
            self.lose(str(self._client.last_error or "the driver has stopped"))

    def dropped(self, subject: str) -> None:
        """Note that the driver has dropped a message of a subject, as it came faster than it was taken in."""
        if subject.startswith(f"{self.inbox}."):
            self.replies.dropped()
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
        _LEFT.add(closing)
        closing.add_done_callback(_let_go, context=contextvars.Context())
        await asyncio.wait([closing], timeout=timeout)

    async def _publish(
        self,
        subject: str,
        body: bytes | memoryview,
        headers: dict[str, str] | None,
        reply_to: str,
        within: float = _ROOM_WITHIN,
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
        await self._hand_over(subject, body, headers, reply_to, size)

    async def _hand_over(
        self, subject: str, body: bytes | memoryview, headers: dict[str, str] | None, reply_to: str, size: int
    ) -> None:
        self._sent += size
        try:
            await self._client.publish(
                subject,
                body,  # type: ignore[arg-type]  # any bytes do
                reply=reply_to,
                headers=headers or None,
            )
        except Exception as error:
            from nats.errors import BadHeaderError

            if isinstance(error, BadHeaderError):
                raise InvalidInputError(f"this cannot be sent: {error}") from error
            raise NotSentError(f"not sent: the connection to {self.server} failed ({error!r})") from error

    def _has_room(self, size: int) -> bool:
        unconfirmed = self._sent - self._confirmed
        return not unconfirmed or unconfirmed + size <= _MOST_UNCONFIRMED

    async def _wait_for_room(self, size: int, within: float) -> None:
        """Queue until the broker has taken in what was sent before."""
        try:
            async with asyncio.timeout(within), self._queue:
                while not self._has_room(size):
                    await self._confirm(within)
        except TimeoutError:
            raise NotSentError(
                f"not sent: {self.server} has taken in nothing for {within:g} s. Is it overloaded or stopped?"
            ) from None
        self._check_up()

    async def _confirm(self, within: float) -> None:
        """Have the broker answer behind all that was sent so far.

        Not by the driver's flush: where that is given up, the answer that still comes ends the driver's reading.
        """
        asking = self.replies.expect(_ASKED_TO_CONFIRM, within)
        sent = self._sent
        try:
            await self._hand_over(_ASKED_TO_CONFIRM, b"", None, f"{self.inbox}.{asking.token}", 0)
            with contextlib.suppress(AccessDeniedError):
                await asking.reply
        except GrctlError as error:
            self._check_up()
            raise TimeoutError from error
        finally:
            self.replies.forget(asking)
        self._confirmed = max(self._confirmed, sent)

    def _check_up(self) -> None:
        if not self.is_up:
            raise NotSentError(f"not sent: the connection to {self.server} is lost")

    def _watch(self) -> None:
        if self.is_up:
            self._watchdog = asyncio.get_running_loop().call_later(_WATCH_EVERY, self._watch)


def _tasks_of(owners: set[int]) -> list[asyncio.Task[None]]:
    """Return the tasks that run a method of one of these objects of the driver, which does not show them."""
    return [
        task
        for task in (asyncio.all_tasks() if owners else ())
        if inspect.iscoroutine(coroutine := task.get_coro())
        and id(inspect.getcoroutinelocals(coroutine).get("self")) in owners
    ]


_LEFT: set[asyncio.Task[None]] = set()
"""Held until they are done, as the loop does not."""


def _let_go(task: asyncio.Task[None]) -> None:
    _LEFT.discard(task)
    if not task.cancelled():
        task.exception()  # seen: whatever it is, who waited for it knows enough


def _check_subject(subject: str) -> None:
    """Refuse what would end the line that a subject stands in: the rest of it would be read as a command."""
    if not subject or _ENDS_A_TOKEN(subject) is not None:
        raise InvalidInputError(f"this cannot be sent: {subject!a} is no NATS subject")


def _as_refused(subject: str) -> str:
    """Return a subject as the broker names one that it refuses: quoted as Go does; in small letters by the driver."""
    quoted = subject.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'.lower()


def _check_responders(message: Msg, subject: str) -> None:
    if message.headers and message.headers.get("Status") == "503":
        raise NotDeliveredError(f"no server listens on {subject!r}: is a Ground Control server running on this broker?")
