from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from types import SimpleNamespace

import pytest

from grctl_engine.effects import Step
from grctl_engine.executor import Executor, StepExecution

from .rig import CREATED


def execution(name: str) -> StepExecution:
    return StepExecution(SimpleNamespace(), Step(name, None, 1, CREATED))


class Gate:
    """Steps that note that they began, and end when they are told."""

    def __init__(self, limit: int) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.executor = Executor(limit, self.perform)
        self.executions: dict[str, StepExecution] = {}

    async def perform(self, execution: StepExecution) -> None:
        name = execution.step.name
        self.began.append(name)
        gate = self.gates[name] = asyncio.Event()
        try:
            await gate.wait()
        finally:
            self.ended.append(name)

    async def submit(self, *names: str) -> None:
        for name in names:
            self.executions[name] = execution(name)
            self.executor.submit(self.executions[name])
        await self.turn()

    async def release(self, name: str) -> None:
        self.gates[name].set()
        await self.turn()

    async def abandon(self, name: str) -> None:
        self.executor.abandon(self.executions[name])
        await self.turn()

    async def turn(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def test_so_many_at_once_the_others_in_their_order():
    gate = Gate(2)
    await gate.submit("a", "b", "c", "d")
    assert gate.began == ["a", "b"]
    assert (gate.executor.running, gate.executor.queued) == (2, 2)
    await gate.release("b")
    assert gate.began == ["a", "b", "c"]
    await gate.release("a")
    assert gate.began == ["a", "b", "c", "d"]
    await gate.release("c")
    await gate.release("d")
    assert (gate.executor.running, gate.executor.queued, gate.executor.busy) == (0, 0, False)


async def test_a_queued_step_that_is_abandoned_never_begins():
    gate = Gate(1)
    await gate.submit("a", "b", "c")
    await gate.abandon("b")
    assert gate.executor.queued == 1
    assert gate.executions["b"].run is None
    await gate.release("a")
    assert gate.began == ["a", "c"]
    await gate.release("c")
    assert gate.executor.queued == 0


async def test_many_abandoned_in_the_queue_are_given_back():
    gate = Gate(1)
    await gate.submit("blocker")
    for number in range(1000):
        queued = execution(str(number))
        gate.executor.submit(queued)
        gate.executor.abandon(queued)
    assert gate.executor.queued == 0
    assert len(gate.executor._queue) < 300
    await gate.release("blocker")
    assert gate.began == ["blocker"]


async def test_a_running_step_that_is_abandoned_is_cancelled():
    gate = Gate(1)
    await gate.submit("a", "b")
    await gate.abandon("a")
    assert gate.ended == ["a"]
    assert gate.began == ["a", "b"]
    await gate.release("b")


async def test_abandoned_before_its_first_line_it_never_begins_and_nothing_warns():
    gate = Gate(1)
    gate.executions["a"] = execution("a")
    gate.executor.submit(gate.executions["a"])
    await gate.abandon("a")
    assert gate.began == []
    assert gate.executor.running == 0


async def test_no_context_leaks_into_a_step():
    span: contextvars.ContextVar[str] = contextvars.ContextVar("span", default="none")
    seen: list[str] = []

    async def perform(_: StepExecution) -> None:
        seen.append(span.get())
        span.set("step")

    executor = Executor(1, perform)
    span.set("caller")
    executor.submit(execution("a"))
    executor.submit(execution("b"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == ["none", "none"]
    assert span.get() == "caller"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_a_step_never_begins_in_the_middle_of_a_command():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    gate = Gate(1)
    gate.executor.submit(execution("a"))
    assert gate.began == []
    await gate.turn()
    assert gate.began == ["a"]
    await gate.release("a")


async def test_a_failing_engine_is_logged_and_frees_its_place(caplog):
    async def perform(execution: StepExecution) -> None:
        raise RuntimeError(execution.step.name)

    executor = Executor(1, perform)
    with caplog.at_level(logging.ERROR, "grctl.engine"):
        executor.submit(execution("a"))
        executor.submit(execution("b"))
        for _ in range(6):
            await asyncio.sleep(0)
    assert executor.running == 0
    assert [record.getMessage() for record in caplog.records] == [
        "step 'a' broke the engine",
        "step 'b' broke the engine",
    ]


async def test_sleeping_steps_are_not_busy():
    gate = Gate(2)
    await gate.submit("a", "b")
    a = gate.executions["a"]
    gate.executor.fall_asleep(a)
    gate.executor.fall_asleep(a)
    assert gate.executor.busy
    gate.executor.fall_asleep(gate.executions["b"])
    assert not gate.executor.busy
    gate.executor.wake_up(a)
    assert not gate.executor.busy
    gate.executor.wake_up(a)
    assert gate.executor.busy
    await gate.release("a")
    await gate.release("b")
    assert not gate.executor.busy
    assert gate.executor._sleeping == 0


async def test_one_that_is_cancelled_as_its_slot_frees_is_skipped():
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    gate = Gate(1)
    await gate.submit("parent", "child", "next")
    parent = gate.executions["parent"]
    gate.executor.step_aside(parent)
    await gate.turn()
    assert gate.began == ["parent", "child"]
    back = asyncio.create_task(gate.executor.come_back(parent))
    await gate.turn()
    back.cancel()
    gate.executor._aside += 1  # a slot frees in the same turn
    gate.executor._fill()
    gate.executor._aside -= 1
    assert not gate.executor._returning
    with pytest.raises(asyncio.CancelledError):
        await back
    assert (parent.aside, parent.sleeping, gate.executor._aside, gate.executor._sleeping) == (0, 0, 0, 0)
    for name in ("parent", "child", "next"):
        await gate.release(name)
    assert gate.executor.running == 0
    assert errors == []


async def test_close_waits_for_what_runs_and_starts_nothing_more():
    gate = Gate(1)
    await gate.submit("a", "b")
    closing = asyncio.create_task(gate.executor.close(60, wait_for_sleepers=True))
    await gate.turn()
    assert not closing.done()
    await gate.release("a")
    await closing
    await gate.submit("c")
    assert gate.began == ["a"]
    assert gate.executor.queued == 0


async def test_close_abandons_what_does_not_end_in_time():
    gate = Gate(2)
    await gate.submit("a", "b")
    await gate.executor.close(0, wait_for_sleepers=True)
    assert sorted(gate.ended) == ["a", "b"]
    assert all(one.abandoned for one in gate.executions.values())


async def test_close_does_not_wait_for_sleepers_on_a_clock_that_stands_still():
    gate = Gate(1)
    await gate.submit("a")
    gate.executor.fall_asleep(gate.executions["a"])
    await gate.executor.close(60, wait_for_sleepers=False)
    assert gate.ended == ["a"]


async def test_a_cancelled_close_abandons_too():
    gate = Gate(1)
    await gate.submit("a")
    closing = asyncio.create_task(gate.executor.close(60, wait_for_sleepers=True))
    await gate.turn()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await gate.turn()
    assert gate.ended == ["a"]


async def test_close_gives_up_on_a_step_that_does_not_go(caplog, monkeypatch):
    monkeypatch.setattr("grctl_engine.executor._ABANDONED_GRACE", 0.0)
    release = asyncio.Event()

    async def perform(_: StepExecution) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    executor = Executor(1, perform)
    executor.submit(execution("a"))
    await asyncio.sleep(0)
    await executor.close(0, wait_for_sleepers=True)
    assert "1 steps or tasks go on" in caplog.text
    release.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert executor.running == 0
