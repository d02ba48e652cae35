"""What can go wrong with the development server itself."""

from __future__ import annotations

from grctl_core.errors import GrctlError

__all__ = ["DevServerError", "LinkLostError", "StreamLostError"]


class DevServerError(GrctlError):
    """The development server cannot start, or cannot go on. The text says what to do about it."""


class LinkLostError(GrctlError):
    """The connection to the broker broke, or the broker does not answer. The server makes another one."""


class StreamLostError(GrctlError):
    """What was to be written is for a stream that the broker no longer has."""
