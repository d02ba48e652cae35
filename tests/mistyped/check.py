"""Check that a type checker says of each mistyped program exactly what the comments in it expect.

    python check.py mypy python -m mypy --strict
    python check.py pyright basedpyright --outputjson

A comment ``# expect mypy: words`` or ``# expect pyright: words`` is about the next line of code, and expects an error there whose text
has the words. An error that nobody expects, and one that does not come, are both reported.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["PROGRAMS", "disagreements"]

PROGRAMS = sorted(path for path in Path(__file__).parent.glob("*.py") if path.name != Path(__file__).name)

Errors = dict[tuple[str, int], str]


def disagreements(checker: str, command: Sequence[str], programs: Sequence[Path]) -> list[str]:
    """Run a checker on the programs; return what it does not say, and what it says beyond, one line each."""
    done = subprocess.run([*command, *map(str, programs)], capture_output=True, encoding="utf-8", check=False)
    said = dict(_from_mypy(done.stdout) if checker == "mypy" else _from_pyright(done.stdout))
    expected = {(program.name, line): words for program in programs for line, words in _expected(program, checker)}
    wrong = [
        f"{name}:{line}: expected {words!r}, and {checker} says {said.get((name, line), 'nothing')!r}"
        for (name, line), words in expected.items()
        if words not in said.get((name, line), "")
    ]
    wrong += [f"{name}:{line}: nobody expects {said[name, line]!r}" for name, line in said.keys() - expected.keys()]
    return wrong or ([] if expected else [f"nothing is expected; {checker} wrote {done.stdout}{done.stderr}"])


def _expected(program: Path, checker: str) -> Iterator[tuple[int, str]]:
    comment = re.compile(rf"\s*# expect {checker}: (.+)")
    pending: str | None = None
    for number, text in enumerate(program.read_text(encoding="utf-8").splitlines(), 1):
        found = comment.fullmatch(text)
        if found is not None:
            pending = found[1]
        elif pending is not None and not text.lstrip().startswith("#"):
            yield number, pending
            pending = None


def _from_mypy(output: str) -> Iterator[tuple[tuple[str, int], str]]:
    for line in output.splitlines():
        found = re.fullmatch(r"(?P<file>.+?):(?P<line>\d+): error: (?P<text>.+)", line)
        if found is not None:
            yield (Path(found["file"]).name, int(found["line"])), found["text"]


def _from_pyright(output: str) -> Iterator[tuple[tuple[str, int], str]]:
    texts: Errors = {}
    for said in json.loads(output)["generalDiagnostics"]:
        if said["severity"] == "error":
            place = (Path(said["file"]).name, said["range"]["start"]["line"] + 1)
            texts[place] = "\n".join(filter(None, [texts.get(place), said["message"]]))  # a call may have two
    yield from texts.items()


def main() -> int:
    """Check all programs beside this file."""
    checker, *command = sys.argv[1:]
    wrong = disagreements(checker, command, PROGRAMS)
    print(*wrong, sep="\n", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
