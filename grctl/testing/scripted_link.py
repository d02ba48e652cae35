"""ScriptedLink: the link between a RecordingTransport and its small server; it answers as the script says."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from typing import Any

from grctl.testing.answers import Answer
from grctl.testing.script import Script
from grctl_core.errors import (
    ConnectionClosedError,
    DeliveryUnknownError,
    EventLoopError,
    NotSentError,
)
from grctl_core.event_loop import running_loop
from grctl_core.listeners import Listeners
from grctl_core.protocols import ConnectionEvent, ConnectionListener

__all__ = ["ScriptedLink", "closed_error"]

_log = logging.getLogger("grctl.testing")


class ScriptedLink:
    """Up, lost or closed; what goes over it is answered as scripted, else by the server.

    Attributes:
        script: what becomes of the next commands and looks.
        number: which link it is, from 1: it is another after a reconnect.
        connected: whether it is up.
        closed: whether it is closed, for good.
    """

    def __init__(self) -> None:
        self.script = Script()
        self.number = 1
        self.connected = True
        self.closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners = Listeners(_log)
        self._in_flight: set[asyncio.Future[None]] = set()

    def disconnect(self) -> None:
        """Lose it: what waits for a reply is in doubt."""
        if self.connected and not self.closed:
            self.connected = False
            self._fail_in_flight("the connection was lost before the reply came")
            self._listeners.tell(ConnectionEvent.DISCONNECTED)

    def reconnect(self) -> None:
        """Have one again, a new one."""
        if not self.connected and not self.closed:
            self.connected = True
            self.number += 1
            self._listeners.tell(ConnectionEvent.CONNECTED)

    def close(self, fail_waits: Callable[[], None]) -> None:
        """Close it: what waits for a reply is in doubt. The listeners are told last.

        Args:
            fail_waits: ends what waits for something else than a reply.

        """
        self.closed = True
        self._fail_in_flight("the connection was closed before the reply came")
        fail_waits()
        self._listeners.tell(ConnectionEvent.CLOSED)

    def add_listener(self, listener: ConnectionListener) -> Callable[[], None]:
        """Have a listener called when it is lost, up again or closed; returns what removes it."""
        return self._listeners.add(listener)

    def check_usable(self) -> None:
        """Raise where it is closed, or belongs to another event loop than this one."""
        if self.closed:
            raise closed_error()
        loop = running_loop("a RecordingTransport")
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise EventLoopError("this transport belongs to another event loop: make one in each")

    async def answer(self, name: str, what: object, timeout: float | None, carry_out: Callable[[], Any]) -> Any:
        """Do what the script says; the order of the script is the order in which commands come."""
        answer = self.script.take(name, what) if self.connected else Answer()  # what is not sent uses up no script
        link = self.number
        await asyncio.sleep(0)  # as any transport would, so that no caller keeps the loop for itself
        self.check_usable()
        if not self.connected:
            raise NotSentError("not sent: the connection is lost")
        if answer.error is not None:
            answer.begin(None)
            raise answer.error
        done = [carry_out() for _ in range(answer.carried_out)]
        await self._until_reply(answer, timeout)
        if answer.lost:
            raise DeliveryUnknownError("the reply was lost, as scripted", link=link)
        return answer.reply if answer.reply is not None else done[0]

    async def _until_reply(self, answer: Answer, timeout: float | None) -> None:
        if not answer.waits:
            answer.begin(None)
            return
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        link, context = self.number, contextvars.Context()
        timers = []
        if timeout is not None:
            said = f"no reply within {timeout:g} s"
            timers.append(loop.call_later(timeout, _settle, waiting, _unknown(said, link), context=context))
        if not answer.held:
            timers.append(loop.call_later(answer.seconds, _settle, waiting, None, context=context))
        self._in_flight.add(waiting)
        try:
            answer.begin(waiting)
            await waiting
        finally:
            self._in_flight.discard(waiting)
            for timer in timers:
                timer.cancel()

    def _fail_in_flight(self, why: str) -> None:
        for waiting in list(self._in_flight):
            _settle(waiting, _unknown(why, self.number))


def _settle(waiting: asyncio.Future[None], error: Exception | None) -> None:
    if not waiting.done():
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)


def _unknown(why: str, link: int) -> DeliveryUnknownError:
    return DeliveryUnknownError(why, link=link)


def closed_error() -> ConnectionClosedError:
    """Return what is raised after it was closed."""
    return ConnectionClosedError("the transport was closed: make a new one")
