"""``grctl-client workflow``: one module for what starts runs, one for what changes them, one for each way to look."""

from __future__ import annotations

import click

from grctl.cli.lazy import LazyGroup

__all__ = ["workflow"]

_COMMANDS = {
    "start": ("grctl.cli.workflow.starting:start", "Start a workflow, and return."),
    "run": ("grctl.cli.workflow.starting:run", "Start a workflow, and wait for its result."),
    "send": ("grctl.cli.workflow.changing:send", "Send an event."),
    "query": ("grctl.cli.workflow.looking:query", "Ask a query handler."),
    "result": ("grctl.cli.workflow.looking:result", "Wait for the end, and show the result."),
    "describe": ("grctl.cli.workflow.looking:describe", "Show what is known of a run."),
    "cancel": ("grctl.cli.workflow.changing:cancel", "Ask a run to end, after its present step."),
    "terminate": ("grctl.cli.workflow.changing:terminate", "End a run at once."),
    "list": ("grctl.cli.workflow.listing:list_", "List runs, the newest first."),
    "history": ("grctl.cli.workflow.history:history", "Show what happened in a run."),
    "watch": ("grctl.cli.workflow.watching:watch", "Follow a run until it ends."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def workflow() -> None:
    """Start workflows, look at them, send them events, end them."""
