"""Replies of the engine: the server's codes and words (docs/protocol.md, section 2), and those for its own limits."""

from __future__ import annotations

from grctl_core.commands import ErrorCode, Reply, ReplyError
from grctl_engine.limits import LimitCode

__all__ = [
    "ACCEPTED",
    "FINISHED",
    "NOT_FOUND",
    "NO_RUN_TO_DESCRIBE",
    "TYPE_NOT_REGISTERED",
    "already_running",
    "bad_message",
    "inbox_full",
    "too_many_runs",
]


def _refusal(code: int, message: str, detail: str = "") -> Reply:
    return Reply(success=False, error=ReplyError(code, message, detail))


ACCEPTED = Reply(success=True)

NOT_FOUND = _refusal(
    ErrorCode.NOT_FOUND, "Workflow run not found", "failed to get run info from store: workflow run not found"
)

NO_RUN_TO_DESCRIBE = _refusal(
    ErrorCode.NOT_FOUND, "Workflow run not found", "failed to get run info: workflow run not found"
)

FINISHED = _refusal(
    ErrorCode.FINISHED,
    "Workflow run has already finished and cannot accept new commands",
    "workflow run is in a terminal state",
)

TYPE_NOT_REGISTERED = _refusal(
    ErrorCode.TYPE_NOT_REGISTERED, "Workflow type not registered", "workflow type not registered"
)


def already_running(run_id: str) -> Reply:
    """Refuse a start: the id has an active run, this one."""
    return _refusal(
        ErrorCode.ALREADY_RUNNING,
        "Workflow already has an active run",
        f"workflow already has an active run: {run_id}",
    )


def bad_message(detail: str) -> Reply:
    """Refuse a command that contradicts itself."""
    return _refusal(ErrorCode.BAD_MESSAGE, "Invalid command message", detail)


def inbox_full(limit: int) -> Reply:
    """Refuse an event: as many wait already as may."""
    return _refusal(
        LimitCode.INBOX,
        f"The run's inbox is full: {limit} events wait for its present step",
        "EngineLimits.inbox, of the embedded engine",
    )


def too_many_runs(limit: int) -> Reply:
    """Refuse a start: as many runs are going on as may."""
    return _refusal(
        LimitCode.ACTIVE_RUNS,
        f"The engine has {limit} active runs already",
        "EngineLimits.active_runs, of the embedded engine",
    )
