"""Replies: who waits for which answer over one link, told apart by the last token of the subject it comes to."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from grctl_core.errors import DeliveryUnknownError, GrctlError

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["Collecting", "Replies", "Waiting"]

_REMEMBERED = 10_000
_LATE = 0.05
"""Seconds by which the timer may be late, and for which it waits where it is later: the event loop was held up then,
and answers that came in time lie unread. A hundred thousand calls in one turn hold it up for longer than a timeout."""
_MOST_WAITS = 40
"""How often in a row it waits at the most: a loop that is held up for ever has timeouts too."""


class Waiting:
    """A request that waits for its reply.

    Attributes:
        subject: where it went.
        token: where its reply comes.
        reply: what the caller waits for.
        timeout: seconds that it may take.
        until: when it is given up, by the event loop's clock; set when it has been sent.
        sent: how many bytes the link had handed over with it.
    """

    __slots__ = ("reply", "sent", "subject", "timeout", "token", "until")

    OVERDUE = "has not answered"

    def __init__(self, subject: str, token: str, reply: asyncio.Future[Any], timeout: float) -> None:
        self.subject = subject
        self.token = token
        self.reply = reply
        self.timeout = timeout
        self.until = math.inf
        self.sent = 0

    def take(self, message: Msg) -> None:
        """Take what came."""
        self.reply.set_result(message)


class Collecting(Waiting):
    """A request that waits for several messages.

    Attributes:
        messages: those that came.
    """

    __slots__ = ("messages",)

    OVERDUE = "has not gone on with its answer"

    def __init__(self, subject: str, token: str, reply: asyncio.Future[None], timeout: float) -> None:
        super().__init__(subject, token, reply, timeout)
        self.messages: list[Msg] = []

    def take(self, message: Msg) -> None:
        """Take one more; it is the last one where it has a status."""
        self.messages.append(message)
        self.until = self.reply.get_loop().time() + self.timeout
        if message.headers and "Status" in message.headers:
            self.reply.set_result(None)


class Replies:
    """Those who wait for an answer over one link.

    Args:
        inbox: the subject below which the answers come.
        server: the broker's address, for errors.
        link: the link's number, for errors.

    Attributes:
        on_second: called when a request was answered twice (docs/protocol.md, section 8, 10).
    """

    def __init__(self, inbox: str, server: str, link: int) -> None:
        self.on_second: Callable[[], None] | None = None
        self._after = len(inbox) + 1
        self._server = server
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count()
        self._waiting: dict[str, Waiting] = {}
        self._given_up: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None  # one for all that wait
        self._fires = math.inf  # when it does
        self._waits = 0  # of the timer, in a row, for what lies unread

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiting]:
        """Go through those that wait and have not got their answer yet."""
        return (waiting for waiting in list(self._waiting.values()) if not waiting.reply.done())

    def expect(self, subject: str, timeout: float) -> Waiting:
        """Expect one reply. Its time runs from :meth:`sent` on; it is there until :meth:`forget`."""
        token = str(next(self._numbers))
        waiting = self._waiting[token] = Waiting(subject, token, self._loop.create_future(), timeout)
        return waiting

    def collect(self, subject: str, timeout: float) -> Collecting:
        """Expect several messages, ``timeout`` seconds at most between two of them; otherwise as :meth:`expect`."""
        token = f"s{next(self._numbers)}"  # any number of answers: none of them is a second one
        collecting = self._waiting[token] = Collecting(subject, token, self._loop.create_future(), timeout)
        return collecting

    def sent(self, waiting: Waiting) -> None:
        """Begin to count its time."""
        waiting.until = until = self._loop.time() + waiting.timeout
        if until < self._fires:
            self._fire_at(until)

    def forget(self, waiting: Waiting) -> None:
        """Forget one whose caller goes; a reply that still comes is then no second one."""
        del self._waiting[waiting.token]
        reply = waiting.reply
        if reply.done() and not reply.cancelled() and reply.exception() is None:
            return  # looking at its exception says that it was seen, also where the caller was cancelled just then
        if type(waiting) is Waiting:
            self._given_up[waiting.token] = None
            if len(self._given_up) > _REMEMBERED:
                del self._given_up[next(iter(self._given_up))]

    async def take(self, message: Msg) -> None:
        """Take a message that came below the inbox; async, as the driver wants its callbacks."""
        token = message.subject[self._after :]
        waiting = self._waiting.get(token)
        if waiting is not None and not waiting.reply.done():
            waiting.take(message)
        elif token in self._given_up:
            del self._given_up[token]  # late, and nobody waits for it any more
        elif self.on_second is not None and token.isdigit() and not _is_failed(waiting):
            self.on_second()

    def dropped(self) -> None:
        """End those that wait for several messages: one of them was dropped, and each would have a gap."""
        for waiting in self:
            if isinstance(waiting, Collecting):
                self._fail(waiting, "answers of the broker were dropped")

    def lose(self, text: str) -> None:
        """End all that wait as in doubt. Nothing is to be sent from then on."""
        if self._timer is not None:
            self._timer.cancel()
        self._fires = -math.inf  # never armed again
        for waiting in self:
            self._fail(waiting, text)

    def _fail(self, waiting: Waiting, text: str) -> None:
        error: GrctlError = DeliveryUnknownError(text, link=self._link)
        waiting.reply.set_exception(error)

    def _fire_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires = when
        # In an empty context: it outlives the request that arms it, and would keep that one's span.
        self._timer = self._loop.call_at(when, self._expire, context=contextvars.Context())

    def _expire(self) -> None:
        """End the requests whose time is over, and come back for the next. Those that were answered are not there.

        One timer for all: a timer for each request, which is almost never needed, costs as much as encoding it does.
        """
        now = self._loop.time()
        is_late = now - self._fires > _LATE
        self._timer, self._fires = None, math.inf
        if is_late and self._waits < _MOST_WAITS:
            self._waits += 1
            self._fire_at(now + _LATE)
            return
        self._waits = 0
        for waiting in self:
            if waiting.until > now:
                self._fires = min(self._fires, waiting.until)
            else:
                self._fail(waiting, f"{self._server} {waiting.OVERDUE} within {waiting.timeout:g} s")
        if self._fires < math.inf:
            self._fire_at(self._fires)


def _is_failed(waiting: Waiting | None) -> bool:
    """Whether a request has just ended without a reply, and its caller has not heard of it yet."""
    return waiting is not None and (waiting.reply.cancelled() or waiting.reply.exception() is not None)
