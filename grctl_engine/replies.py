"""Replies of the engine: the server's codes and words (docs/protocol.md, section 2), and those for its own limits."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from grctl_core.commands import ErrorCode, Reply, ReplyError
from grctl_engine.limits import LimitCode, QueryCode

__all__ = [
    "ACCEPTED",
    "FINISHED",
    "NOT_FOUND",
    "NO_RUN_TO_DESCRIBE",
    "TYPE_NOT_REGISTERED",
    "already_running",
    "bad_message",
    "inbox_full",
    "query_failed",
    "query_timed_out",
    "too_many_queries",
    "too_many_runs",
    "unknown_query",
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


def unknown_query(workflow_type: str, query_name: str, names: Iterable[str]) -> Reply:
    """Refuse a query that the workflow type does not answer."""
    known = ", ".join(repr(name) for name in sorted(names)) or "none at all"
    return _refusal(
        QueryCode.UNKNOWN, f"workflow type {workflow_type!r} answers no query {query_name!r}: it answers {known}"
    )


def query_failed(query_name: str, why: str) -> Reply:
    """Refuse a query whose handler raised, or returned what cannot be sent."""
    return _refusal(QueryCode.FAILED, f"query {query_name!r} failed: {why}")


def query_timed_out(query_name: str, timeout: timedelta) -> Reply:
    """Refuse a query whose handler took too long."""
    return _refusal(
        QueryCode.TIMED_OUT,
        f"query {query_name!r} was given up after {timeout}",
        "EngineLimits.query_timeout, of the embedded engine",
    )


def too_many_queries(limit: int) -> Reply:
    """Refuse a query: as many are being answered as may."""
    return _refusal(
        LimitCode.QUERIES,
        f"The engine answers {limit} queries already",
        "EngineLimits.running_queries, of the embedded engine",
    )
