"""Deadlines: uphold workflow timeouts, which grctld stores and never acts on (docs/protocol.md, section 2).

The connection that started a run, and whoever waits for it, uphold its timeout while the connection is open: at the
deadline they look, and terminate the run if it goes on. A result that is recorded wins. Nobody upholds it when no such
connection is open.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from grctl_core.commands import Reply, TerminateCommand
from grctl_core.errors import GrctlError
from grctl_core.run import RunInfo, RunRef

__all__ = ["Deadlines"]

_log = logging.getLogger("grctl.nats")

_AGAIN = 1.0
_CLOSE_ENOUGH = 0.001


class Deadlines:
    """The workflow timeouts that one connection upholds.

    Args:
        look: returns the stored record of exactly this run.
        latest: returns the latest run of the id, by the server's word.
        terminate: sends a command.
        broker_now: returns the broker's time.
        reason: how the reason of the terminate begins.
    """

    def __init__(
        self,
        look: Callable[[RunRef], Awaitable[RunInfo | None]],
        latest: Callable[[str], Awaitable[RunInfo | None]],
        terminate: Callable[[TerminateCommand], Awaitable[Reply]],
        broker_now: Callable[[], datetime],
        reason: str,
    ) -> None:
        self._look = look
        self._latest = latest
        self._terminate = terminate
        self._broker_now = broker_now
        self._reason = reason
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._timers) + len(self._tasks)

    def uphold(self, run: RunInfo) -> None:
        """Uphold the run's timeout, if it has one, and nobody here does so already."""
        if run.timeout is not None and not run.is_finished and run.id not in self._timers:
            begun = run.started_at or self._broker_now()
            self._arm(run, (begun + run.timeout - self._broker_now()).total_seconds())

    def forget(self, run_id: str) -> None:
        """Stop upholding: the run has ended."""
        timer = self._timers.pop(run_id, None)
        if timer is not None:
            timer.cancel()

    async def close(self) -> None:
        """Uphold nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _arm(self, run: RunInfo, seconds: float) -> None:
        self._timers[run.id] = self._loop.call_later(max(seconds, 0.0), self._fire, run, context=contextvars.Context())

    def _fire(self, run: RunInfo) -> None:
        self._timers.pop(run.id, None)
        task = self._loop.create_task(self._act(run), name="grctl-nats-deadline", context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _act(self, run: RunInfo) -> None:
        """Terminate the run, if its time is really over and it goes on; else look again later."""
        try:
            left = await self._left(run)
            if left is None:
                return
            if left <= _CLOSE_ENOUGH:
                latest = await self._latest(run.wf_id)
                if latest is None or latest.id != run.id or latest.is_finished:
                    return
                reason = f"{self._reason}: it took longer than {run.timeout}"
                await self._terminate(TerminateCommand(wf_id=run.wf_id, reason=reason))
                left = _AGAIN  # accepted is not effective: look whether it has ended
        except GrctlError as error:
            _log.debug("upholding the timeout of run %s has to wait: %s", run.id, error)
            left = _AGAIN
        if run.id not in self._timers:
            self._arm(run, left)

    async def _left(self, run: RunInfo) -> float | None:
        """Return the seconds that the run has left by the broker's clock; None when it has ended or is gone."""
        found = await self._look(run.ref)
        if found is None or found.is_finished or found.completed_at is not None:
            return None
        if found.started_at is None:
            return _AGAIN  # its time counts from its beginning
        return (found.started_at + (run.timeout or timedelta()) - self._broker_now()).total_seconds()
