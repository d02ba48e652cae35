"""Hosts: where the suite's workflows run, one for each transport."""

from __future__ import annotations

import asyncio
import functools
import os
import queue
import threading
from dataclasses import dataclass
from typing import Any

import grctl
from grctl.testing import DevServer

from .workflows import workflows

LIVE_URL = os.environ.get("GRCTL_TEST_URL", "")


@dataclass(frozen=True)
class Host:
    """Where the suite's workflows run.

    Attributes:
        name: shown in the ids of the cases.
        ours: our own engine runs them. A live server's may lack what only ours promises, and misbehave as PROTOCOL.md
            section 8 says.
    """

    name: str
    ours: bool

    async def open(self) -> Any:
        """Open a connection; whoever calls closes it."""
        if self.name == "memory":
            return await grctl.connect("memory://", workflows=workflows)
        return await grctl.connect(self.url())

    def url(self) -> str:
        """Return where the server listens; the development server is started when it is first asked for."""
        return LIVE_URL if self.name == "live" else _dev_server()

    async def open_beside(self, connection: Any) -> Any:
        """Open one more connection, to the same server as another."""
        if self.name == "memory":
            return await grctl.connect("memory://", engine=connection.engine)
        return await grctl.connect(self.url())


@functools.cache
def _dev_server() -> str:
    """Start a development server for the whole suite, in a thread with an event loop of its own; return its URL."""
    started: queue.Queue[str | BaseException] = queue.Queue()

    async def serve() -> None:
        try:
            server = DevServer(workflows=workflows)
            async with server:
                started.put(server.url)
                await asyncio.Event().wait()
        except BaseException as error:
            started.put(error)
            raise

    threading.Thread(target=lambda: asyncio.run(serve()), name="dev-server", daemon=True).start()
    url = started.get(timeout=60)
    if isinstance(url, BaseException):
        raise RuntimeError(  # noqa: TRY004 - no type is wrong here
            "the development server did not start"
        ) from url
    return url


HOSTS = [Host("live", ours=False)] if LIVE_URL else [Host("memory", ours=True), Host("nats", ours=True)]
