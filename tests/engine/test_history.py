from __future__ import annotations

import asyncio

import pytest

from grctl_core.errors import WorkflowNotFoundError
from grctl_core.run import RunRef
from grctl_engine.limits import EngineLimits

from .flows import approval, echo
from .rig import nothing


async def test_what_is_there(make_rig):
    rig = make_rig(approval)
    ref = rig.start("OrderApproval", {"order_id": "7"})
    await rig.settle()
    events = await rig.history(ref)
    assert [event.kind for event in events] == ["run.started", "step.started", "step.completed", "wait.started"]
    assert events[0].data == {"input": {"order_id": "7"}}
    assert {(event.wf_id, event.run_id) for event in events} == {(ref.wf_id, ref.run_id)}
    assert [event.worker_id for event in events] == ["", rig.engine.worker_id, rig.engine.worker_id, ""]


async def test_a_run_that_is_not_there(make_rig):
    rig = make_rig(approval)
    for follow in (True, False):
        reader = rig.engine.history(RunRef("w", "nope"), follow=follow)
        with pytest.raises(WorkflowNotFoundError):
            await anext(reader)


async def test_without_following_it_ends_where_the_history_ended_at_the_first_look(make_rig):
    rig = make_rig(approval)
    ref = rig.start("OrderApproval")
    await rig.settle()
    seen = []
    async for event in rig.engine.history(ref, follow=False):
        seen.append(event)
        rig.send("x")
    assert len(seen) == 4


async def test_following_misses_nothing_and_repeats_nothing(make_rig):
    rig = make_rig(approval)
    ref = rig.start("OrderApproval")
    seen: list[list[int]] = [[], [], []]

    async def follow(number: int) -> None:
        async for event in rig.engine.history(ref, follow=True):
            seen[number].append(event.seq)
            for _ in range(number):  # a slow one
                await asyncio.sleep(0)

    followers = [asyncio.create_task(follow(number)) for number in range(3)]
    for qty in range(20):
        rig.send("update_quantity", {"item_id": "a", "qty": qty})
        for _ in range(qty % 4):
            await asyncio.sleep(0)
    rig.send("approve")
    await asyncio.gather(*followers)
    everything = [event.seq for event in await rig.history(ref)]
    assert seen == [everything] * 3
    assert nothing(rig.held())


async def test_following_a_run_that_has_ended(make_rig):
    rig = make_rig(echo)
    ref = rig.start("Echo")
    await rig.settle()
    assert [event.kind async for event in rig.engine.history(ref, follow=True)] == await rig.kinds(ref)


async def test_a_consumer_that_stops_leaves_nothing(make_rig):
    rig = make_rig(approval)
    ref = rig.start("OrderApproval")
    await rig.settle()
    async for _ in rig.engine.history(ref, follow=True):
        break
    assert rig.held()["followers"] == 0
    waiting = asyncio.create_task(collect(rig.engine.history(ref, follow=True)))
    await rig.settle()
    assert rig.held()["followers"] == 1
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert rig.held()["followers"] == 0


async def collect(reader):
    return [event.kind async for event in reader]


async def test_a_run_that_is_forgotten_meanwhile_is_read_to_its_end(make_rig):
    rig = make_rig(echo, approval, limits=EngineLimits(finished_runs=1))
    ref = rig.start("OrderApproval", wf_id="w")
    reader = rig.engine.history(ref, follow=True)
    assert (await anext(reader)).kind == "run.started"
    rig.terminate(wf_id="w")
    await rig.result("Echo", wf_id="other")
    assert rig.engine.find_run(ref) is None
    assert await collect(reader) == ["run.terminated"]


async def test_what_comes_after_the_end_is_not_waited_for(make_rig):
    rig = make_rig(approval)
    ref = rig.start("OrderApproval")
    await rig.settle()
    reader = rig.engine.history(ref, follow=True)
    following = asyncio.create_task(collect(reader))
    await rig.settle()
    rig.terminate()
    rig.engine._host.record(rig.engine._runs.latest("w"), "task.cancelled", {}, worker=True)
    assert (await following)[-2:] == ["run.terminated", "task.cancelled"]
    assert rig.engine.watch(ref).result().run.status == "terminated"
