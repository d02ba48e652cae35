"""The page: rewrites the figures in docs/benchmarks.md, and the plot. The words around them are written by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks import plot, table
from benchmarks.rows import Point, Row

__all__ = ["write"]

_BLOCK = "<!-- {name}: written by scripts/bench --write-docs -->"
_END = "<!-- end -->"


def write(docs: Path, machine: dict[str, str], rows: list[Row], curve: Sequence[Point]) -> None:
    """Write the figures into the folder of the documentation.

    Raises:
        ValueError: the page has no place for them.

    """
    page = docs / "benchmarks.md"
    text = page.read_text()
    text = _replaced(text, "machine", "\n".join(f"- {name}: {said}" for name, said in machine.items()))
    text = _replaced(text, "table", table.markdown(rows))
    text = _replaced(text, "curve", _curve(curve))
    page.write_text(text)
    (docs / "images" / "benchmarks-curve.svg").write_text(plot.draw(curve))


def _curve(curve: Sequence[Point]) -> str:
    lines = ["| at once | ours, us CPU | nats-py by hand, us CPU | ratio |", "|--:|--:|--:|--:|"]
    lines += [
        f"| {point.at_once:,} | {point.ours:.1f} | {point.reference:.1f} | {point.ours / point.reference:.2f} |"
        for point in curve
    ]
    return "\n".join(lines)


def _replaced(text: str, name: str, block: str) -> str:
    begin = _BLOCK.format(name=name)
    new, count = re.subn(
        f"{re.escape(begin)}\n.*?{re.escape(_END)}", lambda _: f"{begin}\n\n{block}\n\n{_END}", text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"docs/benchmarks.md has no place for the {name}: {begin} ... {_END}")
    return new
