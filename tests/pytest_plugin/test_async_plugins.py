"""The fixtures under each plugin for asynchronous tests, and under none: the same tests, each warning an error."""

from __future__ import annotations

import re

import pytest
from project import run_pytest

MARKED = "pytestmark = pytest.mark.{}\n\n\n"

ANYIO = """\
@pytest.fixture(params=[("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})], ids=["plain", "uvloop"])
def anyio_backend(request):
    return request.param


"""

TESTS = """\
async def test_thirty_days(grctl_engine):
    run = await grctl_engine.start("Order")
    await grctl_engine.advance(days=29)
    assert not run.is_finished
    assert await run.completed() == "given up"
    assert run.steps == ["start", "give_up"]


async def test_the_tested_code_has_a_client(grctl_engine, grctl_client):
    handle = await grctl_client.start_workflow("Order", "order-1")
    await handle.send("paid")
    assert await handle.result(timeout=60) == "shipped"
    assert (await grctl_engine.run("order-1")).events == ["paid"]


async def test_what_is_left_running_is_ended(grctl_engine, grctl_client):
    left.append(asyncio.create_task(grctl_client.run_workflow("Order", "waits")))
    assert ended == begun
    await grctl_engine.start("Order", "hangs", {"total": 0})
    begun.append("hangs")
    left.append(asyncio.create_task(collect((await grctl_engine.run("waits")).handle.history(follow=True))))
    assert ended == begun[1:]


async def test_nothing_is_left_of_the_test_before(grctl_engine):
    assert ended == begun
    assert all(task.done() for task in left)
    left.clear()
    assert grctl_engine.runs == []
    gc.collect()


async def collect(history):
    return [event async for event in history]


begun, left = [], []
"""

SYNC = """\
def test_thirty_days(grctl_engine):
    async def scenario():
        run = await grctl_engine.start("Order")
        assert await run.completed() == "given up"

    asyncio.run(scenario())


def test_what_is_left_running_is_ended(grctl_engine, grctl_client):
    async def scenario():
        await grctl_client.start_workflow("Order", "waits")
        await grctl_engine.start("Order", "hangs", {"total": 0})

    asyncio.run(scenario())
    assert ended == ["hangs"]


def test_a_loop_that_stays_open_is_left_in_order(grctl_engine, loop):
    loop.run_until_complete(grctl_engine.start("Order", "hangs", {"total": 0}))
    ended.clear()


def test_it_is(loop):
    assert ended == ["hangs"]


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()
    gc.collect()


def test_two_event_loops(grctl_engine):
    asyncio.run(grctl_engine.start("Order", "order-1"))
    with pytest.raises(RuntimeError, match="do all of a test in one asyncio.run"):
        asyncio.run(grctl_engine.advance(days=1))
    with pytest.raises(RuntimeError, match="no event loop is running here"):
        grctl_engine.advance(days=1).send(None)


def test_a_server(grctl_dev_server):
    async def scenario():
        async with await grctl.connect(grctl_dev_server.url) as connection:
            assert await grctl.Client(connection=connection).start_workflow("Order", "o-1")

    asyncio.run(scenario())
    asyncio.run(scenario_again(grctl_dev_server.url))


async def scenario_again(url):
    async with await grctl.connect(url) as connection:
        handle = await grctl.Client(connection=connection).get_handle("o-1")
        await handle.send("paid")
        assert await handle.result(timeout=60) == "shipped"
"""

IMPORTS = "import gc\n\nimport grctl\n\n\n"
ASYNCIO = ("-o", "asyncio_default_fixture_loop_scope=function")  # it warns where that is not said

MODES = {
    "pytest-asyncio, strict": (MARKED.format("asyncio") + TESTS, ASYNCIO, ("anyio",), 4),
    "pytest-asyncio, auto": (TESTS, (*ASYNCIO, "-o", "asyncio_mode=auto"), ("anyio",), 4),
    "anyio": (MARKED.format("anyio") + ANYIO + TESTS, (), ("asyncio",), 8),
    "none": (SYNC, (), ("asyncio", "anyio"), 6),
}


def test_under_anyio_on_trio_it_says_what_to_do(tmp_path):
    test = "async def test_it(grctl_engine):\n    await grctl_engine.start('Order')\n"
    said = run_pytest(tmp_path, MARKED.format("anyio") + test, without=("asyncio",))
    assert re.search(r"^=+ 1 failed, 1 passed in ", said, re.MULTILINE), said
    assert "in its tests let the fixture anyio_backend return 'asyncio'" in said


@pytest.mark.parametrize("mode", MODES)
def test_under(mode, tmp_path):
    tests, options, without, passed = MODES[mode]
    said = run_pytest(tmp_path, IMPORTS + tests, *options, without=without)
    assert re.search(rf"^=+ {passed} passed in ", said, re.MULTILINE), said
    assert said.endswith("exit code 0"), said
