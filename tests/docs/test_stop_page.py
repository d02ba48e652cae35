"""docs/how-to/stop.md: its service, under load, is stopped by SIGTERM, and what it said of each order is true."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from markdown_blocks import ROOT, read_blocks

import grctl
from grctl.nats.connection import Connection
from grctl.testing import DevServer
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

order = Workflow(workflow_type="Order")


@order.start()
async def start(ctx: Context) -> Directive:
    return ctx.next.wait()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (block,) = (block for block in read_blocks(ROOT / "docs" / "how-to" / "stop.md") if block.file == "service.py")
    path = tmp_path / "service.py"
    path.write_text(block.code, encoding="utf-8")
    return path


async def run_until_stopped(program: Path, server: DevServer, stop: signal.Signals, *, hung: bool) -> dict[str, str]:
    """Run the service until it has taken some orders, stop it, and return what it said of each."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(program)),
        env=os.environ | {"GRCTL_NATS_SERVERS": server.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    said: list[str] = []
    async with asyncio.timeout(60):
        while len(said) < 20:
            line = await process.stdout.readline()
            assert line, (await process.communicate())[1].decode()
            said.append(line.decode().rstrip())
        if hung:
            server.pause()
        process.send_signal(stop)
        out, errors = await process.communicate()
    said += out.decode().splitlines()
    assert errors.decode() == ""
    assert process.returncode == 0
    assert said.pop() == "stopped"
    words = [line.split() for line in said]
    return {
        name: " ".join(verdict) for *verdict, name in (w if w[0] == "taken" else [*w[:2], w[3], w[2]] for w in words)
    }


async def started(server: DevServer) -> set[str]:
    async with await Connection.open(server.url) as connection:
        return {run.wf_id async for run in grctl.Client(connection=connection).list_workflows()}


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_what_was_taken_has_a_run_and_nothing_else_has(program: Path, stop: signal.Signals):
    async with DevServer([order]) as server:
        said = await run_until_stopped(program, server, stop, hung=False)
        assert set(said.values()) == {"taken"}
        assert await started(server) == said.keys()


async def test_where_the_broker_hangs_it_stops_all_the_same_and_says_what_is_in_doubt(program: Path):
    program.write_text(program.read_text().replace("GRACE = 10.0", "GRACE = 0.2"))
    async with DevServer([order]) as server:
        said = await run_until_stopped(program, server, signal.SIGTERM, hung=True)
        server.resume()
        runs = await started(server)
    taken = {name for name, verdict in said.items() if verdict == "taken"}
    doubtful = {name for name, verdict in said.items() if verdict == "not taken DeliveryUnknownError"}
    assert taken <= runs <= taken | doubtful
