"""Directives: what a handler decides to happen next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeAlias

import msgspec

from grctl_core.codec import encode
from grctl_core.durations import Duration, optional_timedelta
from grctl_core.errors import InvalidInputError
from grctl_core.ids import new_ulid
from grctl_core.outcome import ErrorDetails

__all__ = ["Complete", "Directive", "Fail", "NextBuilder", "NextStep", "StepReference", "Wait"]

StepReference: TypeAlias = Callable[..., Any] | str
"""A step: its handler, or its name."""


class Directive(msgspec.Struct, frozen=True):
    """What is to happen next. Made with ``ctx.next``, and returned by the handler."""


class NextStep(Directive, frozen=True):
    """Go on with another step.

    Attributes:
        step_name: the step's name.
    """

    step_name: str


class Wait(Directive, frozen=True):
    """Wait for an event.

    Attributes:
        id: ``next.`` and a ULID: names this wait in the history.
        timeout: how long; None for the default of one hour.
        timeout_step_name: the step that goes on then; empty to fail the run.
    """

    id: str
    timeout: timedelta | None = None
    timeout_step_name: str = ""


class Complete(Directive, frozen=True):
    """End the run with a result.

    Attributes:
        result: the result, encoded.
    """

    result: bytes


class Fail(Directive, frozen=True):
    """End the run as failed.

    Attributes:
        error: why.
    """

    error: ErrorDetails


class NextBuilder:
    """``ctx.next``: makes the decision that a handler returns. What is wrong with it shows here, not later."""

    __slots__ = ("_names", "_steps_by_handler", "_workflow_type")

    def __init__(
        self, workflow_type: str, names: Iterable[str], steps_by_handler: Mapping[Callable[..., Any], str]
    ) -> None:
        self._workflow_type = workflow_type
        self._names = frozenset(names)
        self._steps_by_handler = dict(steps_by_handler)

    def step(self, step: StepReference) -> Directive:
        """Go on with another step. It gets no arguments: what it needs is in ``ctx.store``.

        Args:
            step: the step's handler, or its name.

        Raises:
            InvalidInputError: this workflow has no such step.

        """
        return NextStep(self.name_of(step, "next.step()"))

    def wait(self, timeout: Duration | None = None, on_timeout: StepReference | None = None) -> Directive:
        """Wait for an event. One that came in meanwhile is taken at once.

        Args:
            timeout: how long, a ``timedelta`` or seconds; one hour when left out (docs/protocol.md, section 6).
            on_timeout: the step, or its name, that goes on when no event came. Without one the run then fails
                with type ``WaitTimeout``.

        Raises:
            InvalidInputError: the timeout is none, or this workflow has no such step.

        """
        return Wait(
            f"next.{new_ulid()}",
            optional_timedelta("timeout", timeout),
            "" if on_timeout is None else self.name_of(on_timeout, "next.wait(on_timeout=...)"),
        )

    def complete(self, result: object = None) -> Directive:
        """End the run with a result. It is encoded now: what is done to it later changes nothing.

        Raises:
            InvalidInputError: the result cannot be encoded; the message has the path.

        """
        return Complete(encode("result", result))

    def fail(self, error: ErrorDetails) -> Directive:
        """End the run as failed. The step itself counts as completed.

        Raises:
            InvalidInputError: ``error`` is no ErrorDetails.

        """
        if not isinstance(error, ErrorDetails):
            raise InvalidInputError(
                f"next.fail() takes ErrorDetails(type, message), not {type(error).__name__}. "
                "To fail with an exception, raise it"
            )
        for field in ("type", "message", "stack_trace"):
            if not isinstance(getattr(error, field), str):
                raise InvalidInputError(f"ErrorDetails.{field} must be a string")
        encode("error", error)
        return Fail(error)

    def name_of(self, step: StepReference, what: str) -> str:
        """Return the name of a step of this workflow.

        Args:
            step: the step's handler, or its name.
            what: what names it, for the message.

        Raises:
            InvalidInputError: this workflow has no such step.

        """
        try:
            name = step if isinstance(step, str) else self._steps_by_handler.get(step)
        except TypeError:  # not hashable, so no handler
            name = None
        if name is None or name not in self._names:
            shown = repr(step) if isinstance(step, str) else getattr(step, "__qualname__", repr(step))
            raise InvalidInputError(
                f"{what}: workflow {self._workflow_type!r} has no step {shown}. It has: "
                f"{', '.join(sorted(self._names))}. Decorate the handler with @step()"
            )
        return name
