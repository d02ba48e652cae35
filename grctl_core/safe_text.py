"""Text of others, made safe to show: ids, names, reasons and errors may hold anything, terminal escapes too."""

from __future__ import annotations

__all__ = ["one_line", "safe"]

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def safe(text: object, *, lines: bool = False) -> str:
    r"""Return text in which nothing is left that a terminal would act on: ESC becomes the four characters ``\x1b``.

    What comes back is free of characters that XML does not allow, too. It may still hold ``<`` or ``[``: escape that
    for where it goes.

    Args:
        text: what to show.
        lines: whether line breaks stay; a tab is four blanks then.

    """
    shown = str(text)
    if lines:
        shown = shown.replace("\r\n", "\n").replace("\t", "    ")
    elif shown.isprintable():
        return shown
    return "".join(
        character
        if character.isprintable() or (lines and character == "\n")
        else _ESCAPES.get(character) or character.encode("unicode_escape").decode()
        for character in shown
    )


def one_line(text: str, limit: int | None = None) -> str:
    """Return the text safe and in one line: all white space as single spaces.

    Args:
        text: any text.
        limit: the greatest number of characters; what is cut ends with an ellipsis. None for no limit.

    """
    if limit is not None and len(text) > 20 * limit:
        text = text[: 20 * limit]  # a megabyte of message is not walked through for eighty characters
    line = safe(" ".join(text.split()))
    return line if limit is None or len(line) <= limit else line[: max(0, limit - 1)] + "…"
