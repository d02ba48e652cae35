"""Uplink: keeps one link up, and has a new one made when it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from grctl_core.errors import (
    AccessDeniedError,
    ConnectionClosedError,
    ConnectionFailedError,
    DeliveryUnknownError,
    GrctlError,
    InvalidInputError,
    NotSentError,
)
from grctl_nats.dial import UntrustedError, dial
from grctl_nats.link import Link
from grctl_nats.settings import Settings
from grctl_nats.tasks import end_tasks

__all__ = ["Uplink"]

_log = logging.getLogger("grctl.nats")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_DIAL_TIMEOUT = 2.0
_LAST_TRY = 0.1
"""Seconds before the end of the connect timeout at which the last try begins."""
_SHORTEST_DIAL = 0.05


class Uplink:
    """The present link of a connection.

    Args:
        settings: where to connect, and how.
        prepare: called with each new link before anybody else gets it; what it raises counts as a failed attempt.
        changed: called with each new link, and with None in the moment in which its loss is first seen, by whomever:
            nobody is refused for the loss of a link before this was called. Not called for the loss by :meth:`close`.
    """

    def __init__(
        self, settings: Settings, prepare: Callable[[Link], Awaitable[None]], changed: Callable[[Link | None], None]
    ) -> None:
        self._settings = settings
        self._prepare = prepare
        self._changed = changed
        self._link: Link | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._trouble: GrctlError | None = None
        self._closed = False

    @property
    def link(self) -> Link:
        """The link that is up.

        Raises:
            NotSentError: none is; one is being made.
            ConnectionClosedError: the connection was closed.

        """
        link = self._link
        if link is None or self._closed or not link.is_up:
            link = self._present()
        if link is None:
            why = f" (so far in vain: {self._trouble})" if self._trouble is not None else ""
            raise NotSentError(f"not sent: the connection to the broker is lost, and being made anew{why}")
        return link

    async def wait_up(self) -> Link:
        """Wait for a link, as long as it takes.

        Raises:
            ConnectionClosedError: the connection was closed.

        """
        while (link := self._present()) is None:
            await self._up.wait()
        return link

    def _present(self) -> Link | None:
        """Return the link that is up, None while there is none."""
        if self._closed:
            raise closed_error()
        link = self._link
        return link if link is not None and link.is_up else None

    async def open(self) -> None:
        """Connect for the first time, within the connect timeout in all.

        Where nobody listens yet it is tried until the time is over: a server may just be starting.

        Raises:
            AccessDeniedError, InvalidInputError, UntrustedError: at once; trying again would not help.
            ConnectionFailedError, UnsupportedOperationError: what failed last, when the time is over; not a try that
                was cut short by that, where there was another one.

        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.connect_timeout
        pause = _FIRST_PAUSE
        failure: GrctlError | None = None
        while True:
            try:
                link = self._take(await self._dial_any(deadline))
                break
            except (AccessDeniedError, InvalidInputError, UntrustedError):
                raise
            except GrctlError as error:
                left = deadline - loop.time()
                if left > 0 or failure is None:  # else it was cut short: the last try may have a tenth of a second
                    failure = error
            if left <= _LAST_TRY:
                raise failure
            await asyncio.sleep(min(pause * random.uniform(0.5, 1.0), max(left - _LAST_TRY, 0)))
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._keeper = loop.create_task(self._keep_up(link), name="grctl-nats-uplink")

    async def close(self) -> None:
        """Close the link, and make no other. Idempotent."""
        self._closed = True
        self._up.set()
        if self._keeper is not None:
            await end_tasks(self._keeper)
        if self._link is not None:
            await self._link.close()

    async def _keep_up(self, link: Link) -> None:
        while True:
            await asyncio.shield(link.lost)
            await link.close(0.2)
            link = await self._dial_until_up()

    async def _dial_until_up(self) -> Link:
        pause = _FIRST_PAUSE
        said = None
        while True:
            try:
                return self._take(
                    await self._dial_any(
                        asyncio.get_running_loop().time() + _DIAL_TIMEOUT * len(self._settings.servers)
                    )
                )
            except GrctlError as error:
                self._trouble = error
                if type(error) is not said:  # once for each kind of trouble
                    said = type(error)
                    _log.warning("the connection is lost, trying on: %s", error)
            except Exception:  # noqa: BLE001 - nothing may end this task
                _log.exception("connecting failed in an unexpected way, trying on")
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _dial_any(self, deadline: float) -> Link:
        """Try each server once; raise what says most where none took us."""
        failures: list[GrctlError] = []
        loop = asyncio.get_running_loop()
        for server in self._settings.servers:
            timeout = max(_SHORTEST_DIAL, min(_DIAL_TIMEOUT, deadline - loop.time()))
            try:
                link = await dial(server, self._settings, timeout)
            except GrctlError as error:
                failures.append(error)
                continue
            left = deadline - loop.time()
            try:
                # Half of the time, so that a word that is lost leaves enough for the next server, or another try.
                async with asyncio.timeout(max(min(left, max(_DIAL_TIMEOUT, left / 2)), _SHORTEST_DIAL)):
                    await self._prepare(link)
                if not link.is_up:
                    raise NotSentError(f"{server.url} let us in and went away at once")
            except BaseException as error:
                await link.close()
                if isinstance(error, TimeoutError):
                    error = ConnectionFailedError(
                        f"{server.url} let us in and then said nothing in time: is it overloaded or stopped?"
                    )
                elif isinstance(error, DeliveryUnknownError):  # a look leaves nothing in doubt
                    error = ConnectionFailedError(f"{server.url} let us in, but its answer did not come: {error}")
                if not isinstance(error, GrctlError):
                    raise
                failures.append(error)
                continue
            return link
        raise min(failures, key=_rank)

    def _take(self, link: Link) -> Link:
        """Make a link that is up the present one; it is in the same turn of the loop that it was found up."""
        self._link = link
        if not self._closed:
            self._trouble = None
            self._up.set()
            link.on_lost = self._lost
            self._changed(link)
        return link

    def _lost(self) -> None:
        if not self._closed:
            self._up.clear()
            self._changed(None)


def _rank(error: GrctlError) -> int:
    """How much a failure says: that nobody answers says least."""
    if isinstance(error, AccessDeniedError | InvalidInputError):
        return 0
    if isinstance(error, UntrustedError):
        return 1
    return 3 if isinstance(error, ConnectionFailedError) else 2


def closed_error() -> ConnectionClosedError:
    """Return what a closed connection raises."""
    return ConnectionClosedError("the connection was closed: open a new one with Connection.connect()")
