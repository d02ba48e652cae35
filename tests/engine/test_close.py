from __future__ import annotations

import asyncio
import gc

import pytest

from grctl_core.commands import EventCommand
from grctl_core.errors import (
    ConnectionClosedError,
    EventLoopError,
)
from grctl_core.run import RunStatus
from grctl_engine.engine import Engine

from .flows import ALL, Gate, approval, echo
from .rig import nothing, run_info, start_command


def logs_nothing(caplog) -> bool:
    gc.collect()
    return not caplog.records


async def test_close_waits_for_running_steps(make_rig):
    gate = Gate()
    rig = make_rig(gate.workflow)
    ref = rig.start("Gated", "done")
    watched = rig.engine.watch(ref)
    await rig.settle()
    closing = asyncio.create_task(rig.engine.close(60))
    await asyncio.sleep(0)
    gate.opened.set()
    await closing
    assert (await watched).run.status is RunStatus.COMPLETED
    assert nothing(rig.held())


async def test_close_ends_the_waiting_but_not_the_runs(make_rig, caplog):
    gate = Gate()
    rig = make_rig(gate.workflow, approval)
    in_step, in_wait = rig.start("Gated", wf_id="a"), rig.start("OrderApproval", wf_id="b")
    await rig.settle()
    watched = [rig.engine.watch(ref) for ref in (in_step, in_wait)]
    unseen = rig.engine.watch(in_wait)
    reader = rig.engine.history(in_wait, follow=True)
    following = asyncio.create_task(last(reader))
    await rig.settle()
    await rig.engine.close(0)
    await rig.engine.close(0)
    for future in [*watched, following]:
        with pytest.raises(ConnectionClosedError, match="engine was closed"):
            await future
    with pytest.raises(ConnectionClosedError):
        await anext(reader)
    assert gate.log == ["abandoned"]
    held = rig.held()
    assert held.pop("states") == 2
    assert held.pop("stores") == 1
    assert nothing(held)
    for use in (
        lambda: rig.engine.execute(EventCommand(wf_id="b", event_name="approve")),
        lambda: rig.engine.watch(in_wait),
    ):
        with pytest.raises(ConnectionClosedError):
            use()
    del unseen
    assert logs_nothing(caplog)
    assert "closed" in repr(rig.engine)


async def last(reader):
    return [event async for event in reader][-1]


async def test_close_with_steps_that_sleep_on_a_clock_that_stands_still(make_rig):
    rig = make_rig(*ALL)
    rig.start("Slow")
    await rig.settle()
    await asyncio.wait_for(rig.engine.close(3600), 30)
    assert rig.held()["timers"] == 0


async def test_an_engine_that_was_never_used_closes():
    engine = Engine([echo])
    await engine.close()
    assert "closed" in repr(engine)


def test_an_engine_belongs_to_one_loop():
    engine = Engine([echo])  # outside of any

    async def use() -> None:
        engine.execute(start_command(run_info("Echo")))

    asyncio.run(use())
    with pytest.raises(EventLoopError, match="belongs to another event loop"):
        asyncio.run(use())
