"""Kept: what tracing keeps with a call, and after it with the handle that came of it. It goes when that goes."""

from __future__ import annotations

from opentelemetry.trace import Span, SpanContext

__all__ = ["Kept"]


class Kept:
    """What tracing knows of a call, and of the handle that it made.

    Attributes:
        span: the operation's span while it is recorded, for what happens in between.
        start: that span's context, for what links to it.
        waited: whether a call has waited for the end of the handle.
    """

    # Of the class, not set by __init__: without an SDK most of these objects stay as they are made.
    span: Span | None = None
    start: SpanContext | None = None
    waited: bool = False
