"""Text of others, made safe to show: see :mod:`grctl_core.safe_text`."""

from __future__ import annotations

from grctl_core.safe_text import one_line, safe

__all__ = ["one_line", "safe"]
