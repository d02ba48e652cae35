"""What ends a command: which exit code it leads to, and what is said."""

from __future__ import annotations

import re

from grctl.cli.exits import ExitCode
from grctl_core.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    DeliveryUnknownError,
    GrctlError,
    InvalidInputError,
    RefusedError,
    UnsupportedOperationError,
    WorkflowNotFoundError,
    WorkflowTimeoutError,
)
from grctl_core.outcome import Outcome
from grctl_core.run import RunStatus

__all__ = ["code_of_error", "code_of_outcome", "in_our_words"]

_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (InvalidInputError, ExitCode.USAGE),
    (WorkflowNotFoundError, ExitCode.NOT_FOUND),
    (RefusedError, ExitCode.REFUSED),
    (AccessDeniedError, ExitCode.REFUSED),
    (UnsupportedOperationError, ExitCode.REFUSED),
    (WorkflowTimeoutError, ExitCode.TIMED_OUT),
    (ConnectionFailedError, ExitCode.NO_CONNECTION),
    (DeliveryUnknownError, ExitCode.TIMED_OUT),
    (GrctlError, ExitCode.FAILED),
    (TimeoutError, ExitCode.TIMED_OUT),
)
"""The first one that fits counts."""


def code_of_error(error: Exception) -> ExitCode | None:
    """Return what an error exits with, None for one that is none of ours."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)


_WORDS = (
    (r"pass check_event=False", "add --unchecked"),
    (r"on_conflict='(\w+)'", r"--on-conflict \1"),
    (r"\bpass tls_ca='([\w.]+)'", r"add --tls-ca \1"),
    (r"\bpass tls_cert= and tls_key=", "add --tls-cert and --tls-key"),
    (r"\bservers=", "--server-url"),
)
"""What the library's messages say to programmers, and what a user of the command line writes for it."""


def in_our_words(message: str) -> str:
    """Return a message of the library with the names of our options in it."""
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message


def code_of_outcome(outcome: Outcome[object]) -> ExitCode:
    """Return what the end of a workflow exits with."""
    if outcome.completed:
        return ExitCode.OK
    return ExitCode.TIMED_OUT if outcome.status is RunStatus.TIMED_OUT else ExitCode.FAILED
