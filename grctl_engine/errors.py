"""What goes wrong inside a step by the workflow's own doing. A run that fails so has the class's name as its type."""

from __future__ import annotations

from grctl_core.errors import GrctlError

__all__ = ["InputMismatchError", "NoDecisionError", "StepEndedError"]


class InputMismatchError(GrctlError, TypeError):
    """The input, or an event's payload, does not fit the parameters of its handler."""


class NoDecisionError(GrctlError, TypeError):
    """A handler returned something that is no decision, mostly None."""


class StepEndedError(GrctlError, RuntimeError):
    """A context was used after its step had ended, or had been abandoned."""
