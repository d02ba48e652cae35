"""Write the fault matrix into docs/reliability.md, from the table that the tests assert."""  # noqa: INP001 - a script, no package

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- matrix: scripts/fault_matrix.py writes", "<!-- matrix: end -->"


def with_matrix(page: str) -> str:
    """Return the page with the matrix as the table has it now."""
    sys.path.insert(0, str(ROOT / "tests"))
    from faults.table import in_markdown

    head, begin, rest = page.partition(BEGIN)
    comment, _, rest = rest.partition("\n")
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE} has no place for the matrix: {BEGIN!r} ... {END!r}")
    return f"{head}{begin}{comment}\n\n{in_markdown()}\n{end}{tail}"


if __name__ == "__main__":
    PAGE.write_text(with_matrix(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
