"""Break the code on purpose, one mutant after the other, and see that its tests fail: ``scripts/mutants [WORD...]``.

The mutants are made in a copy. With words only those run whose file or promise has one of them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
COPIED = (
    "grctl",
    "grctl_core",
    "grctl_engine",
    "grctl_launch",
    "grctl_pytest",
    "plugins",
    "transports",
    "tests",
    "pyproject.toml",
)
COPIED_FOR_TESTS = ("docs", "examples", "scripts")

_FAILED = re.compile(r"^(FAILED|ERROR) \S+::", re.MULTILINE)
"""A test that failed; what fails while tests are collected has no name of a test."""


def pytest(copy: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests in the copy, on the code of the copy."""
    path = os.pathsep.join(map(str, (copy, copy / "transports", copy / "plugins")))
    command = [
        sys.executable,
        "-B",
        "-m",
        "pytest",
        "-q",
        "-x",
        "--tb=line",
        "-p",
        "no:cacheprovider",
        *shlex.split(tests),
    ]
    return subprocess.run(
        command, cwd=copy, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )


def is_caught(copy: Path, mutant: Mutant) -> bool:
    """Whether a test fails for a mutant; one that breaks the collecting of tests is not a mutant."""
    path = copy / mutant.file
    code = path.read_text(encoding="utf-8")
    if code.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.file} has not exactly once: {mutant.old}")
    path.write_text(code.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        done = pytest(copy, mutant.tests)
    finally:
        path.write_text(code, encoding="utf-8")
    if done.returncode and not _FAILED.search(done.stdout):
        raise SystemExit(f"{mutant.file}: {mutant.breaks}: pytest could not run:\n{done.stdout}{done.stderr}")
    return bool(done.returncode)


def main(*words: str) -> int:
    """Try all mutants, or those with one of the words; return how many were missed."""
    chosen = [each for each in MUTANTS if not words or any(word in f"{each.file} {each.breaks}" for word in words)]
    with tempfile.TemporaryDirectory(prefix="grctl-mutants-") as folder:
        copy = Path(folder)
        for name in (*COPIED, *COPIED_FOR_TESTS):
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, copy / name)
        print(f"{len(chosen)} mutants; first their tests, without any", flush=True)
        for tests in dict.fromkeys(mutant.tests for mutant in chosen):
            done = pytest(copy, tests)
            if done.returncode == 1:  # a machine that has other things to do is given a second try
                done = pytest(copy, tests)
            if done.returncode:
                raise SystemExit(f"these fail without any mutant: {tests}\n{done.stdout}{done.stderr}")
        missed = 0
        for mutant in chosen:
            begun = time.monotonic()
            caught = is_caught(copy, mutant)
            missed += not caught
            word = "caught" if caught else "MISSED"
            print(f"{word} {time.monotonic() - begun:5.1f} s  {mutant.file}: {mutant.breaks}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} mutants were caught")
    return missed


if __name__ == "__main__":
    sys.exit(bool(main(*sys.argv[1:])))
