"""``workflow list``."""

from __future__ import annotations

import heapq
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from grctl.cli.exits import ExitCode
from grctl.cli.options import Connecting, Seconds, checked_id, connecting, json_option
from grctl.cli.output import Output, say_error
from grctl.cli.session import Session, in_session
from grctl.cli.text import ago, json_text, moment, span
from grctl.cli.workflow.records import STYLES, run_map, took, word
from grctl.safe_text import safe
from grctl_core.errors import DecodeError
from grctl_core.run import RunInfo, RunStatus

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["list_"]


class _When(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.2 on
    """A moment: ISO 8601, with this machine's time zone where none is given, or a duration before now."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(str(value).strip()).astimezone()
        except (ValueError, OverflowError):
            pass
        try:
            return datetime.now(UTC) - timedelta(seconds=Seconds().convert(value, None, None))
        except (click.BadParameter, OverflowError):
            self.fail(f"{value!r} is no time: write 2026-07-01, 2026-07-01T12:00, or 2h for two hours ago", param, ctx)


@click.command("list")
@click.option(
    "--type", "-t", "workflow_type", metavar="TYPE", callback=checked_id, help="Only runs of this workflow type."
)
@click.option("--status", type=click.Choice([status.value for status in RunStatus]), help="Only runs with this status.")
@click.option("--id-prefix", metavar="TEXT", callback=checked_id, help="Only runs whose workflow id begins so.")
@click.option("--created-after", type=_When(), metavar="TIME", help="2026-07-01, or 2h for two hours ago.")
@click.option("--created-before", type=_When(), metavar="TIME", help="Likewise.")
@click.option("--limit", "-n", type=click.IntRange(1), default=100, show_default=True, help="How many at most.")
@click.option("--all", "everything", is_flag=True, help="All, however many.")
@json_option
@connecting
def list_(
    options: Connecting,
    /,
    *,
    workflow_type: str | None,
    status: str | None,
    id_prefix: str | None,
    created_after: datetime | None,
    created_before: datetime | None,
    limit: int,
    everything: bool,
    as_json: bool,
) -> int:
    """List runs, also those that have ended, the newest first.

    In a pipe: workflow id, type, status, run id, creation time, with tabs between them.
    """
    output = Output(as_json=as_json)

    async def work(session: Session) -> ExitCode:
        found = session.client.list_workflows(
            workflow_type=workflow_type,
            status=status,
            workflow_id_prefix=id_prefix,
            created_after=created_after,
            created_before=created_before,
        )
        newest = _Newest(None if everything else limit)
        unreadable: DecodeError | None = None
        with output.waiting("reading the records"):
            try:
                async for run in found:
                    newest.add(run)
            except DecodeError as error:  # some records; it comes when all others have come
                unreadable = error
        _show(output, newest)
        if unreadable is None:
            return ExitCode.OK
        say_error(str(unreadable))
        return ExitCode.FAILED

    return in_session(options, output, work)


class _Newest:
    """The newest of many runs, in no more memory than these take."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._runs: list[tuple[datetime, str, RunInfo]] = []
        self.seen = 0

    def add(self, run: RunInfo) -> None:
        self.seen += 1
        entry = (run.created_at, run.id, run)
        if self._limit is None:
            self._runs.append(entry)
        elif len(self._runs) < self._limit:
            heapq.heappush(self._runs, entry)
        else:
            heapq.heappushpop(self._runs, entry)

    def runs(self) -> list[RunInfo]:
        return [run for _, _, run in sorted(self._runs, key=lambda entry: entry[:2], reverse=True)]


def _show(output: Output, newest: _Newest) -> None:
    runs = newest.runs()
    if output.as_json:
        for run in runs:
            output.json(run_map(run))
    elif output.for_people:
        if runs:
            output.show(_table(runs, output.console.width))
    else:
        for run in runs:
            output.row(run.wf_id, run.wf_type, run.status or "", run.id, json_text(run.created_at).strip('"'))
    if not runs:
        output.note("no such runs")
    elif newest.seen > len(runs):
        output.note(f"the newest {len(runs)} of {newest.seen}: --limit shows more, --all shows all")


def _table(runs: list[RunInfo], width: int) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    now = datetime.now(UTC)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("workflow id", overflow="fold")
    if width >= 60:
        table.add_column("type", overflow="fold")
    table.add_column("status", overflow="fold")
    table.add_column("created", no_wrap=width >= 60)
    if width >= 60:
        table.add_column("took", no_wrap=True, justify="right")
    if width >= 110:
        table.add_column("run id", no_wrap=True, style="dim")
    for run in runs:
        created = moment(run.created_at) if width >= 110 else ago(run.created_at, now)
        seconds = took(run)
        cells = [Text(safe(run.wf_id)), Text(word(run.status), STYLES.get(run.status, "") if run.status else "dim")]
        cells.append(Text(created))
        if width >= 60:
            cells.insert(1, Text(safe(run.wf_type)))
            cells.append(Text("" if seconds is None else span(seconds)))
        if width >= 110:
            cells.append(Text(safe(run.id)))
        table.add_row(*cells)
    return table
