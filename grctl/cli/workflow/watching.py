"""``workflow watch``."""

from __future__ import annotations

import click

from grctl.cli.endings import code_of_outcome
from grctl.cli.options import Connecting, connecting, json_option, run_options
from grctl.cli.output import Output, say_error
from grctl.cli.session import Session, in_session
from grctl.cli.workflow.records import name_of, sentence

__all__ = ["watch"]


@click.command()
@run_options
@json_option
@connecting
def watch(options: Connecting, /, *, workflow_id: str, run_id: str | None, as_json: bool) -> int:
    """Follow a run until it ends: a timeline that grows on a terminal, a line for each event in a pipe.

    The lines are those of `history`. With --json a last one says how the run ended. Ctrl-C ends the watching, never the
    workflow.
    """
    output = Output(as_json=as_json)

    async def work(session: Session) -> int:
        from grctl.cli.watching import watch as follow

        handle = await session.client.get_handle(workflow_id, run_id)
        session.left = f"{name_of(handle.run_info)} goes on" if not handle.run_info.is_finished else ""
        outcome = await follow(handle, output)
        session.left = ""
        if not outcome.completed:
            say_error(sentence(outcome))
        return code_of_outcome(outcome)

    return in_session(options, output, work)
