"""LatestRuns: which run a workflow id has had last, as far as this connection knows."""

from __future__ import annotations

from grctl_core.run import RunRef

__all__ = ["LatestRuns"]

_REMEMBERED = 10_000


class LatestRuns:
    """One run for each of the 10,000 workflow ids that were met last."""

    def __init__(self) -> None:
        self._runs: dict[str, RunRef] = {}

    def get(self, wf_id: str) -> RunRef | None:
        """Return the id's run, None where none is remembered."""
        return self._runs.get(wf_id)

    def put(self, run: RunRef) -> None:
        """Remember a run as its id's; the id that was met longest ago may be forgotten for it."""
        self._runs.pop(run.wf_id, None)
        self._runs[run.wf_id] = run
        if len(self._runs) > _REMEMBERED:
            del self._runs[next(iter(self._runs))]

    def drop(self, run: RunRef) -> None:
        """Forget a run, unless there is another one of its id by now."""
        if self._runs.get(run.wf_id) == run:
            del self._runs[run.wf_id]
