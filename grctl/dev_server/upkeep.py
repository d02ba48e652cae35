"""Upkeep: starts the server's own broker again when it has died, as nobody else can."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import NoReturn

from grctl.dev_server.broker import Broker
from grctl.dev_server.errors import DevServerError

__all__ = ["keep_up"]

RESTARTS, WITHIN_SECONDS = 3, 60.0
"""So many restarts in so many seconds are tried: a broker that dies more often has a trouble that they do not mend."""

_log = logging.getLogger("grctl.dev_server")


async def keep_up(broker: Broker) -> NoReturn:
    """Start a broker again, on the same port and the same store, whenever it dies. Cancel this before you stop it.

    Raises:
        DevServerError: it does not start, or dies again and again; the text says why.

    """
    loop = asyncio.get_running_loop()
    restarts: deque[float] = deque(maxlen=RESTARTS)
    while True:
        await broker.wait_until_gone()
        now = loop.time()
        if len(restarts) == RESTARTS and now - restarts[0] < WITHIN_SECONDS:
            raise DevServerError(
                f"nats-server died {RESTARTS + 1} times within {WITHIN_SECONDS:g} s; "
                f"it said last: {broker.last_words()}"
            )
        restarts.append(now)
        _log.error("nats-server has died: starting it again on the same store")
        await broker.restart()
