"""``grctl-client doctor``: shows what the doctor finds, as it finds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import click

from grctl.cli.exits import ExitCode
from grctl.cli.options import Connecting, connecting, json_option
from grctl.cli.output import Output, say_error, set_up_logging
from grctl.cli.session import check_server_url
from grctl.doctor import Examination, Finding, Level, examine, repair
from grctl.safe_text import safe

__all__ = ["doctor"]

_SIGNS = {
    Level.OK: ("ok", "green"),
    Level.WARNING: ("warning", "yellow"),
    Level.FAILED: ("failed", "red"),
    Level.SKIPPED: ("skipped", "dim"),
}


@click.command()
@click.option("--type", "-t", "workflow_type", metavar="TYPE", help="A workflow type that must be registered.")
@click.option(
    "--repair", "wants_repair", is_flag=True, help="Write back the records that contradict their state, if any do."
)
@json_option
@connecting
def doctor(options: Connecting, /, *, workflow_type: str | None, wants_repair: bool, as_json: bool) -> int:
    """Find out what is wrong between here and a working server, and what to do.

    It looks, and changes nothing unless --repair is given. It exits with 0 if nothing has failed (warnings do not
    count), else with 1.

    In a pipe: check, level, message, what to do, with tabs between them.
    """
    set_up_logging(options.log_level or "error")
    check_server_url(options.server_url)
    output = Output(as_json=as_json)
    examination = Examination(options.server_url, options.login(), workflow_type)
    try:
        return asyncio.run(_examine(examination, output, wants_repair=wants_repair))
    except KeyboardInterrupt:
        say_error("interrupted")
        return ExitCode.INTERRUPTED


async def _examine(examination: Examination, output: Output, *, wants_repair: bool) -> ExitCode:
    warnings = failures = 0
    left_out: list[Finding] = []
    try:
        async for finding in _findings(examination, wants_repair=wants_repair):
            warnings += finding.level is Level.WARNING
            failures += finding.level is Level.FAILED
            if output.for_people and finding.level is Level.SKIPPED and failures:
                left_out.append(finding)  # told in one line, at the end
            else:
                _show(output, finding)
    finally:
        await examination.close()
    if output.for_people:
        from rich.text import Text

        if left_out:
            output.show(Text(f"not looked at: {', '.join(finding.check for finding in left_out)}", "dim"))
        output.show(Text(_summary(failures, warnings)))
    return ExitCode.FAILED if failures else ExitCode.OK


async def _findings(examination: Examination, *, wants_repair: bool) -> AsyncIterator[Finding]:
    async for finding in examine(examination):
        if wants_repair and finding.check == "runs" and finding.level is Level.FAILED:
            async for repaired in repair(examination.patient):
                yield repaired
        else:
            yield finding


def _summary(failures: int, warnings: int) -> str:
    if failures:
        return f"{failures} failed. Mend it from the top: what comes later may follow from it."
    return f"Nothing has failed{f', {warnings} to look at' if warnings else ''}."


def _show(output: Output, finding: Finding) -> None:
    if output.as_json:
        output.json(
            {
                "check": finding.check,
                "level": finding.level,
                "message": finding.message,
                "mend": finding.mend,
                "details": finding.details,
            }
        )
    elif output.for_people:
        _print(output, finding)
    else:
        output.row(finding.check, finding.level, finding.message, finding.mend)


def _print(output: Output, finding: Finding) -> None:
    from rich.table import Table
    from rich.text import Text

    word, style = _SIGNS[finding.level]
    text = Text(safe(finding.message))
    if finding.mend:
        text.append(f"\n-> {safe(finding.mend)}", "bold")
    line = Table.grid(padding=(0, 2, 0, 0))
    if output.console.width >= 60:
        line.add_column(width=7)
        line.add_column(width=11)
        line.add_column(overflow="fold")
        line.add_row(Text(word, style), Text(safe(finding.check)), text)
    else:
        line.add_column(overflow="fold")
        line.add_row(Text.assemble((word, style), " ", safe(finding.check), ": ", text))
    output.show(line)
