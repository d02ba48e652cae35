"""Subjects: where commands go and where records lie (docs/protocol.md, sections 1 to 5)."""

from __future__ import annotations

import re

from grctl_core.errors import InvalidInputError
from grctl_core.run import RunRef

__all__ = [
    "ALL_COMMANDS",
    "ALL_RUN_INFO",
    "STREAM",
    "check_tokens",
    "command",
    "error",
    "events",
    "history",
    "input",
    "is_token",
    "output",
    "registry",
    "run_info",
    "run_of_history",
    "run_of_run_info",
    "run_state",
    "store",
    "worker_task",
]

STREAM = "grctl_state"
"""The JetStream stream that holds everything durable."""

ALL_COMMANDS = "grctl_api.>"
"""What a server subscribes."""

ALL_RUN_INFO = "grctl_run.*.*.*.info"
"""The RunInfo records of all runs."""


is_token = re.compile(r"[^\s.*>\x00-\x1f\x7f-\x9f\ud800-\udfff]+").fullmatch
"""Whether text can be one part of a subject, and names nothing else than itself."""


def check_tokens(*names: str | None) -> None:
    """Make sure that names can stand in a subject: ids are checked when a client takes them, and here once more.

    Raises:
        InvalidInputError: one cannot, and would lead somewhere else.

    """
    for name in names:
        if name is not None and not is_token(name):
            raise InvalidInputError(f"{name[:80]!a} is no id and no type: it cannot be a part of a subject")


def command(wf_id: str) -> str:
    """Where commands for a workflow id go."""
    return f"grctl_api.workflow.{wf_id}"


def history(run: RunRef) -> str:
    """The history of a run."""
    return f"grctl_history.{run.wf_id}.{run.run_id}"


def run_info(run: RunRef) -> str:
    """The RunInfo record of a run; a filter for it where its type is not known."""
    return f"grctl_run.{run.wf_type or '*'}.{run.wf_id}.{run.run_id}.info"


def run_state(run: RunRef) -> str:
    """The engine's own state record of a run."""
    return f"grctl_state.run_state.{run.wf_id}.{run.run_id}"


def input(run: RunRef) -> str:  # noqa: A001 - the record is called so
    """The input of a run; no record for nil."""
    return f"grctl_run.{run.wf_id}.{run.run_id}.input"


def output(run: RunRef) -> str:
    """The result of a completed run; no record for nil."""
    return f"grctl_run.{run.wf_id}.{run.run_id}.output"


def error(run: RunRef) -> str:
    """The error of a failed run."""
    return f"grctl_run.{run.wf_id}.{run.run_id}.error"


def store(run: RunRef, key: str) -> str:
    """A value of a run's store."""
    return f"grctl_wf_kv.{run.wf_id}.{run.run_id}.{key}"


def registry(workflow_type: str) -> str:
    """The registered definition of a workflow type."""
    return f"grctl_registry.{workflow_type}"


def events(wf_id: str) -> str:
    """The events sent to a workflow id (docs/protocol.md, section 8, 6)."""
    return f"grctl_events.{wf_id}"


def worker_task(run: RunRef) -> str:
    """The step that a worker is to run (docs/protocol.md, section 8, 7)."""
    return f"grctl_worker_task.{run.wf_type}.{run.wf_id}.{run.run_id}"


def run_of_run_info(subject: str) -> RunRef | None:
    """Return the run that a RunInfo record is of; None where the subject is no such record's."""
    parts = subject.split(".")
    if len(parts) != 5 or parts[0] != "grctl_run" or parts[4] != "info":
        return None
    return RunRef(parts[2], parts[3], parts[1])


def run_of_history(subject: str) -> RunRef | None:
    """Return the run that a history event is of; None where the subject is no history's."""
    parts = subject.split(".")
    if len(parts) != 3 or parts[0] != "grctl_history":
        return None
    return RunRef(parts[1], parts[2])
