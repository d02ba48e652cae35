"""grctl.testing.ManualEngine and EngineRun: moved time, what a run has done, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import threading
from datetime import UTC, datetime, timedelta

import pytest

import grctl
from grctl.testing import EngineRun, ManualEngine
from grctl.worker import Context, task
from grctl.workflow import Directive, Workflow
from grctl_engine import EngineLimits

order = Workflow(workflow_type="Order")


@task
async def charge(total: float) -> float:
    if total > 1000:
        raise PermissionError("the card was declined")
    return total


@order.start()
async def start(ctx: Context, total: float) -> Directive:
    await charge(total)
    return ctx.next.wait(timeout=timedelta(days=30), on_timeout=give_up)


@order.event()
async def paid(ctx: Context, by: str = "card") -> Directive:
    return ctx.next.complete({"paid by": by})


@order.step()
async def give_up(ctx: Context) -> Directive:
    return ctx.next.complete("given up")


reminder = Workflow(workflow_type="Reminder")


@reminder.start()
async def remind(ctx: Context) -> Directive:
    return ctx.next.wait(timeout=timedelta(weeks=1), on_timeout=remind_again)


@reminder.step()
async def remind_again(ctx: Context) -> Directive:
    return ctx.next.wait(timeout=timedelta(weeks=1), on_timeout=remind_again)


outside = Workflow(workflow_type="Outside")


@outside.start(timeout=timedelta(seconds=1))
async def in_a_thread(ctx: Context, seconds: float | None) -> Directive:
    if seconds is None:
        await asyncio.get_running_loop().create_future()
    await asyncio.to_thread(threading.Event().wait, seconds)
    return ctx.next.complete("done")


@pytest.fixture
async def engine():
    async with ManualEngine([order, reminder, outside]) as engine:
        yield engine


# --- what a run has done


async def test_a_run_shows_what_it_has_done(engine):
    run = await engine.start("Order", "order-1", {"total": 10.0})
    assert (run.status, run.is_finished, run.info.wf_id) == ("running", False, "order-1")
    assert (run.steps, run.tasks, run.events) == (["start"], ["charge"], [])
    assert run.kinds[:3] == ["run.started", "step.started", "task.started"]
    assert run.history[0].data == {"input": {"total": 10.0}}
    await run.send("paid", {"by": "cash"})
    assert (run.steps, run.events, run.is_finished) == (["start", "paid"], ["paid"], True)
    assert await run.completed() == {"paid by": "cash"}
    assert engine.now == datetime(2026, 1, 1, tzinfo=UTC)
    assert "order-1" in repr(run)


async def test_a_run_that_the_tested_code_has_started(engine):
    handle = await engine.client.start_workflow("Order", "order-1", {"total": 10.0})
    for which in ("order-1", handle):
        run = await engine.run(which)
        assert isinstance(run, EngineRun)
        assert (run.info.id, run.steps) == (handle.run_info.id, ["start"])
    with pytest.raises(grctl.WorkflowNotFoundError):
        await engine.run("order-2")


async def test_each_start_has_an_id_of_its_own(engine):
    runs = [await engine.start("Order", None, {"total": 1}) for _ in range(3)]
    assert [info.wf_id for info in engine.runs] == [run.info.wf_id for run in runs]
    assert len({run.info.wf_id for run in runs}) == 3


async def test_the_result_is_of_the_type_that_was_asked_for(engine):
    run = await engine.start("Order", None, {"total": 1}, result_type=str)
    assert await run.completed() == "given up"
    run = await engine.start("Order", None, {"total": 1}, result_type=int)
    with pytest.raises(grctl.DecodeError):
        await run.completed()


# --- ends


async def test_thirty_days_go_by(engine):
    run = await engine.start("Order", None, {"total": 10.0})
    await engine.advance(days=29, hours=23)
    assert not run.is_finished
    assert await run.completed() == "given up"
    assert engine.now == datetime(2026, 1, 31, tzinfo=UTC)
    await engine.advance(days=3650)
    assert run.steps == ["start", "give_up"]


async def test_each_end_is_asserted(engine):
    failed = await engine.start("Order", None, {"total": 5000.0})
    assert (await failed.failed()).type == "PermissionError"
    assert (await failed.failed("PermissionError", match="card .* declined")).message == "the card was declined"
    cancelled = await engine.start("Order", None, {"total": 5.0})
    await cancelled.cancel("enough")
    assert cancelled.is_finished
    assert await cancelled.cancelled() == "enough"
    terminated = await engine.start("Order", None, {"total": 5.0})
    await terminated.terminate("stop")
    assert await terminated.terminated() == "stop"
    late = await engine.start("Order", None, {"total": 5.0}, timedelta(days=2))
    assert await late.timed_out() is None
    assert (await late.ended()).status == "timed_out"
    assert engine.now == datetime(2026, 1, 3, tzinfo=UTC)


EXPECTED = {
    "completed": (5000.0, "was to complete, but failed after 0 s: PermissionError: the card was declined"),
    "failed": (5.0, "was to fail, but completed after 30 d with 'given up'"),
    "timed_out": (5.0, "was to time out, but completed after 30 d with 'given up'"),
    "cancelled": (5000.0, "was to be cancelled, but failed after 0 s"),
    "terminated": (5.0, "was to be terminated, but completed"),
}


@pytest.mark.parametrize("end", EXPECTED)
async def test_another_end_fails_the_test(engine, end):
    total, said = EXPECTED[end]
    run = await engine.start("Order", "order-1", {"total": total})
    with pytest.raises(AssertionError, match=rf"^Order 'order-1' {said}"):
        await getattr(run, end)()


async def test_an_end_that_a_caller_brought_about_fails_the_test(engine):
    run = await engine.start("Order", "order-1", {"total": 1.0})
    await run.terminate("by mistake")
    with pytest.raises(AssertionError, match="was to complete, but was terminated after 0 s: by mistake"):
        await run.completed()


async def test_another_failure_fails_the_test(engine):
    run = await engine.start("Order", "order-1", {"total": 5000.0})
    with pytest.raises(
        AssertionError, match="was to fail with a CardDeclined, but failed with PermissionError: the card"
    ):
        await run.failed("CardDeclined")
    with pytest.raises(AssertionError, match="does not match 'no money': PermissionError"):
        await run.failed(match="no money")


async def test_an_end_that_takes_longer_than_it_may(engine):
    run = await engine.start("Order", "order-1", {"total": 5.0})
    with pytest.raises(TimeoutError, match="Order 'order-1' has not ended: time was moved by 29 days, 0:00:00"):
        await run.completed(within=timedelta(days=29))
    assert engine.now == datetime(2026, 1, 30, tzinfo=UTC)
    assert await run.completed(within=timedelta(days=1)) == "given up"


async def test_a_workflow_that_wakes_up_for_ever(engine, monkeypatch):
    monkeypatch.setattr("grctl.testing.time_mover.MOST_MOVES", 50)
    run = await engine.start("Reminder", "r")
    with pytest.raises(TimeoutError, match=r"time was moved 50 times, by 350 days.* again and again\?"):
        await run.completed()


async def test_a_workflow_that_never_waits(engine, monkeypatch):
    monkeypatch.setattr("grctl_engine.clock.MOST_TURNS", 2_000)
    restless = Workflow(workflow_type="Restless")

    @restless.start()
    async def again(ctx: Context) -> Directive:
        return ctx.next.step(step)

    @restless.step()
    async def step(ctx: Context) -> Directive:
        return ctx.next.step(step)

    with pytest.raises(RuntimeError, match="from step to step for ever"):
        await engine.start(restless)


# --- time and what is outside


async def test_time_stands_still_while_a_step_waits_for_something_outside(engine):
    run = await engine.start("Outside", None, {"seconds": 0.05})
    assert await run.completed() == "done"
    assert engine.now == datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_step_that_waits_for_ever_is_named_and_its_timeout_strikes_by_advance():
    async with ManualEngine([outside]) as engine:
        engine.patience = timedelta(seconds=0.1)
        run = await engine.start("Outside", "o", {"seconds": None})
        with pytest.raises(
            TimeoutError, match=r"nothing has happened for 0\.1 s .* a step waits for something outside"
        ):
            await run.completed()
        await engine.advance(seconds=1)
        assert (await run.failed("StepTimeout")).message == "step start timed out"


async def test_code_that_waits_for_a_workflow_by_itself(engine):
    async def place_order():
        await asyncio.sleep(0.01)  # something else
        first = await engine.client.run_workflow("Order", "order-1", {"total": 1.0})
        handle = await engine.client.start_workflow("Order", "order-2", {"total": 1.0})
        history = [event.kind async for event in handle.history(follow=True)]
        return first, history[-1]

    assert await engine.advance_until(place_order()) == ("given up", "run.completed")
    assert engine.now == datetime(2026, 3, 2, tzinfo=UTC)


async def test_what_such_code_raises_comes_with_its_class(engine):
    async def cancelled():
        handle = await engine.client.start_workflow("Order", "order-1", {"total": 1.0})
        await handle.cancel("enough")
        await handle.result()

    with pytest.raises(grctl.WorkflowCancelledError, match="enough"):
        await engine.advance_until(cancelled())
    with pytest.raises(grctl.WorkflowError, match="declined"):
        await engine.advance_until(engine.client.run_workflow("Order", "order-2", {"total": 2000.0}))


async def test_time_is_not_moved_for_code_that_waits_for_something_else():
    async with ManualEngine([order], patience=0.1) as engine:
        await engine.start("Order", None, {"total": 1.0})
        never = asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError, match="waits neither for the end of a run nor for its next event"):
            await engine.advance_until(never)
        assert not never.done()  # it belongs to the caller
        cancelled = asyncio.Event()

        async def coroutine():
            try:
                await never
            finally:
                cancelled.set()

        with pytest.raises(TimeoutError):
            await engine.advance_until(coroutine())
        assert cancelled.is_set()
        assert engine.now == datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_parent_that_waits_for_its_child_is_nobody_outside():
    parent = Workflow(workflow_type="Parent")

    @parent.start(timeout=timedelta(days=60))
    async def run_it(ctx: Context) -> Directive:
        return ctx.next.complete(await ctx.run_child("Order", "child", {"total": 1.0}))

    async with ManualEngine([order, parent], patience=0.1) as engine:
        run = await engine.start("Parent")
        assert not engine.engine.is_awaited
        assert await run.completed() == "given up"


async def test_cancelling_a_wait_leaves_nothing(engine):
    run = await engine.start("Outside", None, {"seconds": None})
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(run.completed())
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asyncio.all_tasks() == before


async def test_who_waits_is_seen(engine):
    run = await engine.start("Order", None, {"total": 1.0})
    assert not engine.engine.is_awaited
    following = asyncio.create_task(anext(engine.engine.history(run.info.ref, follow=True)))
    assert await following
    watch = engine.engine.watch(run.info.ref)
    assert engine.engine.is_awaited
    watch.cancel()
    await asyncio.sleep(0)
    assert not engine.engine.is_awaited


async def test_two_waits_at_once(engine):
    runs = [await engine.start("Order", None, {"total": 1.0}) for _ in range(5)]
    await engine.start("Order", None, {"total": 1.0}, timedelta(days=29))
    later = [await engine.start("Reminder") for _ in range(3)]
    assert await asyncio.gather(*(run.completed() for run in runs)) == ["given up"] * 5
    assert engine.now == datetime(2026, 1, 31, tzinfo=UTC)
    assert not any(run.is_finished for run in later)


# --- hosting, closing, loops


async def test_workflows_are_hosted_when_they_are_named(engine):
    late = Workflow(workflow_type="Late")

    @late.start()
    async def begin(ctx: Context) -> Directive:
        return ctx.next.complete("late")

    assert await (await engine.start(late)).completed() == "late"
    assert await (await engine.start("Late")).completed() == "late"
    engine.host(late, order, late)  # they are there already
    other = Workflow(workflow_type="Late")
    other.start()(begin)
    with pytest.raises(grctl.InvalidInputError, match="registered already: workflow type 'Late'"):
        engine.host(other)
    with pytest.raises(grctl.InvalidInputError, match="is no Workflow"):
        engine.host("Late")
    with pytest.raises(grctl.WorkflowTypeNotRegisteredError) as caught:
        await engine.start("NobodyHasThis")
    (note,) = caught.value.__notes__
    assert note.startswith("This engine hosts Order, Reminder, Outside, Late. The fixture grctl_workflows")


async def test_closing_ends_what_is_left():
    ended = []
    hangs = Workflow(workflow_type="Hangs")

    @hangs.start()
    async def begin(ctx: Context) -> Directive:
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            ended.append(ctx.run.wf_id)

    engine = ManualEngine([hangs])
    run = await engine.start("Hangs", "h")
    waiting = asyncio.create_task(run.handle.result())
    await asyncio.sleep(0)
    await engine.close()
    await engine.close()
    assert ended == ["h"]
    with pytest.raises(grctl.ConnectionClosedError):
        await waiting
    assert "Hangs h" in engine.report()
    gc.collect()


def test_it_belongs_to_one_event_loop():
    engine = ManualEngine([order])
    asyncio.run(engine.start("Order", "order-1", {"total": 1.0}))
    for use in (lambda: engine.advance(1), engine.settle, lambda: engine.start("Order"), lambda: engine.run("order-1")):
        with pytest.raises(grctl.EventLoopError, match=r"do all of a test in one asyncio\.run\(\)"):
            asyncio.run(use())
        with pytest.raises(grctl.EventLoopError, match="no event loop is running here"):
            use().send(None)
    engine.close_in_its_loop()  # that one is closed


async def test_closing_from_inside_of_an_event_loop_does_nothing(engine):
    run = await engine.start("Order", None, {"total": 1.0})
    engine.close_in_its_loop()
    assert await run.completed() == "given up"


async def test_its_options():
    async with ManualEngine(start=datetime(2030, 5, 1, tzinfo=UTC), limits=EngineLimits(active_runs=1)) as engine:
        engine.host(order)
        run = await engine.start("Order", None, {"total": 1.0})
        assert run.info.started_at == datetime(2030, 5, 1, tzinfo=UTC)
        with pytest.raises(grctl.ServerError):
            await engine.start("Order", None, {"total": 1.0})
    for wrong in ({"start": datetime(2030, 5, 1)}, {"patience": 0}, {"limits": 5}):  # noqa: DTZ001
        with pytest.raises(grctl.InvalidInputError):
            ManualEngine(**wrong)
