"""``workflow result``, ``workflow describe`` and ``workflow query``."""

from __future__ import annotations

import click

from grctl.cli.exits import ExitCode
from grctl.cli.inputs import input_options, read_input
from grctl.cli.options import Connecting, Seconds, connecting, json_option, run_options
from grctl.cli.output import Output
from grctl.cli.session import Session, in_session
from grctl.cli.workflow.description import Description, describe_run
from grctl.cli.workflow.waiting import wait_for_end

__all__ = ["describe", "query", "result"]


@click.command()
@run_options
@click.option("--timeout", type=Seconds(), metavar="DURATION", help="How long to wait; the run goes on after that.")
@json_option
@connecting
def result(
    options: Connecting, /, *, workflow_id: str, run_id: str | None, timeout: float | None, as_json: bool
) -> int:
    """Wait for the end of a run, and show its result.

    Ctrl-C ends the waiting, never the workflow.
    """
    output = Output(as_json=as_json)

    async def work(session: Session) -> ExitCode:
        handle = await session.client.get_handle(workflow_id, run_id)
        return await wait_for_end(session, handle, timeout)

    return in_session(options, output, work)


@click.command()
@run_options
@json_option
@connecting
def describe(options: Connecting, /, *, workflow_id: str, run_id: str | None, as_json: bool) -> int:
    """Show what is known of a run: how it stands, what it is doing, how it ended."""
    output = Output(as_json=as_json)

    async def work(session: Session) -> None:
        with output.waiting("reading the records"):
            description = await describe_run(session, workflow_id, run_id)
        _show(output, description)

    return in_session(options, output, work)


def _show(output: Output, description: Description) -> None:
    if output.as_json:
        output.json(description.as_map())
    elif output.for_people:
        output.show(description.as_table())
    else:
        for name, value in description.rows():
            output.row(name, value)


@click.command()
@run_options
@click.option("--query", "-q", "query_name", metavar="NAME", required=True, help="A query that the workflow answers.")
@input_options("each key is an argument of the query")
@connecting
def query(
    options: Connecting,
    /,
    *,
    workflow_id: str,
    run_id: str | None,
    query_name: str,
    input_text: str | None,
    input_file: str | None,
) -> int:
    """Ask a query handler, and show its answer as JSON.

    grctld v0.4 and the development server answer no queries: this says so then. The embedded engine does.
    """
    arguments = read_input(input_text, input_file) or {}
    output = Output()

    async def work(session: Session) -> None:
        handle = await session.client.get_handle(workflow_id, run_id)
        output.value(await handle.query(query_name, **arguments))

    return in_session(options, output, work)
