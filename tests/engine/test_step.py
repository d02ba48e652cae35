"""Handlers that do what they should not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys

import pytest

from grctl_core.run import RunStatus
from grctl_engine.context import Context
from grctl_engine.definition import Workflow
from grctl_engine.directive import Directive

from .flows import Gate
from .rig import Rig


def workflow(handler) -> Workflow:
    wf = Workflow(workflow_type="W")
    wf.start(timeout=5)(handler)
    return wf


async def returns_none(ctx: Context) -> None:
    ctx.store.put("k", "v")


async def returns_a_dict(ctx: Context) -> dict:
    return {"x": 1}


async def returns_the_method(ctx: Context) -> object:
    return ctx.next.complete


async def returns_what_has_no_repr(ctx: Context) -> object:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError("no repr")

    return Broken()


async def raises_cancelled(ctx: Context) -> Directive:
    raise asyncio.CancelledError("mine")


async def awaits_what_was_cancelled(ctx: Context) -> Directive:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future
    raise AssertionError


async def cancels_itself(ctx: Context) -> Directive:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    raise AssertionError


async def cannot_be_encoded(ctx: Context) -> Directive:
    return ctx.next.complete({"deep": [object()]})


async def steps_elsewhere(ctx: Context) -> Directive:
    return ctx.next.step("nowhere")


async def raises_a_group(ctx: Context) -> Directive:
    raise ExceptionGroup("several", [ValueError("a")])


@pytest.mark.parametrize(
    ("handler", "error_type", "message"),
    [
        (returns_none, "NoDecisionError", "step 'start' of workflow type 'W' returned None: return a decision"),
        (returns_a_dict, "NoDecisionError", "returned {'x': 1}"),
        (returns_the_method, "NoDecisionError", "returned <bound method"),
        (returns_what_has_no_repr, "ValueError", "no repr"),
        (raises_cancelled, "CancelledError", "mine"),
        (awaits_what_was_cancelled, "CancelledError", ""),
        (cancels_itself, "CancelledError", ""),
        (cannot_be_encoded, "InvalidInputError", "result['deep'][0] cannot be encoded"),
        (steps_elsewhere, "InvalidInputError", "workflow 'W' has no step 'nowhere'. It has: start"),
        (raises_a_group, "ExceptionGroup", "several (1 sub-exception)"),
    ],
)
async def test_it_fails_the_run_and_says_why(handler, error_type, message, make_rig):
    rig = make_rig(workflow(handler))
    ref = rig.start("W")
    outcome = await rig.outcome(ref)
    assert outcome.status is RunStatus.FAILED
    assert outcome.error.type == error_type
    assert message in outcome.error.message
    assert await rig.kinds(ref) == ["run.started", "step.started", "step.failed", "run.failed"]
    assert rig.held()["stores"] == 0


async def test_the_trace_shows_the_handler_and_not_the_engine(make_rig):
    rig = make_rig(workflow(cannot_be_encoded))
    trace = (await rig.result("W")).error.stack_trace
    assert ", in cannot_be_encoded\n" in trace
    assert "ctx.next.complete({" in trace
    assert "/grctl_engine/" not in trace


async def test_input_that_does_not_fit_fails_in_the_step(make_rig):
    async def start(ctx: Context, order_id: str) -> Directive: ...

    rig = make_rig(workflow(start))
    outcome = await rig.result("W", {"nope": 1})
    assert outcome.error.type == "InputMismatchError"
    assert outcome.error.message == "start() of workflow 'W' needs 'order_id' (str); the input has: nope"


async def test_an_abandoned_step_may_do_and_raise_what_it_likes(make_rig, caplog):
    finished = []

    async def start(ctx: Context) -> Directive:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ctx.logger.info("going on")
            await asyncio.sleep(0)
            try:
                ctx.store.put("k", "v")
            except RuntimeError as error:
                finished.append(str(error))
            raise ValueError("after the end") from None
        raise AssertionError

    rig = make_rig(workflow(start))
    ref = rig.start("W")
    await rig.settle()
    rig.terminate("stop")
    await rig.settle()
    assert "step 'start' of workflow 'w' was abandoned" in finished[0]
    assert await rig.kinds(ref) == ["run.started", "step.started", "run.terminated"]
    assert rig.held()["tasks"] == 0
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("way", ["returns", "sleeps", "records"])
async def test_a_step_that_swallows_its_abandonment_changes_nothing(way, make_rig):
    failed = []

    async def start(ctx: Context) -> Directive:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        try:
            if way == "sleeps":
                await ctx.sleep(1)
            elif way == "records":
                await ctx.now()
        except RuntimeError as error:
            failed.append(error)
        return ctx.next.complete("I won")

    rig = make_rig(workflow(start))
    ref = rig.start("W")
    await rig.advance(6)
    outcome = await rig.outcome(ref)
    assert outcome.error.type == "StepTimeout"
    assert await rig.kinds(ref) == ["run.started", "step.started", "step.timeout", "run.failed"]
    assert len(failed) == (way != "returns")
    assert rig.held()["tasks"] == 0


async def test_an_abandoned_step_and_the_next_run_of_the_id_do_not_meet(make_rig):
    gate = Gate()
    rig = make_rig(gate.workflow)
    first = rig.start("Gated")
    await rig.settle()
    rig.terminate()
    second = rig.start("Gated", "second")
    gate.opened.set()
    assert (await rig.outcome(second)).result == "second"
    assert (await rig.outcome(first)).status is RunStatus.TERMINATED
    assert gate.log == ["abandoned"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_is_for_the_loop_goes_there_and_fails_the_step(error, caplog):
    async def start(ctx: Context) -> Directive:
        raise error("out")

    rig = Rig(workflow(start))

    async def main() -> None:
        rig.start("W")
        await asyncio.sleep(3600)

    loop = asyncio.new_event_loop()
    try:
        main_task = loop.create_task(main())
        with pytest.raises(error, match="out"):
            loop.run_until_complete(main_task)
        info = loop.run_until_complete(describe(rig))
        assert info.status is RunStatus.FAILED
        main_task.cancel()
        loop.run_until_complete(asyncio.gather(main_task, return_exceptions=True))
    finally:
        loop.close()
    gc.collect()
    assert not caplog.records


async def describe(rig):
    return rig.describe()


def test_the_loops_own_end_ends_the_step_without_noise(caplog):
    gate = None

    async def main() -> Rig:
        nonlocal gate
        gate = Gate()
        rig = Rig(gate.workflow)
        rig.start("Gated")
        await rig.settle()
        return rig

    rig = asyncio.run(main())
    assert gate is not None
    assert gate.log == ["abandoned"]
    assert rig.engine._runs.latest("w").info.status is RunStatus.FAILED
    gc.collect()
    assert not caplog.records


def test_a_loop_that_is_closed_over_a_running_step_makes_no_trouble(caplog, monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    loop = asyncio.new_event_loop()

    async def main() -> Rig:
        rig = Rig(Gate().workflow)
        rig.start("Gated")
        await rig.settle()
        return rig

    rig = loop.run_until_complete(main())
    with caplog.at_level(logging.CRITICAL, "asyncio"):  # asyncio rightly says that a task was pending
        loop.close()
        del rig
        gc.collect()
    assert not unraisable


async def test_timeouts_of_asyncio_work_inside_a_step(make_rig):
    async def start(ctx: Context) -> Directive:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return ctx.next.complete("timed out")
        raise AssertionError

    assert (await make_rig(workflow(start)).result("W")).result == "timed out"
