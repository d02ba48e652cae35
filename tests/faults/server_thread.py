"""ServerThread: a development server in an event loop of its own, so that what its clients leave in theirs shows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

from grctl.testing import DevServer

__all__ = ["ServerThread"]

T = TypeVar("T")


class ServerThread:
    """Runs a server in a thread. Use it with ``async with``.

    Args:
        make: makes the server, in the thread.
    """

    def __init__(self, make: Callable[[], DevServer]) -> None:
        self._make = make
        self._thread = threading.Thread(target=self._run, name="development server", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._server: DevServer
        self._stop: asyncio.Event
        self._started: asyncio.Future[str]
        self._ended: asyncio.Future[None]
        self.url = ""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._client_loop = loop
        self._started, self._ended = loop.create_future(), loop.create_future()
        self._thread.start()
        self.url = await self._started
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        await self._ended

    async def do(self, what: Callable[[DevServer], Awaitable[T]]) -> T:
        """Have something done in the server's loop, with the server; return what comes of it."""

        async def act() -> T:
            return await what(self._server)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(act(), self._loop))

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._tell(self._started, error)
            self._tell(self._ended, error)
        else:
            self._tell(self._ended, None)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with self._make() as self._server:
            self._tell(self._started, self._server.url)
            await self._stop.wait()

    def _tell(self, future: asyncio.Future[T], what: T | BaseException) -> None:
        def tell() -> None:
            if future.done():
                return
            if isinstance(what, BaseException):
                future.set_exception(RuntimeError(f"the development server broke: {what!r}"))
            else:
                future.set_result(what)

        self._client_loop.call_soon_threadsafe(tell)
