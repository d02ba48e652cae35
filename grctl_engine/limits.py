"""Limits: the bounds of an engine, each explicit."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from grctl_core.errors import InvalidInputError

__all__ = ["EngineLimits", "LimitCode", "QueryCode"]


class LimitCode:
    """Codes of refusals for a limit. Not the server's (docs/protocol.md, section 2), which has no such limits; not
    5000 either, which would say that the command may have been carried out."""

    INBOX = 4290
    ACTIVE_RUNS = 4291
    QUERIES = 4292


class QueryCode:
    """Codes of refused queries. The server has no queries, and so no codes for them."""

    UNKNOWN = 4293
    FAILED = 4294
    TIMED_OUT = 4295


class EngineLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one engine holds at most.

    A run that goes on keeps its whole history: some 300 bytes for each event of it, without a limit.

    Attributes:
        finished_runs: how many runs that have ended are kept; beyond that the oldest end goes first.
        finished_retention: how long such a run is kept. Older ones go when the engine is next used.
        inbox: how many events one run keeps while a step runs; further ones are refused.
        running_steps: how many steps run at once; further ones wait for their turn, in the order of their dispatch. A
            step that sleeps counts, one that waits for its child in ``ctx.run_child`` does not.
        active_runs: how many runs are going on at once; further starts are refused.
        running_queries: how many queries are being answered at once; further ones are refused.
        query_timeout: how long the handler of a query may take: by the machine's time, also where a ``ManualClock``
            stands still. Less than the 5 s that a client waits for an answer, so that its caller learns the reason.
    """

    finished_runs: int = 10_000
    finished_retention: timedelta = timedelta(days=1)
    inbox: int = 100_000
    running_steps: int = 1_000
    active_runs: int = 1_000_000
    running_queries: int = 1_000
    query_timeout: timedelta = timedelta(seconds=3)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InvalidInputError: one is not above zero, or of another type.

        """
        for name in ("finished_runs", "inbox", "running_steps", "active_runs", "running_queries"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidInputError(f"EngineLimits.{name} must be a whole number of at least 1, not {value!r}")
        for name in ("finished_retention", "query_timeout"):
            value = getattr(self, name)
            if not isinstance(value, timedelta) or value <= timedelta(0):
                raise InvalidInputError(f"EngineLimits.{name} must be a timedelta above zero, not {value!r}")
