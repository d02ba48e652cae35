"""Hosts: where the suite's workflows run, one for each transport."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grctl

from . import workflows as workflows_module
from .workflows import workflows

LIVE_URL = os.environ.get("GRCTL_TEST_URL", "")


@dataclass(frozen=True)
class Host:
    """Where the suite's workflows run.

    Attributes:
        name: shown in the ids of the cases.
        ours: our own engine runs them. A live server's may lack what only ours promises, and misbehave as PROTOCOL.md
            section 8 says.
    """

    name: str
    ours: bool

    async def open(self) -> Any:
        """Open a connection; whoever calls closes it."""
        if self.name == "memory":
            return await grctl.connect("memory://", workflows=workflows)
        return await grctl.connect(self.url())

    def url(self) -> str:
        """Return where the server listens; the development server is started when it is first asked for."""
        return LIVE_URL if self.name == "live" else _dev_server()

    async def open_beside(self, connection: Any) -> Any:
        """Open one more connection, to the same server as another."""
        if self.name == "memory":
            return await grctl.connect("memory://", engine=connection.engine)
        return await grctl.connect(self.url())


@functools.cache
def _dev_server() -> str:
    """Start a development server for the whole suite, as a user would, in a process of its own; return its URL."""
    server = subprocess.Popen(
        [sys.executable, "-m", "grctl", "dev", f"{workflows_module.__name__}:workflows", "--port", "0"],
        cwd=Path(__file__).parents[__name__.count(".")],
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(_stop, server)
    assert server.stdout is not None
    said = server.stdout.readline()
    _, found, url = said.strip().partition("listening on ")
    assert found, f"the development server did not start: {said}{server.stdout.read()}"
    # What it says of each run has to be read, or it would have to wait.
    threading.Thread(target=server.stdout.read, name="dev-server-output", daemon=True).start()
    return url


def _stop(server: subprocess.Popen[str]) -> None:
    server.terminate()
    server.wait()
    if server.stdout is not None:
        server.stdout.close()


HOSTS = [Host("live", ours=False)] if LIVE_URL else [Host("memory", ours=True), Host("nats", ours=True)]
