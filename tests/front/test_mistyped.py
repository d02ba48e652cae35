"""What mypy says of programs that use the library wrongly. .ci/run asks pyright too, and has both look at the wheel."""

from __future__ import annotations

import sys

from mistyped.check import PROGRAMS, disagreements


def test_mypy_says_what_is_wrong():
    assert disagreements("mypy", [sys.executable, "-m", "mypy"], PROGRAMS) == []


def test_what_is_not_expected_is_reported(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("# expect mypy: Unsupported operand\nlen(7)\nint([])\nint(7)\n")
    says = "print('program.py:2: error: Argument 1  [arg-type]'); print('program.py:3: error: No overload')"
    found = disagreements("mypy", [sys.executable, "-c", says], [program])
    assert [line.partition(" ")[0] for line in found] == ["program.py:2:", "program.py:3:"]
