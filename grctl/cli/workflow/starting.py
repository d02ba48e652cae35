"""``workflow start`` and ``workflow run``."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from grctl.cli.exits import ExitCode
from grctl.cli.inputs import input_options, read_input
from grctl.cli.options import Connecting, Seconds, checked_id, connecting, json_option
from grctl.cli.output import Output
from grctl.cli.session import Session, in_session
from grctl.cli.workflow.records import run_map
from grctl.cli.workflow.waiting import wait_for_end
from grctl_core.handle import WorkflowHandle
from grctl_core.ids import new_ulid
from grctl_core.protocols import OnConflict

__all__ = ["run", "start"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--type",
        "-t",
        "workflow_type",
        metavar="TYPE",
        required=True,
        callback=checked_id,
        help="A registered workflow type.",
    ),
    click.option(
        "--id",
        "-i",
        "workflow_id",
        metavar="ID",
        callback=checked_id,
        help="The workflow id: your own stable name, one active run at a time.  "
        "[default: the type and ten random characters]",
    ),
    input_options("each key is a parameter of the start handler"),
    click.option("--workflow-timeout", type=Seconds(), metavar="DURATION", help="How long the run may take: 30s, 2h."),
    click.option(
        "--on-conflict",
        type=click.Choice(get_args(OnConflict)),
        default="raise",
        show_default=True,
        help="What to do where the id has an active run: refuse; go on with that run; or end it and start.",
    ),
    json_option,
)


def _start_options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@_start_options
@connecting
def start(options: Connecting, /, *, as_json: bool, **given: Any) -> int:
    """Start a workflow, and return as soon as the server has accepted it.

    In a pipe it writes the workflow id and the run id, with a tab between them.
    """
    output = Output(as_json=as_json)

    async def work(session: Session) -> None:
        handle = await _start(session, **given)
        run = handle.run_info
        if output.as_json:
            output.json(run_map(run))
        elif output.for_people:
            output.row(f"started {run.wf_id} ({run.wf_type}), run {run.id}")
        else:
            output.row(run.wf_id, run.id)

    given["workflow_input"] = read_input(given.pop("input_text"), given.pop("input_file"))
    return in_session(options, output, work)


@click.command()
@_start_options
@click.option("--timeout", type=Seconds(), metavar="DURATION", help="How long to wait; the run goes on after that.")
@connecting
def run(options: Connecting, /, *, as_json: bool, timeout: float | None, **given: Any) -> int:
    """Start a workflow, and wait for its result.

    Ctrl-C ends the waiting, never the workflow.
    """
    output = Output(as_json=as_json)

    async def work(session: Session) -> ExitCode:
        handle = await _start(session, **given)
        run = handle.run_info
        output.note(f"started {run.wf_id} ({run.wf_type}), run {run.id}")
        return await wait_for_end(session, handle, timeout)

    given["workflow_input"] = read_input(given.pop("input_text"), given.pop("input_file"))
    return in_session(options, output, work)


async def _start(
    session: Session,
    *,
    workflow_type: str,
    workflow_id: str | None,
    workflow_input: Any,
    workflow_timeout: float | None,
    on_conflict: OnConflict,
) -> WorkflowHandle[Any]:
    if workflow_id is None:
        workflow_id = f"{workflow_type}-{new_ulid()[-10:].lower()}"
    look = f"grctl-client workflow describe --id {shlex.quote(workflow_id)}"
    session.left = f"workflow {workflow_id!r} may have been started: {look} tells"
    handle = await session.client.start_workflow(
        workflow_type, workflow_id, workflow_input, workflow_timeout, on_conflict=on_conflict
    )
    session.left = f"workflow {workflow_id!r} goes on"
    return handle
