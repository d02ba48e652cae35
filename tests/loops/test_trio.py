"""In trio everything that needs an event loop says so, and how to get one."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import anyio
import pytest
import trio

import grctl
from grctl.nats.connection import Connection
from grctl.testing import DevServer, ManualEngine, RecordingTransport
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_engine import Engine
from grctl_memory import MemoryConnection

greeting = Workflow(workflow_type="Greeting")


@greeting.start()
async def start(ctx: Context) -> Directive:
    return ctx.next.complete("hello")


def client() -> grctl.Client:
    return grctl.Client(connection=MemoryConnection(Engine([greeting])))


async def enter(context) -> None:
    async with context:
        pytest.fail("it was entered")


async def listed() -> None:
    client().list_workflows()


USES = {
    "Connection.connect": Connection.connect,
    "Connection.open": lambda: Connection.open("nats://localhost:1"),
    "grctl.connect, nats": lambda: grctl.connect("nats://localhost:1"),
    "grctl.connect, memory": lambda: grctl.connect("memory://", workflows=[greeting]),
    "start_workflow": lambda: client().start_workflow("Greeting", "g-1"),
    "run_workflow": lambda: client().run_workflow("Greeting", "g-1"),
    "get_handle": lambda: client().get_handle("g-1"),
    "list_workflows": listed,
    "ping": client().connection.ping,
    "close": client().connection.close,
    "an engine": lambda: Engine().close(),
    "DevServer": lambda: enter(DevServer([greeting])),
    "ManualEngine": lambda: ManualEngine([greeting]).start("Greeting"),
    "RecordingTransport": lambda: enter(RecordingTransport()),
}


@pytest.mark.parametrize("name", USES)
def test_it_says_what_to_do(name):
    with pytest.raises(grctl.EventLoopError, match=r"runs on asyncio, and this is trio: .* anyio\.run\(main\)"):
        trio.run(USES[name])
    with pytest.raises(grctl.EventLoopError, match="this is trio"):
        anyio.run(USES[name], backend="trio")


async def test_what_belongs_to_asyncio_is_refused_in_trio_too():
    async with await grctl.connect("memory://", workflows=[greeting]) as connection:
        handle = await grctl.Client(connection=connection).start_workflow("Greeting", "g-1")
        with pytest.raises(grctl.EventLoopError, match="this is trio"):
            await asyncio.to_thread(trio.run, handle.result)
        assert await handle.result() == "hello"


async def run_it() -> str:
    async with await grctl.connect("memory://", workflows=[greeting]) as connection:
        return await grctl.Client(connection=connection).run_workflow("Greeting", "g-1")


def test_what_it_says_works():
    async def in_a_thread() -> str:
        return await trio.to_thread.run_sync(asyncio.run, run_it())

    assert trio.run(in_a_thread) == "hello"
    assert anyio.run(run_it) == "hello"
    assert anyio.run(run_it, backend_options={"use_uvloop": True}) == "hello"


def test_trio_is_not_imported_for_that():
    program = (
        "import sys, grctl, grctl_engine\n"
        "try: grctl_engine.Engine().close().send(None)\n"
        "except grctl.EventLoopError as error: print(error, {'trio', 'sniffio', 'anyio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("no event loop is running here")
    assert done.stdout.endswith("set()\n")
