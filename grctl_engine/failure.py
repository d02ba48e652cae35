"""Failures: an exception of a handler as the error details of its run."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import grctl_core
from grctl_core.outcome import ErrorDetails

__all__ = ["describe_exception"]

_OURS = tuple(str(Path(file).parent) + os.sep for file in (__file__, grctl_core.__file__))


def describe_exception(error: BaseException) -> ErrorDetails:
    """Return class name, text and traceback; the traceback has the handler's frames, none of the engine's."""
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - a user's __str__ may raise anything
        message = f"(its text cannot be had: {type(broken).__name__} in __str__)"
    report = traceback.TracebackException.from_exception(error)
    _strip(report, set())
    return ErrorDetails(type(error).__name__, _sendable(message), _sendable("".join(report.format())))


def _strip(report: traceback.TracebackException, seen: set[int]) -> None:
    if id(report) in seen:
        return
    seen.add(id(report))
    frames = [frame for frame in report.stack if not frame.filename.startswith(_OURS)]
    report.stack = traceback.StackSummary.from_list(frames)
    for linked in (report.__cause__, report.__context__, *(report.exceptions or ())):
        if linked is not None:
            _strip(linked, seen)


def _sendable(text: str) -> str:
    """Return the text without lone surrogates, which cannot be encoded."""
    return text.encode("utf-8", "backslashreplace").decode()
