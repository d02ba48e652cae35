"""What several models share."""

from grctl_core.outcome import ErrorDetails

__all__ = ["ErrorDetails"]
