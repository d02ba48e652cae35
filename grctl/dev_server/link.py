"""Link: the server's own connection to the broker, and what makes a new one when it breaks.

nats-py's own reconnecting is off: it would keep what we published meanwhile and send it late. Here each connection is
a fresh client, and what was in flight on the last one is looked into before it is repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from grctl.dev_server.errors import DevServerError, LinkLostError
from grctl_nats.tasks import end_tasks

__all__ = ["Link", "LinkKeeper"]

REQUEST_SECONDS = 5.0
"""How long the broker may take for one request before the link counts as lost."""

_CONNECT_SECONDS = 3.0
_log = logging.getLogger("grctl.dev_server")


class Link:
    """One connection."""

    def __init__(self, client: Client, lost: asyncio.Event) -> None:
        self.client = client
        self.lost = lost
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str) -> Link:
        """Connect.

        Raises:
            LinkLostError: nobody answers, or the login is refused; the text has the cause.

        """
        lost = asyncio.Event()
        causes: list[Exception] = []

        async def on_closed() -> None:
            lost.set()

        async def on_error(error: Exception) -> None:
            causes.append(error)
            if isinstance(error, nats.errors.SlowConsumerError):  # commands were dropped: who sent them times out
                _log.warning("more commands came than could be taken in")

        client = Client()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await client.connect(
                    url,
                    name="grctl-dev-server",
                    allow_reconnect=False,
                    connect_timeout=2,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0.05,  # type: ignore[arg-type] # seconds; nats-py says int
                    ping_interval=10,
                    max_outstanding_pings=2,
                    closed_cb=on_closed,
                    disconnected_cb=on_closed,
                    error_cb=on_error,
                )
        except (nats.errors.Error, OSError, TimeoutError) as error:
            await _close(client)
            cause = causes[-1] if causes else error
            raise LinkLostError(f"no connection to {url}: {str(cause) or type(cause).__name__}") from error
        except BaseException:
            await _close(client)
            raise
        return cls(client, lost)

    @property
    def max_payload(self) -> int:
        """The broker's limit, in bytes."""
        return self.client.max_payload

    async def request(self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Msg:
        """Ask, and wait for the answer.

        Raises:
            LinkLostError: there was none; what was asked may have been done.
            DevServerError: nobody listens there.

        """
        asking = asyncio.ensure_future(self.client.request(subject, body, timeout=REQUEST_SECONDS, headers=headers))
        losing = asyncio.ensure_future(self.lost.wait())
        try:
            await asyncio.wait({asking, losing}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise LinkLostError("the broker went away")
            return asking.result()
        except nats.errors.NoRespondersError:
            raise DevServerError(
                f"nobody answers on {subject}. The broker needs JetStream: start nats-server with -js"
            ) from None
        except (nats.errors.Error, OSError) as error:
            self.lost.set()
            raise LinkLostError(f"the broker does not answer: {str(error) or type(error).__name__}") from error
        finally:
            asking.cancel()
            losing.cancel()

    async def publish(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send, and expect no answer.

        Raises:
            LinkLostError: the connection is gone.

        """
        try:
            await self.client.publish(subject, body, headers=headers)
        except (nats.errors.Error, OSError) as error:
            self.lost.set()
            raise LinkLostError(f"the broker is gone: {str(error) or type(error).__name__}") from error

    async def call(self, api: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call JetStream's interface; an error is in the answer.

        Raises:
            LinkLostError: there was no answer.
            DevServerError: the broker has no JetStream.

        """
        answer = await self.request(f"$JS.API.{api}", b"" if request is None else json.dumps(request).encode())
        decoded: dict[str, Any] = json.loads(answer.data)
        return decoded

    async def close(self) -> None:
        """Close it. Never hangs; goes on when its caller is cancelled, as half closed the socket would stay open."""
        self.lost.set()
        if self._closing is None:
            self._closing = asyncio.create_task(_close(self.client), name="grctl-dev-link-close")
        await asyncio.shield(self._closing)


async def _close(client: Client) -> None:
    with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
        await asyncio.wait_for(client.close(), 2)


class LinkKeeper:
    """Keeps a link up: whenever one breaks, makes another one."""

    def __init__(self, url: Callable[[], str], prepare: Callable[[Link], Awaitable[None]]) -> None:
        """Keep a link.

        Args:
            url: returns where to.
            prepare: is awaited with each new link before anybody else gets it.

        """
        self._url = url
        self._prepare = prepare
        self._link: Link | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Make the first link, and keep it from then on.

        Raises:
            LinkLostError: it cannot be made.
            DevServerError: it cannot be used.

        """
        link = await self._make()
        self._task = asyncio.create_task(self._keep(link), name="grctl-dev-link")

    async def current(self) -> Link:
        """Return the link; wait for one while there is none."""
        while (link := self._link) is None or link.lost.is_set():
            self._changed.clear()
            await self._changed.wait()
        return link

    @property
    def up(self) -> Link | None:
        """The link, None while there is none."""
        return self._link if self._link is not None and not self._link.lost.is_set() else None

    async def close(self) -> None:
        """Keep none any more."""
        if self._task is not None:
            await end_tasks(self._task)
            self._task = None
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def _make(self) -> Link:
        link = await Link.open(self._url())
        try:
            await self._prepare(link)
        except BaseException:
            await link.close()
            raise
        self._link = link
        self._changed.set()
        return link

    async def _keep(self, link: Link) -> None:
        while True:
            await link.lost.wait()
            _log.info("the broker is gone; connecting again")
            await link.close()
            link = await self._make_again()
            _log.info("connected to the broker again")

    async def _make_again(self) -> Link:
        delay = 0.05
        said: set[str] = set()
        while True:
            try:
                return await self._make()
            except LinkLostError as error:
                _say_once(said, type(error).__name__, "no connection to the broker, trying on: %s", error)
            except DevServerError as error:
                _say_once(said, str(error), "commands cannot be answered, trying on: %s", error)
            except Exception as error:  # noqa: BLE001 - a server that stopped trying would be deaf for good
                if repr(error) not in said:
                    said.add(repr(error))
                    _log.exception("a new connection to the broker cannot be used, trying on")
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, 0.25)


def _say_once(said: set[str], kind: str, text: str, error: Exception) -> None:
    if kind in said:
        _log.debug(text, error)
    else:
        said.add(kind)
        _log.warning(text, error)
