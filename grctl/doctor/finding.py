"""Finding: what one check found."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

__all__ = ["Finding", "Level", "failed", "ok", "skipped", "warning"]


class Level(StrEnum):
    """How good or bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found.

    Attributes:
        check: name of the check, such as ``"login"``.
        level: how good or bad it is.
        message: what is so.
        mend: what to do about it; empty where nothing has to be done.
        details: the same as plain values, for programs.
    """

    check: str
    level: Level
    message: str
    mend: str = ""
    details: dict[str, Any] = {}


def ok(check: str, message: str, **details: Any) -> Finding:
    """Return a finding that all is well."""
    return Finding(check=check, level=Level.OK, message=message, details=details)


def warning(check: str, message: str, mend: str, **details: Any) -> Finding:
    """Return a finding that something works and may not for long."""
    return Finding(check=check, level=Level.WARNING, message=message, mend=mend, details=details)


def failed(check: str, message: str, mend: str, **details: Any) -> Finding:
    """Return a finding that something does not work."""
    return Finding(check=check, level=Level.FAILED, message=message, mend=mend, details=details)


def skipped(check: str, message: str) -> Finding:
    """Return a finding that a check could not be made."""
    return Finding(check=check, level=Level.SKIPPED, message=message)
