"""Console blocks that show ``grctl-client``: each command is run, and what it shows is compared.

A command runs in bash, on a terminal of 80 columns without colours, as far as it does not lead into a pipe.

Timelines are compared by their rows: what each is called, and that it has a bar. How long bars are differs each time.
"""

from __future__ import annotations

import doctest
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["difference"]

_PROMPT = "$ "


def difference(text: str, folder: Path, environment: Mapping[str, str], address: str, seconds: float) -> str | None:
    """Run the commands of a block; return what differs, None where nothing does.

    Args:
        text: the block.
        folder: where to run them.
        environment: with what.
        address: what is shown as nats://127.0.0.1:4225.
        seconds: how long one command may take.

    """
    checker = doctest.OutputChecker()
    for command, expected in _commands(text):
        shown = _run(command, folder, environment, seconds)
        if address:
            shown = shown.replace(address, "nats://127.0.0.1:4225")
        is_timeline = _AXIS.search(expected) is not None
        wanted, shown = (_without_lengths(text) if is_timeline else text for text in (expected, shown))
        if not checker.check_output(wanted, shown, doctest.ELLIPSIS):
            return f"{command}\n{checker.output_difference(doctest.Example('', wanted), shown, doctest.ELLIPSIS)}"
    return None


_AXIS = re.compile(r"^.*\n +├.*\n", re.MULTILINE)
_LEGEND = re.compile(r"^(?:[█▄░┄◆▶✗·╱▸] \w|one column: ).*\n", re.MULTILINE)  # noqa: RUF001
_BAR = re.compile(r" *[━█▄░╱┄·▸◆▶✗][━█▄░╱┄·▸◆▶✗ ]*")  # noqa: RUF001
_DURATION = re.compile(r"\b(?:\d+(?:\.\d+)? (?:µs|ms|s|min|h|d)\b ?)+")


def _without_lengths(text: str) -> str:
    """Return a timeline without axis and legend; each bar is one sign, each duration another."""
    text = _LEGEND.sub("", _AXIS.sub("", text))
    return _DURATION.sub("#", _BAR.sub(" ━ ", text))


def _commands(text: str) -> Iterator[tuple[str, str]]:
    command: str | None = None
    output: list[str] = []
    for line in text.splitlines():
        if line.startswith(_PROMPT):
            if command is not None:
                yield command, "".join(output)
            command, output = line.removeprefix(_PROMPT), []
        elif command is not None and command.endswith("\\"):
            command = f"{command[:-1]}{line.strip()}"
        else:
            output.append(line + "\n")
    if command is not None:
        yield command, "".join(output)


def _run(command: str, folder: Path, environment: Mapping[str, str], seconds: float) -> str:
    with tempfile.TemporaryDirectory() as tools:
        tool = Path(tools, "grctl-client")
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m grctl "$@"\n', encoding="utf-8")
        tool.chmod(0o755)
        path = f"{tools}{os.pathsep}{environment.get('PATH', '')}"
        master, slave = pty.openpty()
        try:
            with subprocess.Popen(
                ["bash", "-c", command],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=folder,
                env={**environment, "PATH": path, "TERM": "dumb", "TZ": "UTC"},
                start_new_session=True,
            ) as process:
                os.close(slave)
                limit = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGTERM))
                limit.start()
                shown = _read(master)
                process.wait(seconds)
                if limit.finished.is_set():
                    shown += f"(ended by force after {seconds} s)"
                limit.cancel()
        finally:
            os.close(master)
    return "".join(line.rstrip() + "\n" for line in shown.splitlines())


def _read(master: int) -> str:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(master, 65_536)
        except OSError:  # nobody has the other end any more
            part = b""
        if not part:
            return b"".join(parts).decode()
        parts.append(part)
