"""Tally: the matrix with a count for each cell, out of what the cells' tests have told."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .cell import Result
from .table import FAULTS, Operation

__all__ = ["CELL", "Tally", "told"]

CELL = "fault cell"
"""Name of the property under which a test tells what became of its cell."""

COUNTS = ("ran", "hung", "lost", "duplicated")


def told(result: Result) -> dict[str, Any]:
    """Return what a report carries from one process to another."""
    return {
        "fault": result.fault.name,
        "operation": result.operation.name,
        "ran": len(result.verdicts),
        "hung": result.hung,
        "lost": result.lost,
        "duplicated": result.duplicated,
    }


class Tally:
    """Counts by fault and operation."""

    def __init__(self, cells: list[dict[str, Any]]) -> None:
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        for cell in cells:
            counts = self._counts.setdefault((cell["fault"], cell["operation"]), Counter())
            counts.update({name: cell[name] for name in COUNTS})

    def text(self) -> str:
        """Return the matrix: in each cell how often it ran, how often it hung, lost something, did something twice."""
        width = max(len(fault.name) for fault in FAULTS) + 1
        lines = ["ran/hung/lost/duplicated", " " * width + "".join(f"{op.value:>13}" for op in Operation)]
        for fault in FAULTS:
            cells = [self._counts.get((fault.name, op.name)) for op in Operation]
            if not any(cells):
                continue
            shown = ["-" if counts is None else "/".join(str(counts[name]) for name in COUNTS) for counts in cells]
            lines.append(f"{fault.name:<{width}}" + "".join(f"{cell:>13}" for cell in shown))
        total: Counter[str] = sum(self._counts.values(), Counter())
        lines.append("in all: " + ", ".join(f"{total[name]} {name}" for name in COUNTS))
        return "\n".join(lines) + "\n"
