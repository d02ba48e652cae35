"""Workflow definitions, as a worker and the embedded engine run them."""

from grctl_engine.definition import Workflow
from grctl_engine.directive import Directive

__all__ = ["Directive", "Workflow"]
