"""grctl.testing.DevServerThread: a server that nobody has to await."""

from __future__ import annotations

import asyncio
import threading

import pytest

import grctl
from grctl.testing import DevServerError, DevServerThread
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

order = Workflow(workflow_type="Order")


@order.start()
async def start(ctx: Context) -> Directive:
    return ctx.next.wait()


@order.event()
async def paid(ctx: Context) -> Directive:
    return ctx.next.complete(threading.current_thread().name)


@pytest.fixture(scope="module")
def server():
    with DevServerThread([order]) as server:
        yield server


async def pay(url: str, workflow_id: str) -> str:
    async with await grctl.connect(url) as connection:
        handle = await grctl.Client(connection=connection).start_workflow("Order", workflow_id)
        await handle.send("paid")
        return await handle.result(timeout=60)


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "grctl-dev-server"]


def test_any_number_of_event_loops_use_it(server):
    assert {asyncio.run(pay(server.url, f"loop-{number}")) for number in range(3)} == {"grctl-dev-server"}
    assert "Order loop-2  completed" in server.report()


def test_its_broker_goes_and_comes_back(server):
    async def scenario():
        async with await grctl.connect(server.url) as connection:
            await asyncio.to_thread(server.kill_broker)
            with pytest.raises(grctl.GrctlError):
                await connection.ping(timeout=0.5)
            await asyncio.to_thread(server.restart_broker)
            async with asyncio.timeout(60):
                while True:
                    try:
                        return await connection.ping()
                    except grctl.GrctlError:
                        await asyncio.sleep(0.01)

    assert asyncio.run(scenario())
    server.pause()
    server.resume()
    assert asyncio.run(pay(server.url, "after"))


def test_workflows_come_before_the_start(server):
    with pytest.raises(grctl.InvalidInputError, match=r"host\(\) comes first"):
        server.host(order)


def test_it_starts_when_it_is_asked_for_its_url():
    threads = own_threads()
    server = DevServerThread()
    server.host(order, order)
    assert own_threads() == threads
    assert "not started" in repr(server)
    assert server.report() == ""
    assert asyncio.run(pay(server.url, "w"))
    assert server.start() == server.url
    server.stop()
    server.stop()
    assert own_threads() == threads
    assert "stopped" in repr(server)
    with pytest.raises(DevServerError, match="make another one"):
        server.start()


def test_stopping_cancels_steps_and_one_that_never_started_is_nothing():
    DevServerThread().stop()
    ended = threading.Event()
    hangs = Workflow(workflow_type="Hangs")

    @hangs.start()
    async def begin(ctx: Context) -> Directive:
        begun.set()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async def start_it():
        async with await grctl.connect(server.url) as connection:
            await grctl.Client(connection=connection).start_workflow("Hangs", "h")

    begun = threading.Event()
    with DevServerThread([hangs]) as server:
        asyncio.run(start_it())
        assert begun.wait(60)
    assert ended.is_set()


def test_one_that_cannot_start_leaves_no_thread(monkeypatch):
    threads = own_threads()
    with pytest.raises(grctl.InvalidInputError, match="is no Workflow"):
        DevServerThread(["Order"]).start()
    monkeypatch.setattr("grctl.dev_server.broker.shutil.which", lambda *args, **options: None)
    with pytest.raises(DevServerError, match="pip install"):
        DevServerThread([order]).start()
    assert own_threads() == threads
