"""A doubt whose broker is gone: it is looked into over the next link."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from fake_server import NOW, FakeServer

from grctl_core.client import WorkflowClient
from grctl_core.commands import CancelCommand, StartCommand, TerminateCommand
from grctl_core.doubt import DoubtBounds
from grctl_core.errors import DeliveryUnknownError
from grctl_core.operations import Operations
from grctl_core.pipeline import Pipeline
from grctl_core.run import RunInfo, RunStatus

pytestmark = pytest.mark.usefixtures("nothing_left")

PATIENT = DoubtBounds(reached_within=60.0, begun_within=60.0, quarantine=0.05)


def client_on(connection, bounds: DoubtBounds = PATIENT) -> WorkflowClient:
    client = WorkflowClient(connection=connection)
    client._operations = Operations(connection, Pipeline(), bounds)
    return client


async def come(server: FakeServer, kind: type) -> RunInfo | None:
    """Wait until a command of a kind has come, which the server does not answer; return the run of a start."""
    async with asyncio.timeout(20):
        while not (found := [command for command in server.commands if type(command) is kind]):
            await server.received(len(server.messages) + 1)
    return getattr(found[0], "run", None)


def starts(server: FakeServer) -> list[str]:
    return [command.run.id for command in server.commands if type(command) is StartCommand]


async def cut_off_at_the_start(broker, server, connection, *, carried_out: bool, bounds: DoubtBounds = PATIENT):
    """Start a workflow, and kill the broker when the command has come; return the task of the start."""
    server.answer = lambda command: None if type(command) is StartCommand else server.ok(command)
    starting = asyncio.create_task(client_on(connection, bounds).start_workflow("W", "w", request_timeout=1_000))
    run = await come(server, StartCommand)
    if carried_out:
        await server.put_run(msgspec.structs.replace(run, status=RunStatus.RUNNING, started_at=NOW))
        await server.put_state(run.ref, "step")
    link = connection._uplink.link
    broker.kill()
    async with asyncio.timeout(20):
        await link.lost
    server.answer = server.ok
    return starting


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_start_whose_broker_comes_back(broker, server, connection, *, carried_out):
    starting = await cut_off_at_the_start(broker, server, connection, carried_out=carried_out)
    await broker.start()
    await server.connect()
    async with asyncio.timeout(60):
        handle = await starting
    assert set(starts(server)) == {handle.run_info.id}
    assert len(starts(server)) == (1 if carried_out else 2)


async def test_a_start_whose_broker_stays_away(broker, server, connection):
    bounds = DoubtBounds(reached_within=0.1)
    starting = await cut_off_at_the_start(broker, server, connection, carried_out=True, bounds=bounds)
    with pytest.raises(DeliveryUnknownError, match=r"lost before the reply came.*looking for it failed: not sent"):
        async with asyncio.timeout(20):
            await starting


@pytest.mark.parametrize("kind", [CancelCommand, TerminateCommand])
@pytest.mark.parametrize("carried_out", [True, False])
async def test_an_end_whose_broker_comes_back(broker, server, connection, kind, *, carried_out):
    handle = await client_on(connection).start_workflow("W", "w")
    run = msgspec.structs.replace(handle.run_info, status=RunStatus.RUNNING, started_at=NOW)
    await server.put_run(run)
    server.answer = lambda command: None if type(command) is kind else server.ok(command)
    end = handle.cancel if kind is CancelCommand else handle.terminate
    ending = asyncio.create_task(end())
    await come(server, kind)
    if carried_out:
        await server.end(run, RunStatus.CANCELLED if kind is CancelCommand else RunStatus.TERMINATED)
    broker.kill()
    server.answer = server.ok
    await broker.start()
    await server.connect()
    async with asyncio.timeout(60):
        await ending
    assert sum(type(command) is kind for command in server.commands) == (1 if carried_out else 2)
