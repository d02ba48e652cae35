"""What a workflow's handlers work with."""

from grctl_engine.context import Context

__all__ = ["Context"]
