"""The embedded engine: workflow definitions, the state machine of a run, and the executor of steps.

It has the server's semantics (docs/protocol.md, section 6) and knows no transport.

PYTEST_DONT_REWRITE: it may be imported before pytest is, which marks all packages of a plugin's distribution.
"""

from grctl_engine.child import ChildHandle, ChildOutcome
from grctl_engine.clock import Clock, ManualClock, SystemClock
from grctl_engine.context import Context, Store
from grctl_engine.definition import Workflow
from grctl_engine.directive import Directive, NextBuilder
from grctl_engine.engine import Engine
from grctl_engine.errors import (
    ChildFailedError,
    InputMismatchError,
    NoDecisionError,
    NoParentError,
    ReadOnlyError,
    StepEndedError,
    TaskResultError,
)
from grctl_engine.limits import EngineLimits, LimitCode
from grctl_engine.retry_policy import RetryPolicy
from grctl_engine.task import task

__all__ = [
    "ChildFailedError",
    "ChildHandle",
    "ChildOutcome",
    "Clock",
    "Context",
    "Directive",
    "Engine",
    "EngineLimits",
    "InputMismatchError",
    "LimitCode",
    "ManualClock",
    "NextBuilder",
    "NoDecisionError",
    "NoParentError",
    "ReadOnlyError",
    "RetryPolicy",
    "StepEndedError",
    "Store",
    "SystemClock",
    "TaskResultError",
    "Workflow",
    "task",
]
