"""Answers: what becomes of one command that is sent over a RecordingTransport."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from grctl_core.codec import encode
from grctl_core.commands import Reply, ReplyError
from grctl_core.durations import Duration, to_seconds
from grctl_core.errors import InvalidInputError

__all__ = [
    "Answer",
    "accept",
    "answer",
    "delay",
    "duplicate",
    "fail",
    "hold",
    "lose_reply",
    "lose_request",
    "refuse",
]


@dataclass(frozen=True, eq=False)
class Answer:
    """What becomes of one command. Made by the functions of this module.

    Attributes:
        carried_out: how often the server does what it says.
        reply: what the server says; None for what a healthy one would.
        lost: no reply comes: DeliveryUnknownError, at once, without waiting for the timeout.
        error: what the transport raises instead.
        seconds: how much later the reply comes.
        held: whether the reply waits for :meth:`release`.
    """

    carried_out: int = 1
    reply: Reply | None = None
    lost: bool = False
    error: Exception | None = None
    seconds: float = 0.0
    held: bool = False
    _waiting: list[asyncio.Future[None]] = field(default_factory=list, repr=False)
    _released: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _reached: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def waits(self) -> bool:
        """Whether the reply comes later."""
        return self.held or self.seconds > 0

    def release(self) -> None:
        """Let go what :func:`hold` holds, now and from now on."""
        self._released.set()
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    async def reached(self) -> None:
        """Wait until a command has got this answer."""
        await self._reached.wait()

    def begin(self, waiting: asyncio.Future[None] | None) -> None:
        """Note that a command has got this answer; ``waiting`` is settled by the release. For the transport."""
        self._reached.set()
        if waiting is None or not self.held:
            return
        if self._released.is_set():
            waiting.set_result(None)
        else:
            self._waiting.append(waiting)


def accept(*, carried_out: bool = True) -> Answer:
    """Answer as a healthy server does; ``carried_out=False``: say yes and do nothing."""
    return Answer() if carried_out else Answer(carried_out=0, reply=Reply(success=True))


def refuse(code: int, detail: str = "", *, message: str = "refused", carried_out: bool = False) -> Answer:
    """Say no.

    Args:
        code: one of ``grctl_core.commands.ErrorCode``; 5000 and 0 leave a doubt.
        detail: the server's own words. For 4001 the active run's id is their last word.
        message: the server's short words.
        carried_out: do it nevertheless.
    """
    return Answer(carried_out=int(carried_out), reply=Reply(success=False, error=ReplyError(code, message, detail)))


def lose_request() -> Answer:
    """The command never arrives: DeliveryUnknownError, and nothing was done."""
    return Answer(carried_out=0, lost=True)


def lose_reply() -> Answer:
    """The command is carried out, its reply never comes: DeliveryUnknownError, and it was done."""
    return Answer(lost=True)


def duplicate() -> Answer:
    """The command arrives twice and is carried out twice; the first reply counts."""
    return Answer(carried_out=2)


def fail(error: Exception) -> Answer:
    """The transport raises this, and nothing was done: ``fail(NotSentError("no link"))``.

    Raises:
        InvalidInputError: it is no exception, or a class of one.

    """
    if not isinstance(error, Exception):
        raise InvalidInputError(f"fail() takes an exception, such as NotSentError('no link'), not {error!r}")
    return Answer(carried_out=0, error=error)


def answer(value: object) -> Answer:
    """Answer a query with a value.

    Raises:
        InvalidInputError: it cannot be encoded.

    """
    return Answer(carried_out=0, reply=Reply(success=True, payload=encode("answer", value)))


def hold(then: Answer | None = None) -> Answer:
    """Do at once what ``then`` says, by default what a healthy server does, and reply when it is released.

    >>> held = transport.on("start", hold())
    >>> starting = asyncio.create_task(client.start_workflow("Order", "order-1"))
    >>> await held.reached()
    >>> held.release()

    A reply that does not come within the attempt's timeout is a DeliveryUnknownError, as always.
    """
    return replace(then or Answer(), held=True, _waiting=[], _released=asyncio.Event(), _reached=asyncio.Event())


def delay(duration: Duration, then: Answer | None = None) -> Answer:
    """Do at once what ``then`` says, and reply so much later, in seconds or as a timedelta.

    Raises:
        InvalidInputError: it is no duration.

    """
    seconds = to_seconds("delay", duration)
    return replace(then or Answer(), seconds=seconds, _waiting=[], _released=asyncio.Event(), _reached=asyncio.Event())
