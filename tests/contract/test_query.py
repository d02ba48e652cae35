"""Queries, on those engines that have them."""

from __future__ import annotations

import asyncio

import pytest

import grctl

from .helpers import in_step, kinds, waiting


@pytest.fixture(autouse=True)
def with_queries(connection):
    if not connection.capabilities.queries:
        pytest.skip("this engine answers no queries")


@pytest.fixture
async def handle(client, unique_id):
    handle = await client.start_workflow("AnswersQueries", unique_id(), {"items": ["a", "b", "a"]})
    await waiting(handle)
    return handle


async def test_while_it_waits_while_it_runs_and_after_its_end(handle):
    assert await handle.query("items") == ["a", "b", "a"]
    await handle.send("add_item", {"item": "c", "seconds": 0.1})
    await in_step(handle, "add_item")
    assert await handle.query("items") == ["a", "b", "a"]
    await waiting(handle, times=2)
    assert await handle.query("items") == ["a", "b", "a", "c"]
    await handle.send("close_order")
    assert await handle.result() == 4
    assert await handle.query("items") == ["a", "b", "a", "c"]


async def test_arguments(handle):
    assert await handle.query("count.of", item="a") == 2
    assert await handle.query("count.of", item="b", more=5) == 6
    assert await handle.query("nothing") is None


async def test_another_handle_of_the_run(client, handle):
    other = await client.get_handle(handle.run_info.wf_id)
    assert await other.query("items") == ["a", "b", "a"]


async def test_a_query_leaves_no_trace(handle):
    before = await kinds(handle), await handle.describe()
    await handle.query("items")
    for name in ("breaks", "writes", "cannot_be_sent"):
        with pytest.raises(grctl.RefusedError):
            await handle.query(name)
    assert (await kinds(handle), await handle.describe()) == before
    assert await handle.query("items") == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("nope", {}, r"answers no query 'nope': it answers .*'count\.of', 'items'"),
        ("breaks", {}, "query 'breaks' failed: ValueError: cannot say"),
        ("cannot_be_sent", {}, "object"),
        ("writes", {}, "can only read"),
        ("items", {"extra": 1}, "takes no keys"),
        ("count.of", {}, "needs 'item'"),
        ("count.of", {"item": 5}, "'item' does not fit str"),
    ],
)
async def test_what_is_refused(handle, name, arguments, says):
    with pytest.raises(grctl.RefusedError, match=says):
        await handle.query(name, **arguments)


async def test_one_that_takes_longer_than_the_caller_waits(handle):
    with pytest.raises(grctl.DeliveryUnknownError, match="takes"):
        await handle.query("takes", seconds=60, request_timeout=0.01)
    assert await handle.query("items") == ["a", "b", "a"]


async def test_many_at_once_beside_a_slow_one(handle):
    slow = asyncio.create_task(handle.query("takes", seconds=60))
    assert await asyncio.gather(*(handle.query("count.of", item="a", more=n) for n in range(100))) == [
        2 + n for n in range(100)
    ]
    assert not slow.done()
    slow.cancel()
    await asyncio.wait([slow])
    assert slow.cancelled()


async def test_it_asks_its_run_and_not_a_later_one(client, handle):
    await handle.send("close_order")
    await handle.result()
    later = await client.start_workflow("AnswersQueries", handle.run_info.wf_id, {"items": ["later"]})
    await waiting(later)
    assert await handle.query("items") == ["a", "b", "a"]
    assert await later.query("items") == ["later"]


async def test_a_type_without_queries(client, unique_id):
    handle = await client.start_workflow("ReturnsItsInput", unique_id())
    await handle.result()
    with pytest.raises(grctl.RefusedError, match="none at all"):
        await handle.query("items")
