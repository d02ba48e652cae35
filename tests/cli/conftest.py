from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from grctl.cli.app import app
from grctl.testing import DevServer

from . import flows

PATIENCE = 60.0


class Done(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


class Cli:
    """Runs the command line: inside this process, which is much cheaper, or as a user would, in one of its own.

    Attributes:
        env: environment variables of a process of its own.
        patience: what is passed as --request-timeout: no machine is so slow.
    """

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder = folder
        self.patience = "30s"
        self.env = {key: value for key, value in os.environ.items() if key.lower() != "grctl_nats_servers"}
        self.env["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        self.env.pop("FORCE_COLOR", None)
        self.env.pop("COLUMNS", None)
        self._one = asyncio.Lock()
        self._here: dict[str, str | None] = {key: None for key in os.environ if key not in self.env}
        if url is not None:
            self.env["GRCTL_NATS_SERVERS"] = self._here["GRCTL_NATS_SERVERS"] = url

    async def __call__(self, *arguments: str) -> Done:
        """Run it in a thread, beside the server's event loop. One at a time: the streams are the process's."""
        async with self._one:
            return await asyncio.to_thread(self._run, arguments)

    def _run(self, arguments: tuple[str, ...]) -> Done:
        runner = CliRunner(env=self._here)
        with contextlib.chdir(self.folder), _logging_kept():
            done = runner.invoke(app, ("--request-timeout", self.patience, *arguments), prog_name="grctl-client")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)

    async def process(self, *arguments: str) -> Done:
        """Run it in a process of its own."""
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
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


@contextlib.contextmanager
def _logging_kept() -> Iterator[None]:
    """Undo what the command line does to the root logger."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


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
