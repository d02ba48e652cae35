"""Directives: what a handler decides."""

from grctl_engine.directive import Directive

__all__ = ["Directive"]
