"""Deadlines: uphold workflow timeouts, which grctld stores and never acts on (docs/protocol.md, section 2).

The connection that started a run, and whoever waits for it, uphold its timeout while the connection is open: at the
deadline they look, and terminate the run if it goes on. A result that is recorded wins. Nobody upholds it when no such
connection is open.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from grctl_core.commands import Reply, TerminateCommand
from grctl_core.errors import AccessDeniedError, ConnectionClosedError, GrctlError
from grctl_core.run import RunInfo, RunRef
from grctl_nats.tasks import end_tasks

__all__ = ["Deadlines"]

_log = logging.getLogger("grctl.nats")

_AGAIN = 1.0
_AGAIN_WHEN_DENIED = 30.0
"""Seconds after which it is tried again where the broker refuses it: it will mostly refuse it again."""
_CLOSE_ENOUGH = 0.001
_OTHERS_LATER = (1.0, 5.0)
"""Seconds that those who did not start the run leave to the one who did. They differ, or all would terminate it at the
same moment, and all but the first of these commands would reach a run that has ended."""
_MISSING_FOR = 60.0
"""Seconds for which a record that is not there is looked for: a start in doubt may be carried out late."""
_UNBEGUN_FOR = 60.0
"""Seconds, from its deadline had it begun at once, that a run may take to begin."""


class _Deadline:
    """One timeout that is upheld: no more than it takes, as there may be very many."""

    __slots__ = ("created_at", "later", "missing_since", "run", "timeout", "timer", "unbegun_since")

    def __init__(self, run: RunInfo, timeout: timedelta, later: float) -> None:
        self.run = run.ref
        self.timeout = timeout
        self.created_at = run.created_at
        self.later = later
        self.missing_since: float | None = None
        self.unbegun_since: float | None = None
        self.timer: asyncio.TimerHandle | None = None


class Deadlines:
    """The workflow timeouts that one connection upholds.

    A run's time counts from its beginning. One that has still not begun a minute after its timeout, counted from its
    start, is held to have begun when it was created: it is terminated too.

    Each run costs a timer and about half a kilobyte, from its start, or the first look of one who waits for it, until
    its deadline. Where somebody here waits for the run it costs this until it is seen to end. Runs without a timeout
    cost nothing.

    Args:
        look: returns the stored record of exactly this run.
        latest: returns the latest run of the id, by the server's word.
        terminate: sends a command.
        is_ending: whether a cancel or terminate of the id is under way: then it is left to that one.
        broker_now: returns the broker's time, as it was last compared with ours.
        compare_clocks: compares them afresh.
        reason: how the reason of the terminate begins.
    """

    def __init__(
        self,
        look: Callable[[RunRef], Awaitable[RunInfo | None]],
        latest: Callable[[str], Awaitable[RunInfo | None]],
        terminate: Callable[[TerminateCommand], Awaitable[Reply]],
        *,
        is_ending: Callable[[str], bool],
        broker_now: Callable[[], datetime],
        compare_clocks: Callable[[], Awaitable[None]],
        reason: str,
    ) -> None:
        self._look = look
        self._latest = latest
        self._terminate = terminate
        self._is_ending = is_ending
        self._broker_now = broker_now
        self._compare_clocks = compare_clocks
        self._reason = reason
        self._loop = asyncio.get_running_loop()
        self._upheld: dict[tuple[str, str], _Deadline] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._denied = False

    def __len__(self) -> int:
        return len(self._upheld)

    def uphold(self, run: RunInfo, *, started_here: bool = False) -> bool:
        """Uphold the run's timeout; False where it has none, or it is upheld here already."""
        if self._closed or run.timeout is None or run.is_finished or _key(run.ref) in self._upheld:
            return False
        later = 0.0 if started_here else random.uniform(*_OTHERS_LATER)
        deadline = self._upheld[_key(run.ref)] = _Deadline(run, run.timeout, later)
        self._arm(deadline, self._until(run.started_at or self._broker_now(), deadline))
        return True

    def forget(self, run: RunRef) -> None:
        """Stop upholding: the run has ended."""
        deadline = self._upheld.pop(_key(run), None)
        if deadline is not None and deadline.timer is not None:
            deadline.timer.cancel()

    async def close(self) -> None:
        """Uphold nothing any more, for good."""
        self._closed = True
        for deadline in list(self._upheld.values()):
            self.forget(deadline.run)
        await end_tasks(*self._tasks)

    def _arm(self, deadline: _Deadline, seconds: float) -> None:
        deadline.timer = self._loop.call_later(max(seconds, 0.0), self._fire, deadline, context=contextvars.Context())

    def _fire(self, deadline: _Deadline) -> None:
        deadline.timer = None
        task = self._loop.create_task(self._act(deadline), name="grctl-nats-deadline", context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _act(self, deadline: _Deadline) -> None:
        """Terminate the run, if its time is really over and it goes on; else look again later."""
        try:
            again = await self._uphold_now(deadline)
        except ConnectionClosedError:
            again = None
        except AccessDeniedError as error:
            if not self._denied:  # nobody waits for it, so nobody else would hear of it
                self._denied = True
                _log.warning("workflow timeouts are not upheld: %s", error)
            again = _AGAIN_WHEN_DENIED
        except GrctlError as error:
            _log.debug("upholding the timeout of run %s has to wait: %s", deadline.run.run_id, error)
            again = _AGAIN
        except Exception:  # noqa: BLE001 - the timeout is to be upheld all the same
            _log.exception("upholding the timeout of run %s failed in an unexpected way", deadline.run.run_id)
            again = _AGAIN
        if not self._is_upheld(deadline):
            return
        if again is None:
            self.forget(deadline.run)
        else:
            self._arm(deadline, again)

    async def _uphold_now(self, deadline: _Deadline) -> float | None:
        """Return after how many seconds to look again; None when there is nothing left to do."""
        left = await self._left(deadline)
        if left is not None and left <= _CLOSE_ENOUGH:  # so it seems: our clock may have stood still, or drifted
            await self._compare_clocks()
            left = await self._left(deadline)
        if left is None or left > _CLOSE_ENOUGH:
            return left
        run = deadline.run
        latest = await self._latest(run.wf_id)
        if latest is None or latest.id != run.run_id or latest.is_finished:
            return None
        if self._is_upheld(deadline) and not self._is_ending(run.wf_id):
            reason = f"{self._reason}: it took longer than {deadline.timeout}"
            await self._terminate(TerminateCommand(wf_id=run.wf_id, reason=reason))
        return _AGAIN  # accepted is not effective: look whether it has ended

    async def _left(self, deadline: _Deadline) -> float | None:
        """Return the seconds that the run has left by the broker's clock; None when it has ended or is gone."""
        found = await self._look(deadline.run)
        now = self._loop.time()
        if found is None:
            if deadline.missing_since is None:
                deadline.missing_since = now
            return _AGAIN if now - deadline.missing_since < _MISSING_FOR else None
        if found.is_finished or found.completed_at is not None:
            return None
        if found.started_at is None:
            if deadline.unbegun_since is None:
                deadline.unbegun_since = now
            if now - deadline.unbegun_since < _UNBEGUN_FOR:
                return _AGAIN
        return self._until(found.started_at or deadline.created_at, deadline)

    def _until(self, begun: datetime, deadline: _Deadline) -> float:
        return (begun - self._broker_now() + deadline.timeout).total_seconds() + deadline.later

    def _is_upheld(self, deadline: _Deadline) -> bool:
        return self._upheld.get(_key(deadline.run)) is deadline


def _key(run: RunRef) -> tuple[str, str]:
    """Return what tells runs apart: run ids are made by clients, and one may use the same for two workflow ids."""
    return run.wf_id, run.run_id
