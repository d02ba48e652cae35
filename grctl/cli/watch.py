"""``grctl-client workflow watch``: follow a run until it ends."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click
from rich.console import Console

from grctl.cli.watching import watch as follow
from grctl.nats.connection import Connection
from grctl.timeline.printable import printable
from grctl_core.client import WorkflowClient
from grctl_core.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    GrctlError,
    InvalidInputError,
    WorkflowNotFoundError,
)
from grctl_core.outcome import Outcome
from grctl_core.run import RunStatus

__all__ = ["watch"]

_CODES: tuple[tuple[type[GrctlError], int], ...] = (
    (InvalidInputError, 2),
    (WorkflowNotFoundError, 3),
    (AccessDeniedError, 4),
    (ConnectionFailedError, 5),
)
INTERRUPTED = 130
CONNECT_SECONDS = 3.0
"""A person waits, so less than a program would."""


@click.command(short_help="Follow a run until it ends.")
@click.option("--id", "-i", "workflow_id", metavar="ID", required=True, help="The workflow id.")
@click.option("--run-id", metavar="ID", help="A certain run; without it the latest one.")
@click.option(
    "--server-url", "-s", metavar="URL", help="Where the server is; by default where GRCTL_NATS_SERVERS says."
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON: a line for each event, then one for the end.")
def watch(workflow_id: str, run_id: str | None, server_url: str | None, *, as_json: bool) -> None:
    """Follow a run until it ends: a timeline that grows on a terminal, a line for each event in a pipe.

    Ctrl-C ends the watching and not the run.
    """
    console = Console(markup=False, highlight=False, emoji=False)
    try:
        outcome = asyncio.run(_follow(workflow_id, run_id, server_url, console, as_json=as_json))
    except KeyboardInterrupt:
        click.echo(f"no longer watched: workflow {printable(workflow_id, 200)!r} goes on", err=True)
        sys.exit(INTERRUPTED)
    except GrctlError as error:
        click.echo(f"Error: {printable(str(error), 2_000)}", err=True)
        sys.exit(next((code for kind, code in _CODES if isinstance(error, kind)), 1))
    if not outcome.completed:
        sys.exit(6 if outcome.status is RunStatus.TIMED_OUT else 1)


async def _follow(
    workflow_id: str, run_id: str | None, server_url: str | None, console: Console, *, as_json: bool
) -> Outcome[Any]:
    async with await Connection.open(server_url, connect_timeout=CONNECT_SECONDS) as connection:
        handle = await WorkflowClient(connection).get_handle(workflow_id, run_id)
        return await follow(handle, console, json_lines=as_json)
