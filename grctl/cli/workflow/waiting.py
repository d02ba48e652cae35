"""Waiting for the end of a run, and saying what it was."""

from __future__ import annotations

import shlex
from typing import Any

from grctl.cli.endings import code_of_outcome
from grctl.cli.exits import ExitCode
from grctl.cli.output import say_error
from grctl.cli.session import Session
from grctl.cli.workflow.records import name_of, outcome_map, sentence
from grctl_core.handle import WorkflowHandle

__all__ = ["wait_for_end"]


async def wait_for_end(session: Session, handle: WorkflowHandle[Any], timeout: float | None) -> ExitCode:
    """Wait for the end; write the result, or say why there is none.

    Raises:
        TimeoutError: the timeout is over; the run goes on.

    """
    run = handle.run_info
    this = f"--id {shlex.quote(run.wf_id)} --run-id {shlex.quote(run.id)}"
    session.left = (
        f"{name_of(run)} goes on. To wait for it again: grctl-client workflow result {this}; to end it: "
        f"grctl-client workflow cancel {this}"
    )
    with session.output.waiting(f"waiting for {run.wf_id} ({run.wf_type})"):
        outcome = await handle.outcome(timeout)
    session.left = ""
    if session.output.as_json:
        session.output.json(outcome_map(outcome))
    elif outcome.completed:
        session.output.value(outcome.result)
    if not outcome.completed:
        say_error(sentence(outcome))
        if outcome.error is not None and outcome.error.stack_trace:
            session.output.note(f"its stack trace: grctl-client workflow describe {this}")
    return code_of_outcome(outcome)
