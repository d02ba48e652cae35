"""``grctl-client dev``: the development server."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from grctl.cli.loading import load_workflows
from grctl.cli.options import Connecting
from grctl.cli.output import set_up_logging
from grctl.dev_server import DevServer, DevServerError
from grctl.dev_server.upkeep import keep_up
from grctl.safe_text import safe
from grctl_core.errors import InvalidInputError
from grctl_core.outcome import EncodedOutcome
from grctl_core.run import RunStatus
from grctl_nats.tasks import end_tasks

__all__ = ["dev"]

DEFAULT_PORT = 4225
"""Where clients look when they are told nothing."""

_STYLES = {
    RunStatus.COMPLETED: "green",
    RunStatus.FAILED: "red",
    RunStatus.TIMED_OUT: "yellow",
    RunStatus.CANCELLED: "blue",
    RunStatus.TERMINATED: "magenta",
}


@click.command(short_help="Run a development server with your workflows.")
@click.argument("workflows", nargs=-1, metavar="[MODULE:OBJECT]...")
@click.option(
    "--port", type=click.IntRange(0, 65535), help=f"Where to listen; 0 for a free one.  [default: {DEFAULT_PORT}]"
)
@click.option(
    "--store-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep everything in this folder. Without it all is gone when the server stops.",
)
@click.option("--nats-url", metavar="URL", help="Use a broker that is running already, instead of an own one.")
def dev(workflows: tuple[str, ...], port: int | None, store_dir: Path | None, nats_url: str | None) -> None:
    """Run a Ground Control server for development: a real nats-server, and your workflows behind it.

    MODULE:OBJECT names a Workflow, or a list of them, such as examples.process_order:workflows. With MODULE alone it is
    the module's `workflows`, or else every Workflow in it.
    """
    if nats_url is not None and (port is not None or store_dir is not None):
        raise click.UsageError("--port and --store-dir are for an own broker, --nats-url is for one that runs already.")
    options = click.get_current_context().find_object(Connecting) or Connecting()
    if options.server_url is not None:
        raise click.UsageError(
            "--server-url says where to find a server, and this is one: --nats-url names its broker."
        )
    set_up_logging(options.log_level or "info")
    console = Console(highlight=False)
    if nats_url is None:
        port = DEFAULT_PORT if port is None else port or None
    try:
        server = DevServer(
            load_workflows(workflows),
            port=port,
            store_dir=store_dir,
            nats_url=nats_url,
            on_end=lambda outcome: console.print(_line(outcome), soft_wrap=True),
        )
        code = asyncio.run(_serve(server, console, store_dir, own_broker=nats_url is None))
    except (DevServerError, InvalidInputError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


async def _serve(server: DevServer, console: Console, store_dir: Path | None, *, own_broker: bool) -> int:
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[int] = loop.create_future()

    def stop(code: int) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # a second one stops at once
            loop.remove_signal_handler(number)
        if not asked.done():
            asked.set_result(code)

    async with server:
        loop.add_signal_handler(signal.SIGINT, stop, 130)
        loop.add_signal_handler(signal.SIGTERM, stop, 0)
        _say(console, f"Ground Control development server, listening on {server.url}")
        _say(console, f"  hosts {', '.join(server.workflow_types) or 'no workflows: name some, as MODULE:OBJECT'}")
        if store_dir is not None:
            _say(console, f"  keeps everything in {store_dir}")
        _say(console, "  Ctrl-C stops it")
        code = await (_until(asked, server) if own_broker else asked)
        _say(console, "stopping: steps that are running get five seconds (Ctrl-C again: none)")
    _say(console, "stopped")
    return code


async def _until(asked: asyncio.Future[int], server: DevServer) -> int:
    """Wait until somebody asks for the end, and keep the server's own broker running until then."""
    upkeep = asyncio.create_task(keep_up(server.broker), name="grctl-dev-upkeep")
    try:
        either: list[asyncio.Future[Any]] = [asked, upkeep]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return asked.result() if asked.done() else upkeep.result()
    finally:
        await end_tasks(upkeep)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)


def _line(outcome: EncodedOutcome) -> Text:
    run = outcome.run
    took = 0.0
    if run.completed_at is not None:
        took = max(0.0, (run.completed_at - (run.started_at or run.created_at)).total_seconds())
    line = Text()
    status = run.status or RunStatus.COMPLETED
    line.append(f"{run.completed_at or run.created_at:%H:%M:%S} ", "dim")
    line.append(f"{status:<10} ", _STYLES.get(status, ""))
    line.append(f"{safe(run.wf_type)} {safe(run.wf_id)} ")
    line.append(f"({run.id}) {took:.2f} s", "dim")
    why = f"{outcome.error.type}: {outcome.error.message}" if outcome.error is not None else outcome.reason
    if why:
        line.append(f"  {safe(' '.join(why.split()))[:200]}")
    return line
