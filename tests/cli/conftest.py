from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from grctl.testing import DevServer

from . import flows

PATIENCE = 60.0


class Done(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


class Cli:
    """Runs ``python -m grctl`` in processes of their own, as a user would.

    Attributes:
        env: environment variables beside the test's own.
        patience: what is passed as --request-timeout: no machine is so slow.
    """

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder = folder
        self._few = asyncio.Semaphore(3)
        self.patience = "30s"
        self.env = {key: value for key, value in os.environ.items() if key.lower() != "grctl_nats_servers"}
        self.env["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        self.env.pop("FORCE_COLOR", None)
        self.env.pop("COLUMNS", None)
        if url is not None:
            self.env["GRCTL_NATS_SERVERS"] = url

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> Done:
        async with self._few:
            return await self._run(*arguments, stdin=stdin)

    async def _run(self, *arguments: str, stdin: bytes) -> Done:
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(stdin), PATIENCE)
        assert process.returncode is not None
        assert b"Traceback (most recent call last)" not in err, err.decode()
        return Done(process.returncode, out.decode(), err.decode())

    async def start(self, *arguments: str, **options: int) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        arguments = ("--request-timeout", self.patience, *arguments)
        streams = {"stdin": pipe, "stdout": pipe, "stderr": pipe} | options
        return await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-m", "grctl", *arguments, env=self.env, cwd=self.folder, **streams
        )


@pytest.fixture(autouse=True)
def gate() -> asyncio.Event:
    """Closed, and of this test's event loop."""
    flows.gate = asyncio.Event()
    return flows.gate


@pytest.fixture
async def server() -> AsyncIterator[DevServer]:
    async with DevServer(flows.workflows) as server:
        yield server


@pytest.fixture
def cli(server: DevServer, tmp_path: Path) -> Cli:
    return Cli(tmp_path, server.url)


@pytest.fixture
def open_cli(tmp_path: Path) -> Callable[[str | None], Cli]:
    """Make a command line for another server, or none."""
    return lambda url: Cli(tmp_path, url)
