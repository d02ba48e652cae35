"""RunTable: the runs that an engine holds, and which of them it may forget."""

from __future__ import annotations

from collections import deque
from datetime import datetime

from grctl_engine.limits import EngineLimits
from grctl_engine.run import Run

__all__ = ["RunTable"]


class RunTable:
    """All runs by id, the latest of each workflow id, and those that have ended in the order of their end.

    Attributes:
        has_forgotten: whether a run was forgotten.
    """

    def __init__(self, limits: EngineLimits) -> None:
        self.has_forgotten = False
        self._limits = limits
        self._runs: dict[tuple[str, str], Run] = {}
        self._latest: dict[str, Run] = {}
        self._finished: deque[Run] = deque()

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def active(self) -> int:
        """How many runs are going on."""
        return len(self._runs) - len(self._finished)

    def add(self, run: Run) -> None:
        """Add a run that was just accepted."""
        info = run.info
        self._runs[info.wf_id, info.id] = run
        self._latest[info.wf_id] = run

    def find(self, wf_id: str, run_id: str) -> Run | None:
        """Return exactly this run."""
        return self._runs.get((wf_id, run_id))

    def latest(self, wf_id: str) -> Run | None:
        """Return the run of this workflow id that was started last."""
        return self._latest.get(wf_id)

    def all(self) -> list[Run]:
        """Return all runs, in the order of their start."""
        return list(self._runs.values())

    def finish(self, run: Run) -> None:
        """Note that a run has ended; forget the oldest ended ones beyond the limit."""
        self._finished.append(run)
        while len(self._finished) > self._limits.finished_runs:
            self._forget_oldest()

    def forget_expired(self, now: datetime) -> None:
        """Forget the runs whose end is too long ago."""
        if not self._finished:
            return
        horizon = now - self._limits.finished_retention
        while self._finished and (ended := self._finished[0].info.completed_at) is not None and ended < horizon:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        self.has_forgotten = True
        run = self._finished.popleft()
        info = run.info
        del self._runs[info.wf_id, info.id]
        if self._latest.get(info.wf_id) is run:
            del self._latest[info.wf_id]
