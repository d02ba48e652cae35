"""Levels: how loud each kind of record is. Chosen for the person on call: an ERROR is to be looked at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from types import MappingProxyType

from grctl_core.calls import Call, CommandCall, ResultCall
from grctl_core.errors import (
    ConnectionClosedError,
    InvalidInputError,
    WorkflowAlreadyRunningError,
    WorkflowFinishedError,
    WorkflowNotFoundError,
)

__all__ = ["DEFAULT_LEVELS", "LEVEL_NAMES", "checked_levels", "kind_of_error", "kind_of_success"]

LEVEL_NAMES: Mapping[int, str] = MappingProxyType(
    {
        logging.DEBUG: "debug",
        logging.INFO: "info",
        logging.WARNING: "warning",
        logging.ERROR: "error",
        logging.CRITICAL: "critical",
    }
)
"""The levels there are, and the name of structlog's method for each."""

DEFAULT_LEVELS: Mapping[str, int] = MappingProxyType(
    {
        "change": logging.INFO,  # a start, send, cancel or terminate is done
        "look": logging.DEBUG,  # a describe, query or result is done, or was given up, also by closing the connection
        "refused": logging.INFO,  # an everyday no: not found, already running, finished; the caller deals with it
        "invalid": logging.WARNING,  # the caller passed something wrong; nothing was sent
        "given_up": logging.WARNING,  # the caller cancelled a change, which may have been carried out
        "failed": logging.ERROR,  # any other error
        "retry": logging.WARNING,
        "connected": logging.INFO,
        "disconnected": logging.WARNING,
        "closed": logging.INFO,
        "run_ended": logging.INFO,  # completed, or somebody cancelled or terminated it
        "run_failed": logging.WARNING,  # failed or timed out: the workflow's trouble, and no error of this program
    }
)
"""Each kind of record and its level."""

_EVERYDAY = (WorkflowNotFoundError, WorkflowAlreadyRunningError, WorkflowFinishedError)


def checked_levels(changes: Mapping[str, int | str] | None) -> Mapping[str, int]:
    """Return the levels with some changed.

    Args:
        changes: a kind of record to a level: ``"info"``, ``"INFO"`` or ``logging.INFO``.

    Raises:
        InvalidInputError: there is no such kind, or no such level.

    """
    levels = dict(DEFAULT_LEVELS)
    by_name = {name: level for level, name in LEVEL_NAMES.items()}
    for kind, given in (changes or {}).items():
        if kind not in DEFAULT_LEVELS:
            raise InvalidInputError(f"levels has no {kind!r}: there are {', '.join(DEFAULT_LEVELS)}")
        level = by_name.get(given.lower()) if isinstance(given, str) else given
        if isinstance(level, bool) or not isinstance(level, int) or level not in LEVEL_NAMES:
            raise InvalidInputError(f"levels[{kind!r}] is no level: {given!r}. There are {', '.join(by_name)}")
        levels[kind] = level
    return levels


def kind_of_success(call: Call) -> str:
    """Return the kind of record for an operation that did its work."""
    return "change" if isinstance(call, CommandCall) and call.changes_state else "look"


def kind_of_error(call: Call, error: BaseException) -> str:
    """Return the kind of record for an operation that ended in an error."""
    if isinstance(error, _EVERYDAY):
        return "refused"
    if isinstance(error, InvalidInputError):
        return "invalid"
    if isinstance(error, ConnectionClosedError) and isinstance(call, ResultCall):
        return "look"  # the program closes its connection, as at each of its ends: thousands may wait over it
    if isinstance(error, asyncio.CancelledError):
        kind = kind_of_success(call)
        return "given_up" if kind == "change" else kind
    return "failed"
