"""Bed: a broker and a responder, each a process of its own, for one group of rows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import nats

from grctl.dev_server.broker import find_executable

__all__ = ["Bed", "Relayed", "bed", "child"]

_HOST = "127.0.0.1"


class Bed:
    """What a group measures on.

    Attributes:
        url: the broker's address.
        nc: a plain nats-py connection, for the reference.
    """

    def __init__(self, url: str, monitor: str, nc: nats.aio.client.Client) -> None:
        self.url = url
        self._monitor = monitor
        self.nc = nc

    async def do(self, what: str, **how: Any) -> Any:
        """Have the responder do something, and wait until it is done."""
        body = msgspec.msgpack.encode({"do": what, **how})
        return msgspec.msgpack.decode((await self.nc.request("bench.do", body, timeout=600)).data)

    async def subscriptions(self, name: str) -> int:
        """Return how many subscriptions a connection of this name has, by the broker's word."""

        def ask() -> Any:
            with urllib.request.urlopen(f"{self._monitor}/connz", timeout=10) as answer:  # noqa: S310 - our own broker
                return json.load(answer)

        connections = (await asyncio.to_thread(ask))["connections"]
        return sum(connection["subscriptions"] for connection in connections if connection.get("name") == name)

    async def consumers(self) -> int:
        """Return how many consumers the stream has."""
        answer = await self.nc.request("$JS.API.STREAM.INFO.grctl_state", timeout=30)
        return int(json.loads(answer.data)["state"]["consumer_count"])


@contextlib.asynccontextmanager
async def bed() -> AsyncIterator[Bed]:
    """Start a broker and a responder, and end them."""
    port, monitor = _free_ports(2)
    with tempfile.TemporaryDirectory() as store, contextlib.ExitStack() as processes:
        listen = ["-a", _HOST, "-p", str(port), "-m", str(monitor), "-js", "-sd", store, "-l", f"{store}/log"]
        processes.enter_context(_process([find_executable(), *listen]))
        url = f"nats://{_HOST}:{port}"
        nc = await _connect(url)
        try:
            await _line(processes.enter_context(child("benchmarks.responder", url)))
            yield Bed(url, f"http://{_HOST}:{monitor}", nc)
        finally:
            await nc.close()


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody has at the moment."""
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.create_server((_HOST, 0))) for _ in range(count)]
        return [taken.getsockname()[1] for taken in sockets]


async def _connect(url: str) -> nats.aio.client.Client:
    """Connect as soon as the broker listens."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await nats.connect(url, allow_reconnect=False, error_cb=_no_word)
            except (OSError, nats.errors.Error):
                await asyncio.sleep(0.02)


@contextlib.contextmanager
def child(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a module of ours as a process."""
    with _process([sys.executable, "-m", module, *arguments]) as process:
        yield process


@contextlib.contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:  # noqa: S603 - our own command lines
        try:
            yield process
        finally:
            process.kill()


class Relayed:
    """A relay before the broker, that can be cut."""

    def __init__(self, process: subprocess.Popen[str], port: str) -> None:
        self._process = process
        self.url = f"nats://{_HOST}:{port}"

    async def tell(self, line: str) -> None:
        """Tell it ``"cut"`` or ``"open"``, and wait until it is done."""
        if self._process.stdin is not None:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        await _line(self._process)

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, url: str) -> AsyncIterator[Relayed]:
        """Start one before a broker."""
        with child("benchmarks.relay", url.rpartition(":")[2]) as process:
            yield cls(process, (await _line(process)).strip())


async def _line(process: subprocess.Popen[str]) -> str:
    if process.stdout is None:
        raise AssertionError("it was started with a pipe")
    line = await asyncio.to_thread(process.stdout.readline)
    if not line:
        raise RuntimeError("a helping process of the benchmark died")
    return line


async def _no_word(_: Exception) -> None:
    """Say nothing of an end of the connection that was asked for."""
