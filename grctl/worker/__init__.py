"""What a workflow's handlers work with."""

from grctl_engine.child import ChildOutcome
from grctl_engine.context import Context
from grctl_engine.task import task

__all__ = ["ChildOutcome", "Context", "task"]
