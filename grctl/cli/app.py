"""The commands, each in a module of its own."""

from __future__ import annotations

import click

from grctl.cli.dev import dev
from grctl.cli.plugins import plugins
from grctl_core import __version__

__all__ = ["app"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="grctl-client %(version)s")
def app() -> None:
    """Ground Control durable workflows, from the client's side."""


app.add_command(dev)
app.add_command(plugins)
