"""Service: a program of the examples in a process of its own, which never outlives the tests."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

__all__ = ["PATIENCE", "ROOT", "Service", "wait_until"]

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def wait_until(condition, what, process=None):
    """Wait until the condition gives something true, and return that."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not (found := condition()):
                assert process is None or process.poll() is None, f"ended while we waited until {what}"
                await asyncio.sleep(0.01)
            return found
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE} s: {what}") from None


class Service:
    """One program.

    Args:
        command: what `python` runs.
        ready: what it logs when it is ready, as a regular expression; its first group is its port.
        log: a file to write to.
        environment: beside that of the tests.
    """

    def __init__(self, command: list[str], *, ready: str, log: Path, environment: dict[str, str] | None = None) -> None:
        self.command = command
        self.ready = ready
        self.log_file = log
        self.environment = environment or {}
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def start(self) -> None:
        """Start, and wait until it is ready; on the same port as before."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = os.environ | self.environment | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        command = [part.format(port=self.port) for part in self.command]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it takes a moment
                [sys.executable, "-W", "error", *command],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,  # noqa: PLW1509
            )
        try:
            found = await wait_until(lambda: re.search(self.ready, self.log), "it is ready", self._process)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.log}") from None
        if found.groups():
            self.port = int(found[1])

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit code."""
        process, self._process = self._process, None
        process.send_signal(number)
        try:
            await wait_until(lambda: process.poll() is not None, "it has ended")
            return process.returncode
        finally:
            process.kill()
            process.wait()
