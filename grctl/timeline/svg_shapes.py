"""The pieces of the picture: each function returns markup, with what it is given escaped."""

from __future__ import annotations

import unicodedata
from xml.sax.saxutils import escape, quoteattr

__all__ = ["cropped", "cross", "diamond", "element", "line", "rectangle", "text", "titled", "triangle", "wide"]

_AVERAGE = 0.58
"""Width of a character, as a share of the font's size: no font can be measured here."""
_NARROW = frozenset("fijlrtI.,:;|!'()[] ")


def element(name: str, content: str = "", **attributes: object) -> str:
    """Return an element. ``content`` is markup; a name's ``_`` is a ``-``, and one at its end is left out."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_number(value))}" for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def text(x: float, y: float, content: str, style: str = "") -> str:
    """Return a line of text."""
    attributes = {"class_": style} if style else {}
    return element("text", escape(content), x=x, y=y, **attributes)


def titled(title: str, *shapes: str) -> str:
    """Return shapes that show a tooltip."""
    return element("g", element("title", escape(title)) + "".join(shapes))


def rectangle(left: float, top: float, width: float, height: float, style: str, *, radius: float = 3) -> str:
    """Return a rectangle."""
    radius = min(radius, width / 2, height / 2)
    return element("rect", x=left, y=top, width=width, height=height, rx=radius, class_=style)


def line(path: str, style: str) -> str:
    """Return a path."""
    return element("path", d=path, class_=style)


def diamond(x: float, y: float, size: float, style: str) -> str:
    """Return a diamond around a point."""
    return line(f"M{x - size:.1f} {y:.1f}L{x:.1f} {y - size:.1f}L{x + size:.1f} {y:.1f}L{x:.1f} {y + size:.1f}Z", style)


def triangle(x: float, y: float, size: float, style: str) -> str:
    """Return a triangle that points to the right, or to the left for a negative size."""
    half = abs(size)
    return line(
        f"M{x - size * 0.7:.1f} {y - half:.1f}L{x + size:.1f} {y:.1f}L{x - size * 0.7:.1f} {y + half:.1f}Z", style
    )


def cross(x: float, y: float, size: float) -> str:
    """Return the cross of a failure, on a ground of its own."""
    path = f"M{x - size:.1f} {y - size:.1f}l{2 * size} {2 * size}m0 {-2 * size}l{-2 * size} {2 * size}"
    return line(path, "halo") + line(path, "cross")


def wide(content: str, size: float = 13) -> float:
    """Return about how wide a text is."""
    return sum(map(_share, content)) * size


def cropped(content: str, width: float, size: float = 13) -> str:
    """Return a text that is about no wider than ``width``; what is cut ends with an ellipsis."""
    if wide(content, size) <= width:
        return content
    room = width - size * 0.8
    for index, character in enumerate(content):
        room -= _share(character) * size
        if room < 0:
            return content[:index].rstrip() + "…"
    return content


def _share(character: str) -> float:
    if character in _NARROW:
        return 0.33
    if character in "mwMW":
        return 0.85
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    return 0.66 if character.isupper() else _AVERAGE


def _number(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
