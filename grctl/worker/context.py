"""Context: what a handler gets as its first argument."""

from grctl_engine.context import Context

__all__ = ["Context"]
