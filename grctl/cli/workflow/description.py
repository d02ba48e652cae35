"""Description: all that is known of one run at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from grctl.cli.session import Session
from grctl.cli.text import ago, json_text, moment, span
from grctl.cli.workflow.activity import Activity, read_activity
from grctl.cli.workflow.records import STYLES, outcome_map, run_map, took, word
from grctl.safe_text import safe
from grctl_core.outcome import Outcome
from grctl_core.run import RunInfo

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Description", "describe_run"]

_READ_SECONDS = 10.0


@dataclass(frozen=True)
class Description:
    """What is known of one run.

    Attributes:
        run: its record.
        activity: what it is doing, where it goes on.
        outcome: how it ended, where it has.
    """

    run: RunInfo
    activity: Activity | None = None
    outcome: Outcome[Any] | None = None

    def as_map(self) -> dict[str, Any]:
        """Return it as the map that ``--json`` shows."""
        if self.outcome is not None:
            return outcome_map(self.outcome)
        doing = None if self.activity is None else {"doing": self.activity.what, "since": self.activity.since}
        return {**run_map(self.run), "activity": doing}

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield names and values, in the order of interest; times are ISO 8601."""
        for name, value in self.as_map().items():
            if value is not None and value != "":
                yield name, value if isinstance(value, str) else json_text(value).strip('"')

    def as_table(self) -> Table:
        """Return it for a terminal."""
        from rich.table import Table
        from rich.text import Text

        now = datetime.now(UTC)
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value, style in self._lines(now):
            table.add_row(name, Text(value, style))
        return table

    def _lines(self, now: datetime) -> Iterator[tuple[str, str, str]]:
        run, outcome = self.run, self.outcome
        status = outcome.status if outcome is not None else run.status
        yield "workflow id", safe(run.wf_id), "bold"
        yield "type", safe(run.wf_type), ""
        yield "run id", safe(run.id), ""
        yield "status", word(status), STYLES.get(status, "") if status is not None else ""
        if self.activity is not None:
            yield (
                "now",
                f"{safe(self.activity.what)}, since {span((now - self.activity.since).total_seconds())}",
                "bold",
            )
        yield "created", f"{moment(run.created_at)}, {ago(run.created_at, now)}", ""
        if run.started_at is not None:
            yield "started", moment(run.started_at), ""
        if run.completed_at is not None:
            yield "ended", f"{moment(run.completed_at)}, {ago(run.completed_at, now)}", ""
        seconds = took(run)
        if seconds is not None:
            yield "took", span(seconds), ""
        if run.timeout is not None:
            yield "timeout", span(run.timeout.total_seconds()), ""
        if run.worker_name:
            yield "worker", safe(run.worker_name), ""
        if run.parent_wf_id:
            yield "parent", f"{safe(run.parent_wf_id)} (run {safe(run.parent_run_id)})", ""
        if outcome is not None:
            yield from _end_lines(outcome)


def _end_lines(outcome: Outcome[Any]) -> Iterator[tuple[str, str, str]]:
    if outcome.completed:
        yield "result", json_text(outcome.result, indent=2), ""
    if outcome.error is not None:
        yield "error", f"{safe(outcome.error.type)}: {safe(outcome.error.message, lines=True)}", "red"
        if outcome.error.stack_trace:
            yield "", safe(outcome.error.stack_trace.rstrip(), lines=True), "dim"
    if outcome.reason:
        yield "reason", safe(outcome.reason, lines=True), ""


async def describe_run(session: Session, workflow_id: str, run_id: str | None) -> Description:
    """Read what is known of a run.

    Raises:
        WorkflowNotFoundError: there is no such run.

    """
    handle = await session.client.get_handle(workflow_id, run_id)
    run = handle.run_info
    if run.is_finished:
        outcome = await handle.outcome(_READ_SECONDS)
        return Description(outcome.run, outcome=outcome)
    return Description(run, await read_activity(handle))
