"""``workflow history``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from grctl.cli.event_lines import EventLines
from grctl.cli.exits import CommandError, ExitCode
from grctl.cli.options import Connecting, Seconds, connecting, json_option, run_options
from grctl.cli.output import Output
from grctl.cli.session import Session, in_session
from grctl.cli.timeline import show_timeline, timeline_options, write_svg
from grctl.cli.workflow.records import name_of

__all__ = ["history"]


@click.command()
@run_options
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on, until the run has ended.")
@click.option("--timeout", type=Seconds(), metavar="DURATION", help="How long to follow; the run goes on after that.")
@timeline_options
@json_option
@connecting
def history(
    options: Connecting,
    /,
    *,
    workflow_id: str,
    run_id: str | None,
    follow: bool,
    timeout: float | None,
    timeline: bool,
    svg: Path | None,
    as_json: bool,
) -> int:
    """Show what happened in a run, from its beginning.

    --timeline and --svg draw it instead, as far as it has come. In a pipe: number, time, kind, data as JSON, with tabs
    between them.
    """
    drawn = timeline or svg is not None
    if drawn and follow:
        raise click.UsageError(
            "--timeline and --svg draw a run as it stands now. To follow it take 'grctl-client workflow watch', or "
            "wait for its end with 'grctl-client workflow result' and draw it then."
        )
    if drawn and as_json:
        raise click.UsageError("--timeline and --svg draw for people, --json writes data: take one of them.")
    if timeout is not None and not follow:
        raise click.UsageError("--timeout says how long to --follow.")
    output = Output(as_json=as_json)

    async def write_lines(session: Session) -> None:
        handle = await session.client.get_handle(workflow_id, run_id)
        session.left = f"{name_of(handle.run_info)} goes on" if follow and not handle.run_info.is_finished else ""
        lines = EventLines(output)
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                async for event in handle.history(follow=follow):
                    lines.write(event)
        except TimeoutError:
            if limit.expired():
                raise CommandError(f"{name_of(handle.run_info)} goes on", ExitCode.TIMED_OUT) from None
            raise

    async def draw(session: Session) -> None:
        handle = await session.client.get_handle(workflow_id, run_id)
        with output.waiting("reading the history"):
            events = [event async for event in handle.history()]
        if timeline:
            show_timeline(events, handle.run_info, output)
        if svg is not None:
            write_svg(svg, events, handle.run_info)
            output.note(f"the picture is in {svg}")

    return in_session(options, output, draw if drawn else write_lines)
