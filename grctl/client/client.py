"""Client: starts workflows and finds runs."""

from grctl_core.client import WorkflowClient as Client

__all__ = ["Client"]
