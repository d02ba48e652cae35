"""``workflow send``, ``workflow cancel`` and ``workflow terminate``."""

from __future__ import annotations

from typing import Any

import click

from grctl.cli.inputs import input_options, read_input
from grctl.cli.options import Connecting, connecting, json_option, run_options
from grctl.cli.output import Output
from grctl.cli.session import Session, in_session
from grctl.cli.workflow.records import name_of
from grctl_core.handle import WorkflowHandle

__all__ = ["cancel", "send", "terminate"]


@click.command()
@run_options
@click.option("--event", "-e", "event_name", metavar="NAME", required=True, help="An event that the workflow handles.")
@input_options("each key is a parameter of the event's handler")
@click.option("--unchecked", is_flag=True, help="Send it even if the workflow type handles no such event.")
@json_option
@connecting
def send(
    options: Connecting,
    /,
    *,
    workflow_id: str,
    run_id: str | None,
    event_name: str,
    input_text: str | None,
    input_file: str | None,
    unchecked: bool,
    as_json: bool,
) -> int:
    """Send an event to a run. It is accepted then, and maybe not yet handled."""
    payload = read_input(input_text, input_file)
    output = Output(as_json=as_json)

    async def work(session: Session) -> None:
        handle = await session.client.get_handle(workflow_id, run_id)
        session.left = f"event {event_name!r} may have been sent"
        await handle.send(event_name, payload, check_event=not unchecked)
        _say(output, handle, f"sent {event_name!r} to", event=event_name)

    return in_session(options, output, work)


_REASON = click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the run's history.")


@click.command()
@run_options
@_REASON
@json_option
@connecting
def cancel(options: Connecting, /, *, workflow_id: str, run_id: str | None, reason: str, as_json: bool) -> int:
    """Ask a run to end: at once while it waits, else when its present step has ended.

    It returns when the server has accepted that; `workflow result` waits for the end.
    """
    output = Output(as_json=as_json)

    async def work(session: Session) -> None:
        handle = await session.client.get_handle(workflow_id, run_id)
        session.left = "the cancel may have been sent"
        await handle.cancel(reason)
        _say(output, handle, "asked to end:", reason=reason)

    return in_session(options, output, work)


@click.command()
@run_options
@_REASON
@json_option
@connecting
def terminate(options: Connecting, /, *, workflow_id: str, run_id: str | None, reason: str, as_json: bool) -> int:
    """End a run at once. A step that is running is abandoned, and the workflow gets no chance to clean up."""
    output = Output(as_json=as_json)

    async def work(session: Session) -> None:
        handle = await session.client.get_handle(workflow_id, run_id)
        session.left = "the terminate may have been sent"
        await handle.terminate(reason)
        _say(output, handle, "terminated", reason=reason)

    return in_session(options, output, work)


def _say(output: Output, handle: WorkflowHandle[Any], what: str, **more: str) -> None:
    run = handle.run_info
    if output.as_json:
        output.json({"workflow_id": run.wf_id, "run_id": run.id, "accepted": True, **more})
    elif output.for_people:
        output.row(f"{what} {name_of(run)}")
