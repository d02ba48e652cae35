"""Making text safe to show: names and messages come from workflows, and may hold anything."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories that control a terminal, change the order of what is read, or have no look of their own."""


def printable(text: str, limit: int | None = None) -> str:
    r"""Return the text in one line: white space as single spaces, each character that could do harm as ``\\x1b``.

    What comes back is free of terminal escapes and of characters that XML does not allow. It may still hold ``<`` or
    ``[``: escape that for where it goes.

    Args:
        text: any text.
        limit: the greatest number of characters; what is cut ends with an ellipsis. None for no limit.

    """
    if limit is not None and len(text) > 20 * limit:
        text = text[: 20 * limit]  # a megabyte of message is not walked through for eighty characters
    line = "".join(map(_shown, " ".join(text.split())))
    return line if limit is None or len(line) <= limit else line[: max(0, limit - 1)] + "…"


def _shown(character: str) -> str:
    code = ord(character)
    if 0x20 <= code < 0x7F:
        return character
    noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    if noncharacter or unicodedata.category(character) in _HIDDEN:
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return character
