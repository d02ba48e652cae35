"""Attributes: what is said of runs, calls, refusals and ends. Never a value of the user's."""

from __future__ import annotations

from typing import Any

from grctl_core.calls import CommandCall, QueryCall, SendCall
from grctl_core.commands import Reply
from grctl_core.outcome import Outcome
from grctl_core.run import RunRef
from grctl_tracing import names

__all__ = ["call_attributes", "end_attributes", "refusal_attributes", "run_attributes"]


def refusal_attributes(reply: Reply) -> dict[str, str]:
    """Say with which code the server refused."""
    code = "unknown" if reply.error is None else str(reply.error.code)
    return {names.ERROR_TYPE: code, names.RPC_STATUS_CODE: code}


def end_attributes(outcome: Outcome[Any]) -> dict[str, str]:
    """Say how a run ended; of one that did not complete also our error class, never the workflow's own error."""
    status = {names.RUN_STATUS: outcome.status.value}
    return status if outcome.completed else {**status, **names.failure_attributes(outcome.to_error())}


def run_attributes(run: RunRef) -> dict[str, str]:
    """Say which run it is, as far as that is known."""
    known = {names.WORKFLOW_ID: run.wf_id, names.WORKFLOW_TYPE: run.wf_type, names.RUN_ID: run.run_id}
    return {name: value for name, value in known.items() if value}


def call_attributes(call: CommandCall) -> dict[str, str]:
    """Say what a call is for."""
    attributes = run_attributes(call.run)
    if isinstance(call, SendCall):
        attributes[names.EVENT_NAME] = call.event_name
    elif isinstance(call, QueryCall):
        attributes[names.QUERY_NAME] = call.query_name
    return attributes
