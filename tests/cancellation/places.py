"""Places: a connection of each transport, what must be as before after an interruption, and what must work then."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from typing import Any

import grctl
from grctl import Client, RunStatus, WorkflowHandle
from grctl.testing import DevServer

from .flows import workflows

__all__ = ["Place", "ServerThread"]

PATIENCE = 30.0
"""Seconds after which something counts as hanging, on however slow a machine."""
_numbers = itertools.count(1)


class ServerThread:
    """A development server in a thread with an event loop of its own: its tasks are not among the client's."""

    def __init__(self) -> None:
        self.url = ""
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="dev-server")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with DevServer(workflows) as server:
                self.url = server.url
                self._started.set()
                await self._stop.wait()
        finally:
            self._started.set()

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(PATIENCE)
        assert self.url, "the development server did not start"

    def stop(self) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


class Place:
    """A client, and what it must leave as it was.

    Attributes:
        connection: open.
        client: over it.
        handle: to a run that waits for events.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.client = Client(connection=connection, plugins=[], request_timeout=PATIENCE)
        self.handle: WorkflowHandle[Any]
        self._tasks: set[asyncio.Task[Any]] = set()
        self._counts: dict[str, int] = {}

    @property
    def is_nats(self) -> bool:
        return not hasattr(self.connection, "engine")

    def new_id(self) -> str:
        return f"order-{next(_numbers)}"

    async def prepare(self) -> None:
        """Warm up what the connection keeps for all, and note what is there."""
        self.handle = await self.client.start_workflow("Order", self.new_id())
        await self.handle.send("note")
        wait = asyncio.ensure_future(self.handle.outcome())
        await self._hears()
        wait.cancel()
        await asyncio.wait([wait])
        await self._quiet()
        self._tasks = asyncio.all_tasks()
        self._counts = self._left()

    async def _hears(self) -> None:
        """Wait until the watcher listens: its task and its subscription stay."""
        async with asyncio.timeout(PATIENCE):
            while self.is_nats and self.connection._watcher._listening is None:
                await asyncio.sleep(0.002)

    async def _quiet(self) -> None:
        """Wait until the engine has done what it was told."""
        async with asyncio.timeout(PATIENCE):
            while "wait.started" not in [event.kind async for event in self.handle.history()]:
                await asyncio.sleep(0.002)

    def _left(self) -> dict[str, int]:
        """Count what an interrupted call could leave behind."""
        operations, waiting = self.client._operations, self.handle._end._waiting
        counts = {
            "flights": len(operations._flights._flying),
            "deadlines of calls": len(operations._deadlines._limits),
            "turns": len(self.handle._order._queue or ()) + self.handle._order._busy,
            "waiters": len(waiting) if isinstance(waiting, set) else waiting is not None,
        }
        if self.is_nats:
            connection, link = self.connection, self.connection._uplink.link
            counts |= {
                "under way": connection._under_way,
                "slots taken": 512 - connection._slots._free,
                "cancels under way": len(connection._ending),
                "replies waited for": len(link.replies),
                "runs waited for": len(connection._watcher._waits),
                "ends being read": len(connection._watcher._settlers),
                "subscriptions": len(link._client._subs),
                "hearers": sum(map(len, link._hearers.values())),
                "callbacks of the link": len(link.lost._callbacks or ()),
            }
        else:
            engine = self.connection.engine
            counts["watches"] = sum(
                len(run._watchers) if hasattr(run, "_watchers") else 0 for run in engine._runs.all()
            )
        return counts

    async def assert_as_before(self) -> None:
        """Nothing is left: no task, no entry, no subscription. What ends by itself is given its time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        gc.collect(0)
        while True:
            tasks = asyncio.all_tasks() - self._tasks - {asyncio.current_task()}
            counts = self._left()
            more = {what: (count, self._counts[what]) for what, count in counts.items() if count > self._counts[what]}
            if not tasks and not more:
                return
            if loop.time() > deadline:
                raise AssertionError(f"left behind: {tasks} {more}")
            await asyncio.sleep(0.001)
            gc.collect(0)

    async def assert_it_works(self) -> None:
        """The handle's next calls work, and each event that was sent has come once at most."""
        await self.handle.send("note", {"number": -1})
        assert (await self.handle.describe()).status is RunStatus.RUNNING
        numbers = [
            event.data["payload"]["number"]
            async for event in self.handle.history()
            if event.kind == "event.received" and event.data["payload"]
        ]
        sent = [number for number in numbers if number > 0]
        assert len(set(sent)) == len(sent)


async def open_place(url: str | None) -> Place:
    """Open a connection and prepare; None for the embedded engine."""
    options = {"workflows": workflows} if url is None else {}
    place = Place(await grctl.connect(url or "memory://", **options))
    await place.prepare()
    return place
