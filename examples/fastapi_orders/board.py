"""Board: all orders as the page shows them, kept up to date by following each one's history once.

However many browsers watch, an order is followed once. What a browser has not been told yet is found by versions, not
kept in a queue for it: one that is slow gets the newest state of each order, and misses only what is over.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Self

import grctl
from examples.fastapi_orders.workflows import ORDER

__all__ = ["Board", "Row"]

log = logging.getLogger("orders")

CAPACITY = 500
LOOK_EVERY = 3.0
"""Seconds between looks for orders that other processes have taken, while somebody watches."""
TELL_EVERY = 0.05
"""Seconds between two messages to a browser; what changes meanwhile goes together."""

SAYS = {"run.started": "received", "wait.started": "waiting"}
DOES = {"reserve": "reserving", "hand_to_carrier": "shipping"}


@dataclass
class Row:
    order_id: str
    since: str
    state: str = "received"
    item: str = ""
    quantity: int = 1
    note: str = ""
    ended: bool = False
    version: int = 0

    def take(self, event: grctl.HistoryEvent) -> None:
        """Change by what has happened; what is not known is passed over."""
        if self.ended:
            return  # a worker may write something behind the end
        data = event.data
        if event.kind == "run.started":
            given = _map(data.get("input"))
            self.item, self.quantity = given.get("item", ""), given.get("quantity", 1)
        if event.kind in SAYS:
            self.state = SAYS[event.kind]
        elif event.kind == "task.started":
            self.state = DOES.get(data.get("task_name", ""), "working")
        elif event.kind == "event.received" and data.get("event_name") == "decide":
            decision = _map(data.get("payload"))
            self.note = f"{'approved' if decision.get('approved') else 'rejected'} by {decision.get('by', 'somebody')}"
        elif event.is_terminal:
            self.ended = True
            result, error = _map(data.get("result")), _map(data.get("error"))
            self.state = result.get("status", event.kind.removeprefix("run."))
            self.note = result.get("parcel") or error.get("message") or data.get("reason") or self.note


class Board:
    """The newest orders. Open it with ``async with``: from then on it follows them."""

    def __init__(self, client: grctl.Client) -> None:
        self._client = client
        self._epoch = secrets.token_hex(4)  # versions count within this process
        self._version = 0
        self._rows: dict[str, Row] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._watchers = 0
        self._watched = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look_for_orders())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [self._looking, *self._following.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def follow(self, run: grctl.RunInfo) -> None:
        """Have an order on the board, until it is no longer among the newest ones."""
        if run.wf_id in self._rows:
            return
        row = Row(run.wf_id.removeprefix("order-"), run.created_at.isoformat())
        self._rows[run.wf_id] = row
        self._tell(row)
        self._following[run.wf_id] = asyncio.create_task(self._follow(run, row))
        if len(self._rows) > CAPACITY:
            oldest = min(self._rows, key=lambda wf_id: self._rows[wf_id].since)
            del self._rows[oldest]
            self._following.pop(oldest).cancel()

    async def changes(self, since: str = "") -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
        """Yield rows that have changed, with a version to continue from: at first all that changed since ``since``."""
        epoch, _, version = since.partition("-")
        seen = int(version) if epoch == self._epoch and version.isdecimal() else -1
        self._watchers += 1
        self._watched.set()
        try:
            while True:
                news, newest = self._news, self._version
                if rows := [asdict(row) for row in self._rows.values() if row.version > seen]:
                    yield f"{self._epoch}-{newest}", rows
                    seen = newest
                    await asyncio.sleep(TELL_EVERY)
                else:
                    await news.wait()
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._watched.clear()

    async def _follow(self, run: grctl.RunInfo, row: Row) -> None:
        try:
            async for event in self._client.connection.history(run.ref, follow=True):
                row.take(event)
                self._tell(row)
        except grctl.GrctlError as error:
            log.warning("order %s is not followed any more: %s", row.order_id, error)

    async def _look_for_orders(self) -> None:
        while True:
            runs: list[grctl.RunInfo] = []
            try:
                async for run in self._client.list_workflows(workflow_type=ORDER):
                    runs.append(run)  # noqa: PERF401 - what comes before an error counts
            except grctl.GrctlError as error:
                log.warning("not all orders could be listed: %s", error)
            for run in reversed(heapq.nlargest(CAPACITY, runs, key=lambda run: run.created_at)):
                self.follow(run)
            await asyncio.sleep(LOOK_EVERY)
            await self._watched.wait()

    def _tell(self, row: Row) -> None:
        self._version += 1
        row.version = self._version
        self._news.set()
        self._news = asyncio.Event()


def _map(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
