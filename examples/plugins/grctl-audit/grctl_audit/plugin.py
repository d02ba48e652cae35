"""AuditPlugin: a row for each start, on the disk before the start is sent."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import grctl
from grctl.plugins import Proceed, StartCall
from grctl_audit.writer import Writer

__all__ = ["AuditError", "AuditPlugin", "acting_as"]

FILE = "GRCTL_AUDIT_FILE"

_log = logging.getLogger("grctl_audit")
_who: contextvars.ContextVar[str | None] = contextvars.ContextVar("grctl_audit_who", default=None)

_INSERT = "INSERT INTO starts (at, who, workflow_type, workflow_id, run_id) VALUES (?, ?, ?, ?, ?)"
_RESULT = "UPDATE starts SET result = ? WHERE run_id = ?"
_ATTACHED = "UPDATE starts SET result = 'attached', run_id = ? WHERE run_id = ?"


class AuditError(grctl.InvalidInputError):
    """The start was refused, as it could not be recorded. Nothing was sent."""


@contextlib.contextmanager
def acting_as(who: str) -> Iterator[None]:
    """Name who makes the starts of the block, and of tasks begun in it."""
    token = _who.set(who)
    try:
        yield
    finally:
        _who.reset(token)


class AuditPlugin(grctl.Plugin):
    """Writes who started what into an SQLite file.

    Args:
        file: the file; it is made at the first start. None takes the name in the environment's GRCTL_AUDIT_FILE, or
            else ``grctl-audit.sqlite3`` in the current folder.
        who: returns who makes a start, None for nobody; by default whom :func:`acting_as` names. It is called in the
            task that starts, and must return at once. What it raises refuses the start.
        required: whether a start that cannot be recorded is refused. Otherwise it goes on, and a warning is logged.
        patience: seconds that a row waits for a file which another program has locked.

    Raises:
        InvalidInputError: ``patience`` is not above zero.
    """

    name = "audit"

    def __init__(
        self,
        file: str | os.PathLike[str] | None = None,
        *,
        who: Callable[[], str | None] = _who.get,
        required: bool = True,
        patience: float = 5.0,
    ) -> None:
        if not patience > 0:
            raise grctl.InvalidInputError(f"patience must be above zero seconds, not {patience!r}")
        self._file = Path(file or os.environ.get(FILE) or "grctl-audit.sqlite3").absolute()
        self._who = who
        self._required = required
        self._writer = Writer(self._file, patience)

    def __repr__(self) -> str:
        """Show where it writes."""
        return f"<AuditPlugin {str(self._file)!r}>"

    async def grctl_start(self, call: StartCall, proceed: Proceed[StartCall, grctl.RunInfo]) -> grctl.RunInfo:
        """Record the start, then make it, then have its result recorded."""
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        row = (at, self._who(), call.workflow_type, call.workflow_id, call.run_id)
        try:
            await asyncio.wrap_future(self._writer.write(_INSERT, row))
        except asyncio.CancelledError:
            self._record(_RESULT, "CancelledError", call.run_id)  # should the row have been written nevertheless
            raise
        except (sqlite3.Error, OSError) as error:
            if self._required:
                raise AuditError(
                    f"workflow {call.workflow_id!r} was not started, as that could not be recorded in "
                    f"{str(self._file)!r}: {error}"
                ) from error
            _log.warning("the start of workflow %r is not recorded: %s", call.workflow_id, error)
            return await proceed(call)
        try:
            run = await proceed(call)
        except BaseException as error:
            self._record(_RESULT, type(error).__name__, call.run_id)
            raise
        if run.id == call.run_id:
            self._record(_RESULT, "started", call.run_id)
        else:
            self._record(_ATTACHED, run.id, call.run_id)
        return run

    def _record(self, statement: str, value: str, run_id: str) -> None:
        """Write behind the call: it is over, and neither waits for the disk nor suffers from it."""
        writing = self._writer.write(statement, (value, run_id))
        writing.add_done_callback(lambda done: self._complain(run_id, done.exception()))

    def _complain(self, run_id: str, error: BaseException | None) -> None:
        if error is not None:
            _log.warning("the result of the start of run %s is not recorded: %s", run_id, error)

    async def aclose(self) -> None:
        """Wait until all is on the disk, and end the thread."""
        await asyncio.to_thread(self._writer.close)
