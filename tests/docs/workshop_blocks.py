"""Workshops: pages that are followed literally, from an empty folder.

From the comment ``<!-- workshop -->`` on, a page is a row of files to write and commands to type:

- A block after ``<!-- file: name -->`` is saved under that name, in the folder that the commands have come to.
- Each ``$ `` line of a ```console block is typed into one shell, and must succeed and show what stands below it
  (``...`` stands for anything, and the width of blanks does not count; how long something took, as pytest says it, is
  what it was for the author, and is not compared).
- There is nothing else: a block that would not be run is an error.

The shell gets what is installed here instead of the network, as a package index cannot be relied on in tests: ``pip``
finds what it is to install already there (by PYTHONPATH), and builds with what is there. A new environment gets that
pip too instead of a copy of its own, which takes seconds to make. pytest has the plugins alone that were installed.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_blocks import ROOT, PageError

from grctl.dev_server.broker import find_executable
from grctl_core import __version__

__all__ = ["File", "Typed", "follow", "is_workshop", "read_workshop"]

MARKER = "<!-- workshop -->"
SECONDS = 120
_PYTEST_PLUGINS = {"grctl-client": "grctl_pytest", "pytest-asyncio": "pytest_asyncio.plugin"}
_FENCE = re.compile(r"```(?P<language>\w*)")
_DURATION = re.compile(r"\b\d+\.\d\ds\b")
_FILE = re.compile(r"<!-- file: (?P<name>[\w.]+) -->")


@dataclass
class File:
    """A file to write."""

    where: str
    name: str
    text: str


@dataclass
class Typed:
    """A command, and what it shows."""

    where: str
    command: str
    shown: str


def is_workshop(page: Path) -> bool:
    """Whether a page is to be followed."""
    return MARKER in page.read_text(encoding="utf-8").splitlines()


def read_workshop(page: Path) -> list[File | Typed]:
    """Return what a reader would write and type, in order.

    Raises:
        PageError: a block is neither a file nor commands.

    """
    steps: list[File | Typed] = []
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    begun, name = False, None
    for number, line in lines:
        where = f"{page.name}:{number}"
        fence = _FENCE.fullmatch(line)
        if fence is None:
            begun = begun or line == MARKER
            if name is not None:
                raise PageError(f"{where}: no block follows the name {name!r}")
            if found := _FILE.fullmatch(line):
                name = found["name"]
            elif "<!--" in line and line != MARKER:
                raise PageError(f"{where}: write <!-- file: name -->")
            continue
        block = ""
        for _, inside in lines:
            if inside == "```":
                break
            block += inside + "\n"
        else:
            raise PageError(f"{where}: the block has no end")
        if not begun:
            raise PageError(f"{where}: a block before {MARKER}")
        if name is not None:
            steps.append(File(where, name, block))
            name = None
        elif fence["language"] == "console":
            steps += _typed(where, block)
        else:
            raise PageError(f"{where}: a block without a name that is not run")
    if not any(isinstance(step, Typed) for step in steps):
        raise PageError(f"{page.name}: nothing is typed")
    return steps


def _typed(where: str, block: str) -> Iterator[Typed]:
    parts = re.split(r"^\$ (.+)\n", block, flags=re.MULTILINE)
    if parts[0]:
        raise PageError(f"{where}: the block does not begin with a command")
    for command, shown in zip(parts[1::2], parts[2::2], strict=True):
        yield Typed(where, command, shown)


def follow(steps: list[File | Typed], folder: Path) -> None:
    """Do what a page says, in an empty folder.

    Raises:
        PageError: a command failed, or showed something else.

    """
    state = folder.parent / f"{folder.name}.shell"
    here = folder
    installed = " ".join(step.command for step in steps if isinstance(step, Typed) and "pip install" in step.command)
    plugins = [plugin for package, plugin in _PYTEST_PLUGINS.items() if package in installed]
    for step in steps:
        if isinstance(step, File):
            (here / step.name).write_text(step.text, encoding="utf-8")
            continue
        # Variables and the folder outlive a command, as in a shell that stays open.
        kept = shlex.quote(str(state))
        before = f". {kept}\n" if state.exists() else ""
        after = f"{{ export -p; printf 'cd %q\\n' \"$PWD\"; }} >{kept}"
        script = f"{before}{step.command}\ncode=$?\n{after}\nexit $code"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env=_environment(folder, plugins),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise PageError(f"{step.where}: $ {step.command}\nexit code {done.returncode}\n{done.stdout}")
        _compare(step, done.stdout)
        here = Path(state.read_text(encoding="utf-8").rstrip().rpartition("\ncd ")[2])


def _compare(step: Typed, shown: str) -> None:
    checker, options = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    expected, shown = _DURATION.sub("0.00s", step.shown), _DURATION.sub("0.00s", shown)
    if not checker.check_output(expected, shown, options):
        example = doctest.Example(step.command, expected)
        raise PageError(f"{step.where}: $ {step.command}\n{checker.output_difference(example, shown, options)}")


def _environment(folder: Path, plugins: Sequence[str]) -> dict[str, str]:
    tools = folder.parent / f"{folder.name}.tools"
    tools.mkdir(exist_ok=True)
    python = f'[ "$1 $2" != "-m venv" ] || set -- "$@" --without-pip\nexec "{sys.executable}" "$@"'
    modules = {"grctl-client": "grctl", "pip": "pip", "pytest": "pytest"}
    calls = {name: f'exec python -m {module} "$@"' for name, module in modules.items()}
    for name, call in {"python": python, **calls}.items():
        tool = tools / name
        tool.write_text(f"#!/bin/sh\n{call}\n", encoding="utf-8")
        tool.chmod(0o755)
    server = tools / "nats-server"
    if not server.exists():
        server.symlink_to(find_executable())
    # What `pip install grctl-client` leaves behind, for the tree is not always installed where the tests run.
    record = tools / f"grctl_client-{__version__}.dist-info"
    record.mkdir(exist_ok=True)
    extras = "".join(f"Provides-Extra: {extra}\n" for extra in ("cli", "dev-server", "tracing"))
    metadata = f"Metadata-Version: 2.1\nName: grctl-client\nVersion: {__version__}\n{extras}"
    (record / "METADATA").write_text(metadata, encoding="utf-8")
    rooms = [str(tools), str(ROOT), str(ROOT / "transports"), str(ROOT / "plugins")]
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), *rooms]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # a new environment has those that were installed
        "PYTEST_PLUGINS": ",".join(plugins),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # "no" to isolation: this is how pip reads it
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
