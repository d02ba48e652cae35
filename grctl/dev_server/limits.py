"""Limits: what fits into a message of the broker, and what becomes of a step whose values do not."""

from __future__ import annotations

from grctl_core.outcome import ErrorDetails
from grctl_engine.directive import Complete, Fail
from grctl_engine.inputs import Input, StepRaised, StepReturned

__all__ = ["RESERVED", "fit"]

RESERVED = 4096
"""Bytes of the broker's limit that a server needs for itself (docs/protocol.md, section 8, 4)."""


def fit(input: Input, limit: int) -> Input:
    """Return the input, or what says that its values fit into no message: the step fails instead of hanging."""
    match input:
        case StepReturned(number, directive, updates):
            for key, value in (updates or {}).items():
                if len(value) > limit:
                    return _fail(number, "ValueTooLarge", f"the value of {key!r} has {len(value)} bytes, of {limit}")
            if isinstance(directive, Complete) and len(directive.result) > limit:
                return _fail(number, "ResultTooLarge", f"the result has {len(directive.result)} bytes, of {limit}")
            if isinstance(directive, Fail):
                return StepReturned(number, Fail(_shorten(directive.error, limit)), updates)
        case StepRaised(number, error):
            return StepRaised(number, _shorten(error, limit))
    return input


def _fail(number: int, type: str, message: str) -> StepRaised:
    return StepRaised(number, ErrorDetails(type, f"{message}, so a server cannot store it"))


def _shorten(error: ErrorDetails, limit: int) -> ErrorDetails:
    if len(error.type) + len(error.message) + len(error.stack_trace) <= limit // 8:  # characters of up to four bytes
        return error
    part = limit // 24
    return ErrorDetails(error.type[:part], error.message[:part], error.stack_trace[-part:])
