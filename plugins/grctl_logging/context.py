"""Context: which run the code is concerned with at the moment, for the caller's own records."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

from grctl_core.run import RunRef
from grctl_logging.output import configured_structlog

__all__ = ["RunContextFilter", "run_context"]

_current: ContextVar[RunRef | None] = ContextVar("grctl_logging_run", default=None)


@contextlib.contextmanager
def run_context(run: RunRef) -> Iterator[None]:
    """Have the records of the block, and of tasks begun in it, name this run. Blocks nest: the inner one counts."""
    structlog = configured_structlog()
    token = _current.set(run)
    try:
        with contextlib.ExitStack() as stack:
            if structlog is not None:
                bind = structlog.contextvars.bound_contextvars
                stack.enter_context(bind(workflow_id=run.wf_id, run_id=run.run_id, workflow_type=run.wf_type))
            yield
    finally:
        with contextlib.suppress(ValueError):  # left in another context than entered: a fixture, a generator
            _current.reset(token)


class RunContextFilter(logging.Filter):
    """Gives each record ``workflow_id``, ``run_id`` and ``workflow_type``: those of ``with handle.log_context():``.

    It rejects no record. Put it on handlers: the filters of a logger do not see the records of loggers below it. A
    record that has a field already keeps it.
    """

    def __init__(self, *, outside: object = "-") -> None:
        """Take what the fields are outside of any block, so that a format string can always name them."""
        super().__init__()
        self._outside = outside

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields."""
        run = _current.get()
        fields = (
            ("workflow_id", run and run.wf_id),
            ("run_id", run and run.run_id),
            ("workflow_type", run and run.wf_type),
        )
        for name, value in fields:
            if not hasattr(record, name):
                setattr(record, name, self._outside if value is None else value)
        return True
