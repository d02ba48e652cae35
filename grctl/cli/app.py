"""The commands, each in a module of its own that is imported when it is used."""

from __future__ import annotations

import click

from grctl.cli.lazy import SafeGroup
from grctl.cli.options import global_options
from grctl_core import __version__

__all__ = ["app"]

_COMMANDS = {
    "workflow": ("grctl.cli.workflow:workflow", "Start workflows, look at them, send them events, end them."),
    "doctor": ("grctl.cli.doctor:doctor", "Find out what is wrong between here and a working server."),
    "dev": ("grctl.cli.dev:dev", "Run a development server with your workflows."),
    "plugins": ("grctl.cli.plugins:plugins", "See which plugins are installed, and what they do."),
    "completion": ("grctl.cli.completion:completion", "Print what makes a shell complete these commands."),
}

_EPILOG = "Exit codes: 0 done, 1 the workflow failed, 2 usage, 3 not found, 4 refused, 5 no connection, 6 timed out, \
130 Ctrl-C."


@click.group(
    cls=SafeGroup,
    lazy=_COMMANDS,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, message="grctl-client %(version)s")
@global_options
def app() -> None:
    """Ground Control durable workflows, from the client's side."""
