"""LoggingPlugin: one record for each operation, retry, end of a run and change of the connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from grctl_core.calls import Call, CommandCall, SendCall
from grctl_core.errors import InvalidInputError, RefusedError
from grctl_core.hooks import Plugin, Proceed
from grctl_core.outcome import Outcome
from grctl_core.protocols import Connection, ConnectionEvent
from grctl_core.run import RunInfo, RunRef, RunStatus
from grctl_logging.context import run_context
from grctl_logging.levels import checked_levels, kind_of_error, kind_of_success
from grctl_logging.output import Output

__all__ = ["LoggingPlugin"]

_TROUBLE = frozenset({RunStatus.FAILED, RunStatus.TIMED_OUT})


class LoggingPlugin(Plugin):
    """Logs what the client does: ids, durations and results, never a payload, a header, a reason or an error's text.

    Records go to structlog where the application has configured it by the time of the first one, and to the standard
    library otherwise. An application that has configured neither sees nothing.

    Args:
        logger: name of the logger.
        levels: other levels for some kinds of records, such as ``{"retry": "info"}``; the kinds are the keys of
            ``grctl_logging.levels.DEFAULT_LEVELS``.

    Raises:
        InvalidInputError: there is no such kind of record or level, or the name is empty.
    """

    name = "logging"
    listed_after: ClassVar[tuple[str, ...]] = ("tracing",)

    def __init__(self, *, logger: str = "grctl", levels: Mapping[str, int | str] | None = None) -> None:
        if not isinstance(logger, str) or not logger:
            raise InvalidInputError("logger must be the name of a logger, such as 'grctl'")
        self._levels = checked_levels(levels)
        self._output = Output(logger)

    async def grctl_operation(self, call: Call, proceed: Proceed[Any, Any]) -> Any:
        """Log how the operation went."""
        begun = time.perf_counter()
        try:
            result = await proceed(call)
        except (Exception, asyncio.CancelledError) as error:
            self._operation(kind_of_error(call, error), call, begun, error, None)
            raise
        self._operation(kind_of_success(call), call, begun, None, result)
        return result

    def _operation(self, kind: str, call: Call, begun: float, error: BaseException | None, result: object) -> None:
        level = self._levels[kind]
        if not self._output.listens(level):
            return
        # A start may have come to a run that was there (on_conflict="attach"), a describe to the latest of an id.
        run = result.ref if isinstance(result, RunInfo) else call.run
        fields: dict[str, object] = {"operation": call.operation}
        fields["result"] = "ok" if error is None else type(error).__name__
        if isinstance(error, RefusedError) and error.code is not None:
            fields["code"] = int(error.code)
        if isinstance(result, Outcome):
            fields["status"] = result.status.value
        fields |= _ids(run)
        if isinstance(call, SendCall):
            fields["event_name"] = call.event_name  # "event" is structlog's own
        if isinstance(call, CommandCall):
            fields["attempts"] = call.attempts
        fields["duration"] = round(time.perf_counter() - begun, 6)
        self._output.write(level, "grctl.operation", fields)

    def grctl_retry_scheduled(self, call: CommandCall, error: Exception, delay: float, attempt: int) -> None:
        """Log that a call will be tried again."""
        level = self._levels["retry"]
        if self._output.listens(level):
            fields: dict[str, object] = {"operation": call.operation, "error": type(error).__name__}
            fields |= {**_ids(call.run), "attempt": attempt, "delay": round(delay, 6)}
            self._output.write(level, "grctl.retry", fields)

    def grctl_run_ended(self, run: RunInfo, outcome: Outcome[Any], waited: float, state: Mapping[str, Any]) -> None:
        """Log how a run ended."""
        level = self._levels["run_failed" if outcome.status in _TROUBLE else "run_ended"]
        if self._output.listens(level):
            fields = {"status": outcome.status.value, **_ids(run.ref), "waited": round(waited, 6)}
            self._output.write(level, "grctl.run_ended", fields)

    def grctl_connection_changed(self, connection: Connection, event: ConnectionEvent) -> None:
        """Log that the connection is up, lost or closed."""
        level = self._levels[event.value]
        if self._output.listens(level):
            self._output.write(level, "grctl.connection", {"state": event.value})

    def grctl_log_context(self, run: RunRef) -> AbstractContextManager[None]:
        """Have the caller's own records name the run."""
        return run_context(run)


def _ids(run: RunRef) -> dict[str, object]:
    """Return what names the run; without what is not known of it (get_handle)."""
    ids = {"workflow_id": run.wf_id, "run_id": run.run_id, "workflow_type": run.wf_type}
    return {name: value for name, value in ids.items() if value}
