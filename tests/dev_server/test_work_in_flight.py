"""The broker, or the whole server, goes away while runs are in the middle of all kinds of things, and comes back.

Each run ends as it would have, and each end is there once. A client waits for them throughout.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import grctl
from grctl import Client, RunInfo, WorkflowHandle
from grctl.testing import DevServer
from grctl_core.outcome import EncodedOutcome
from grctl_nats import Safeguards

from .restart_flows import CHILDREN, GATE, IN_THE_MIDDLE, workflows

TESTS = Path(__file__).parents[1]
PATIENCE = 30.0
EACH = 3
"""Runs of each type."""

Handles = list[WorkflowHandle[Any]]


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "gate"
    monkeypatch.setenv(GATE, str(path))
    return path


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def start_all(client: Client) -> Handles:
    """Start runs of each type, and return when all are in the middle of things."""
    handles = [
        await client.start_workflow(wf_type, f"{wf_type}-{number}", {"n": number})
        for wf_type in IN_THE_MIDDLE
        for number in range(EACH)
    ]
    for handle in handles:
        if handle.run_info.wf_type == "TakesEvents":
            for event in (("add", {"n": 1}), ("add", {"n": -1}), ("done", None)):
                await handle.send(*event)
    async with asyncio.timeout(PATIENCE):
        for handle in handles:
            await in_the_middle(handle)
            for child in children_of(handle.run_info):
                await in_the_middle(await client.get_handle(child))
    return handles


async def in_the_middle(handle: WorkflowHandle[Any]) -> None:
    kind, _, step = IN_THE_MIDDLE[handle.run_info.wf_type].partition(" ")
    async for event in handle.history(follow=True):
        if event.kind == kind and (not step or event.data["step_name"] == step):
            return
    raise AssertionError(f"{handle} has ended already")


def children_of(run: RunInfo) -> list[str]:
    match run.wf_type:
        case "RunsAChild":
            return [f"{run.wf_id}-child"]
        case "RunsAFamily":
            return [f"{run.wf_id}-child", f"{run.wf_id}-child-child"]
        case "WaitsForChildren":
            return [f"{run.wf_id}-{number}" for number in range(CHILDREN)]
        case "StartsChildrenAndWorks":
            return [f"{run.wf_id}-0"]
    return []


async def check_ends(client: Client, waits: list[asyncio.Task[Any]], handles: Handles) -> None:
    """Every run ends right, once, and there is one run of each id."""
    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(*waits)
    wanted = [n * CHILDREN if h.run_info.wf_type == "WaitsForChildren" else n for h in handles for n in [number(h)]]
    assert {h.run_info.wf_id: r for h, r in zip(handles, results, strict=True)} == {
        h.run_info.wf_id: n for h, n in zip(handles, wanted, strict=True)
    }
    runs = [run async for run in client.list_workflows()]
    wf_ids = [wf_id for h in handles for wf_id in (h.run_info.wf_id, *children_of(h.run_info))]
    assert Counter(run.wf_id for run in runs) == Counter(wf_ids)
    for run in runs:
        history = [event async for event in (await client.get_handle(run.wf_id, run.id)).history()]
        assert run.is_finished, run
        assert [event.kind for event in history if event.is_terminal] == ["run.completed"], run
        assert sum(event.kind == "run.started" for event in history) == 1
        started = [event.data["wf_id"] for event in history if event.kind == "child.started"]
        assert sorted(started) == sorted(children_of(run)[:1] if "Runs" in run.wf_type else children_of(run)), run


def number(handle: WorkflowHandle[Any]) -> int:
    return int(handle.run_info.wf_id.rpartition("-")[2])


@pytest.fixture
async def client_of() -> AsyncIterator[Any]:
    connections = []

    async def client_of(url: str) -> Client:
        # Events are to come while a step runs, at once.
        guards = Safeguards(settled_before_send=False)
        connections.append(await grctl.connect(url, safeguards=guards))
        return Client(connection=connections[-1], request_timeout=PATIENCE)

    yield client_of
    for connection in connections:
        await connection.close(grace=0)


@pytest.mark.parametrize("how", ["kill", "restart"])
async def test_the_broker_goes_away(gate: Path, client_of: Any, how: str) -> None:
    ends: list[EncodedOutcome] = []
    async with DevServer(workflows, on_end=ends.append) as server:
        client = await client_of(server.url)
        handles = await start_all(client)
        waits = [asyncio.create_task(handle.result()) for handle in handles]
        for opens in (False, True):
            if how == "kill":
                await server.kill_broker()
            if opens:
                gate.touch()
            await server.restart_broker()
        await check_ends(client, waits, handles)
        assert set(Counter(end.run.id for end in ends).values()) == {1}
        assert len(ends) == len([run async for run in client.list_workflows()])


@contextmanager
def dev(port: int, store: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``grctl-client dev`` in a process of its own."""
    command = ["-m", "grctl", "dev", "dev_server.restart_flows:workflows", "--port", str(port)]
    with subprocess.Popen(
        [sys.executable, *command, "--store-dir", str(store)], cwd=TESTS, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:  # runs may end before it says that it listens
                said += line
                if "listening on" in line:
                    break
            else:
                raise AssertionError(f"the development server does not start: {said}")
            yield process, said
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
async def test_the_server_is_started_again(
    gate: Path, port: int, tmp_path: Path, client_of: Any, number: signal.Signals
) -> None:
    with dev(port, tmp_path / "store") as (process, _):
        client = await client_of(f"nats://127.0.0.1:{port}")
        handles = await start_all(client)
        waits = [asyncio.create_task(handle.result()) for handle in handles]
        process.send_signal(number)
        if number is signal.SIGTERM:
            process.send_signal(number)  # no grace for steps that are running
        await asyncio.to_thread(process.wait, PATIENCE)
    with dev(port, tmp_path / "store") as (process, _):  # and once more, before anything could end
        process.kill()
        process.wait()
    gate.touch()
    with dev(port, tmp_path / "store") as (process, said):
        await check_ends(client, waits, handles)
        process.terminate()
        assert process.stdout is not None
        lines = (said + await asyncio.to_thread(process.stdout.read)).splitlines()
        ended = Counter(line.split(" (")[1].split(")")[0] for line in lines if " completed " in line)
        assert set(ended.values()) == {1}
        assert {handle.run_info.id for handle in handles} <= set(ended)
