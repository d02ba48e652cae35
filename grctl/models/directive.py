"""Directives: what a handler decides; and how its tasks are repeated."""

from grctl_engine.directive import Directive
from grctl_engine.retry_policy import RetryPolicy

__all__ = ["Directive", "RetryPolicy"]
