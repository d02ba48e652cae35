"""The table: rows as lines of text, and as Markdown."""

from __future__ import annotations

from benchmarks.rows import Row

__all__ = ["HEADER", "line", "markdown"]

_WIDTHS = (62, 16, 12, 11, 11)
HEADER = "  ".join(
    f"{name:{'<' if number == 0 else '>'}{width}}"
    for number, (name, width) in enumerate(zip(("", "ours", "reference", "compared", "goal"), _WIDTHS, strict=True))
)


def _figure(value: float) -> str:
    if value == int(value) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    """Return the row's cells: ours, the reference, what is compared, the goal, whether it is met."""
    ours = f"{_figure(row.ours)} {row.unit}".strip()
    reference = "" if row.reference is None else _figure(row.reference)
    sign = "+" if row.is_difference else ""
    compared = "" if row.reference is None else f"{row.value:{sign}.2f}"
    goal = "" if row.goal is None else f"<= {sign}{_figure(row.goal)}"
    met = {None: "", True: "met", False: "NOT MET"}[row.is_met]
    return ours, reference, compared, goal, met


def line(row: Row) -> str:
    """Return the row as a line of text."""
    *cells, met = _cells(row)
    aligned = (f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS[1:], strict=True))
    note = f"  ({row.note})" if row.note else ""
    return f"{row.title:<{_WIDTHS[0]}}  {'  '.join(aligned)}  {met}{note}".rstrip()


def markdown(rows: list[Row]) -> str:
    """Return rows as a table."""
    lines = ["| row | ours | reference | compared | goal | |", "|---|--:|--:|--:|--:|---|"]
    for row in rows:
        ours, reference, compared, goal, met = _cells(row)
        title = row.title + (f" ({row.note})" if row.note else "")
        met = {"met": "met", "NOT MET": "**not met**", "": "reported"}[met]
        lines.append(f"| {title} | {ours} | {reference} | {compared} | {goal} | {met} |")
    return "\n".join(lines)
