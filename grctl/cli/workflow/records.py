"""Records: a run and its end, as JSON and in words."""

from __future__ import annotations

from typing import Any

from grctl.safe_text import safe
from grctl_core.outcome import Outcome
from grctl_core.run import RunInfo, RunStatus

__all__ = ["STYLES", "name_of", "outcome_map", "run_map", "sentence", "took", "word"]

STYLES = {
    RunStatus.COMPLETED: "green",
    RunStatus.FAILED: "red",
    RunStatus.TIMED_OUT: "yellow",
    RunStatus.CANCELLED: "blue",
    RunStatus.TERMINATED: "magenta",
}


def run_map(run: RunInfo) -> dict[str, Any]:
    """Return a run as the map that ``--json`` shows."""
    return {
        "workflow_id": run.wf_id,
        "run_id": run.id,
        "workflow_type": run.wf_type,
        "status": run.status,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "completed_at": run.completed_at,
        "workflow_timeout": run.timeout,
        "worker": run.worker_name,
        "parent_workflow_id": run.parent_wf_id,
        "parent_run_id": run.parent_run_id,
    }


def outcome_map(outcome: Outcome[Any]) -> dict[str, Any]:
    """Return a run and its end as the map that ``--json`` shows."""
    error = outcome.error
    return {
        **run_map(outcome.run),
        "status": outcome.status,
        "result": outcome.result,
        "error": None
        if error is None
        else {"type": error.type, "message": error.message, "stack_trace": error.stack_trace},
        "reason": outcome.reason,
    }


def word(status: RunStatus | None) -> str:
    """Return a status for a person."""
    return "not begun" if status is None else safe(status.value.replace("_", " "))


def took(run: RunInfo) -> float | None:
    """Return how many seconds a run took, None while it goes on."""
    if run.completed_at is None:
        return None
    return max(0.0, (run.completed_at - (run.started_at or run.created_at)).total_seconds())


def name_of(run: RunInfo) -> str:
    """Return what a run is called in messages."""
    return f"workflow {run.wf_id!r} (run {run.id})"


def sentence(outcome: Outcome[Any]) -> str:
    """Say how a run ended that did not complete."""
    name = name_of(outcome.run)
    if outcome.error is not None:
        return f"{name} failed: {outcome.error.type}: {outcome.error.message}"
    return str(outcome.to_error())
