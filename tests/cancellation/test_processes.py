"""How a program ends, in a process of its own: it does not hang, and prints nothing that it was not told to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from .places import PATIENCE

HEAD = """
import asyncio, os, signal, sys, threading
import grctl
from grctl import Client
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

order = Workflow(workflow_type="Order")

@order.start()
async def start(ctx: Context) -> Directive:
    return ctx.next.wait()

@order.event()
async def note(ctx: Context, number: int = 0) -> Directive:
    return ctx.next.wait()

async def connect():
    url = sys.argv[1]
    return await grctl.connect(url, **({"workflows": [order]} if url == "memory://" else {}))

async def heard(work):
    '''asyncio complains of errors that nobody asks for, and rightly.'''
    try:
        await work
    except grctl.GrctlError:
        pass

async def busy(connection):
    '''Have something of each kind under way.'''
    client = Client(connection=connection, plugins=[])
    handle = await client.start_workflow("Order", f"order-{os.getpid()}", None, 3600)
    async def follow():
        async for _ in handle.history(follow=True):
            pass
    tasks = [asyncio.ensure_future(heard(work)) for work in (
        handle.result(), handle.outcome(timeout=600), follow(), handle.send("note"), handle.send("note"),
        client.get_handle(handle.run_info.wf_id), handle.describe(), client.start_workflow("Order", "other"),
    )]
    tasks.append(handle.future)
    await asyncio.sleep(0)
    return tasks
"""

PROGRAMS = {
    "main returns with work pending": """
        async def main():
            tasks = await busy(await connect())
        asyncio.run(main())
    """,
    "main returns with work pending, closed": """
        async def main():
            async with await connect() as connection:
                tasks = await busy(connection)
        asyncio.run(main())
    """,
    "main raises with work pending": """
        async def main():
            async with await connect() as connection:
                tasks = await busy(connection)
                raise SystemExit(0)
        asyncio.run(main())
    """,
    "sys.exit in the middle of it": """
        async def main():
            tasks = await busy(await connect())
            sys.exit()
        asyncio.run(main())
    """,
    "the loop is closed with work pending": """
        loop = asyncio.new_event_loop()
        async def main():
            global tasks
            tasks = await busy(await connect())
        loop.run_until_complete(main())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()
        del tasks
        import gc; gc.collect()
    """,
    "handles are dropped after the loop was closed": """
        async def main():
            connection = await connect()
            handle = await Client(connection=connection).start_workflow("Order", f"order-{os.getpid()}")
            future = handle.future
            await connection.close(grace=0)
            return handle, future
        handle, future = asyncio.run(main())
        print(handle, file=open(os.devnull, "w"))
        try:
            handle.future
        except grctl.GrctlError:
            pass
        del handle, future
        import gc; gc.collect()
    """,
    "in a thread": """
        async def main():
            tasks = await busy(await connect())
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        thread.join()
    """,
    "one loop after the other": """
        async def main():
            tasks = await busy(await connect())
        async def again():
            async with await connect() as connection:
                await Client(connection=connection).start_workflow("Order", f"again-{os.getpid()}")
        asyncio.run(main())
        asyncio.run(again())
    """,
    "a result that nobody asks for": """
        async def main():
            async with await connect() as connection:
                client = Client(connection=connection)
                handle = await client.start_workflow("Order", f"order-{os.getpid()}")
                handle.future
                waiting = asyncio.ensure_future(handle.outcome())
                await handle.terminate()
                await waiting
                handle.future
        asyncio.run(main())
    """,
}


@pytest.fixture(params=["memory", "nats"])
def address(request: pytest.FixtureRequest) -> str:
    return "memory://" if request.param == "memory" else request.getfixturevalue("server").url


@contextlib.contextmanager
def begun(program: str, address: str, *, dev: bool = False) -> Iterator[subprocess.Popen[str]]:
    code = HEAD + textwrap.dedent(program)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRCTL_")}
    flags = ["-X", "dev"] if dev else []
    with subprocess.Popen(
        [sys.executable, *flags, "-c", code, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


FEW = {"main returns with work pending", "the loop is closed with work pending", "in a wait"}
"""What is tried on the embedded engine too; in the long form all is."""


@pytest.fixture(autouse=True)
def only_few(request: pytest.FixtureRequest, address: str, is_full: bool) -> None:
    name = request.node.callspec.params["name"]
    if address == "memory://" and name not in FEW and not is_full:
        pytest.skip("in the long form only")


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_ends_in_silence(address: str, name: str) -> None:
    with begun(PROGRAMS[name], address) as process:
        out, err = process.communicate(timeout=PATIENCE * 2)
    assert (process.returncode, out, err) == (0, "", "")


INTERRUPTED = """
    async def main():
        async with await connect() as connection:
            tasks = await busy(connection)
            print("ready", flush=True)
            {waits}
    asyncio.run(main())
"""
WAITS = {
    "in a wait": ["await tasks[0]"],
    "in a wait of its own": ["await asyncio.sleep(600)"],
    "in the middle of calls": [
        "client = Client(connection=connection)",
        "while True:",
        "    await client.get_handle(f'order-{os.getpid()}')",
    ],
    "in a task group": [
        "async with asyncio.TaskGroup() as group:",
        "    for task in tasks:",
        "        group.create_task(asyncio.wait([task]))",
        "    group.create_task(asyncio.sleep(600))",
    ],
}


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c(address: str, name: str) -> None:
    """It ends as any program of asyncio's does: with a KeyboardInterrupt, and nothing besides."""
    program = textwrap.dedent(INTERRUPTED).replace("{waits}", f"\n{' ' * 8}".join(WAITS[name]))
    with begun(program, address) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE * 2)
    assert process.returncode == -signal.SIGINT
    assert out == ""
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.rstrip().endswith("KeyboardInterrupt")
    for noise in (
        "never retrieved",
        "never awaited",
        "was destroyed",
        "Exception ignored",
        "Unclosed",
        "event loop is",
    ):
        assert noise not in err
    assert err.count("Traceback (most recent call last):") <= 2  # the cancellation, and what it became


@pytest.mark.parametrize("name", ["main returns with work pending, closed", "a result that nobody asks for"])
def test_with_asyncio_s_debug_mode_too(address: str, name: str) -> None:
    """Whoever closes what it opened hears nothing, also of unclosed sockets."""
    with begun(PROGRAMS[name], address, dev=True) as process:
        out, err = process.communicate(timeout=PATIENCE * 2)
    err = "\n".join(line for line in err.splitlines() if not line.startswith("Executing <"))  # a slow machine
    assert (process.returncode, out, err) == (0, "", "")
