"""The server is stopped, or killed, and started again on its folder: runs go on where they were."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from grctl.dev_server.broker import Broker
from grctl.testing import DevServer, DevServerError
from grctl.worker import ChildOutcome, Context
from grctl.workflow import Directive, Workflow
from grctl_core.commands import CancelCommand
from grctl_core.errors import WorkflowAlreadyRunningError
from grctl_core.run import RunRef, RunStatus
from grctl_nats import subjects, wire

from . import workflows
from .raw import Raw, until, waits

Connect = Callable[..., Awaitable[Raw]]
ORDER = {"order_id": "9", "qty": 1}

two_steps = Workflow(workflow_type="TwoSteps")


@two_steps.start()
async def first(ctx: Context, n: int) -> Directive:
    ctx.store.put("n", n)
    return ctx.next.step(second)


@two_steps.step(timeout=timedelta(minutes=5))  # by default 10 s, which a busy machine may need for the other runs
async def second(ctx: Context) -> Directive:
    await workflows.gate.wait()
    return ctx.next.complete(await ctx.store.get("n", int))


calls_two_steps = Workflow(workflow_type="CallsTwoSteps")


@calls_two_steps.start()
async def call_two_steps(ctx: Context) -> Directive:
    await ctx.start_child("TwoSteps", f"{ctx.run.wf_id}-child", {"n": 7}, on_completed_step=two_steps_ended)
    return ctx.next.wait()


@calls_two_steps.step()
async def two_steps_ended(ctx: Context, outcome: ChildOutcome) -> Directive:
    return ctx.next.complete([str(outcome.status), outcome.error and outcome.error.type])


runs_two_steps = Workflow(workflow_type="RunsTwoSteps")


@runs_two_steps.start()
async def run_two_steps(ctx: Context) -> Directive:
    await ctx.start_child("OrderApproval", f"{ctx.run.wf_id}-taken", ORDER)
    return ctx.next.step(run_two_more)


@runs_two_steps.step()
async def run_two_more(ctx: Context) -> Directive:
    found = [await ctx.run_child("TwoSteps", f"{ctx.run.wf_id}-child", {"n": 7})]
    try:
        await ctx.start_child("OrderApproval", f"{ctx.run.wf_id}-taken", ORDER)
    except WorkflowAlreadyRunningError as error:
        found.append(type(error).__name__)
    return ctx.next.complete(found)


HOSTED = [*workflows.workflows, two_steps]


async def result(raw: Raw, run: RunRef) -> object:
    assert (await raw.end(run)).status is RunStatus.COMPLETED
    output = await raw.get(subjects.output(run))
    return None if output is None else msgspec.msgpack.decode(output.data)


async def in_step(raw: Raw, run: RunRef, name: str) -> None:
    async def begun() -> bool:
        history = await raw.history(run)
        return any(event.kind == "step.started" and event.data["step_name"] == name for event in history)

    await until(begun)


async def test_a_run_that_waits(connect: Connect, tmp_path: Path) -> None:
    async with DevServer(HOSTED, store_dir=tmp_path) as server:
        raw = await connect(server.url)
        run = await raw.start("OrderApproval", "a", ORDER)
        await waits(raw, run)
        assert (await raw.event("a", "update_quantity", {"item_id": "x", "qty": 3})).success

        async def taken() -> bool:
            return (await raw.kinds(run)).count("wait.started") == 2

        await until(taken)
        before = await waits(raw, run)
    async with DevServer(HOSTED, store_dir=tmp_path) as server:
        raw = await connect(server.url)
        assert await waits(raw, run) == before
        assert await raw.describe("a") == await raw.info(run)
        assert (await raw.event("a", "approve")).success
        assert await result(raw, run) == {"approved": True, "qty": 3}
        kinds = ["event.received", "step.started", "step.completed"]
        assert await raw.kinds(run) == [
            *["run.started", "step.started", "step.completed", "wait.started"],
            *[*kinds, "wait.started"],
            *[*kinds, "run.completed"],
        ]


async def test_a_run_in_a_step_that_runs_again(connect: Connect, tmp_path: Path) -> None:
    server = DevServer(HOSTED, store_dir=tmp_path)
    await server.start()
    raw = await connect(server.url)
    run = await raw.start("TwoSteps", "a", {"n": 5})
    await in_step(raw, run, "second")
    await server.stop(grace=0)
    workflows.gate.set()
    async with DevServer(HOSTED, store_dir=tmp_path) as server:
        raw = await connect(server.url)
        assert await result(raw, run) == 5
        assert (await raw.kinds(run)).count("step.started") == 3

        async def gone() -> bool:
            return await raw.get(subjects.worker_task(run)) is None

        await until(gone)


async def test_events_that_waited_for_a_step(connect: Connect, tmp_path: Path) -> None:
    server = DevServer(HOSTED, store_dir=tmp_path)
    await server.start()
    raw = await connect(server.url)
    run = await raw.start("GreetEvents", "a", {"name": "Cem"})
    await in_step(raw, run, "start")
    for name in ("greet", "farewell"):
        assert (await raw.event("a", name)).success
    await server.stop(grace=0)
    workflows.gate.set()
    async with DevServer(HOSTED, store_dir=tmp_path) as server:
        raw = await connect(server.url)
        assert await result(raw, run) == "Hello, Cem! Goodbye, Cem!"
        state = await raw.state(run)
        events = [event for event in await raw.history(run) if event.kind == "event.received"]
        assert state is not None
        assert state.last_event_seq_id == events[-1].seq - 1


async def test_a_cancel_that_waited_for_a_step(connect: Connect, tmp_path: Path) -> None:
    server = DevServer(HOSTED, store_dir=tmp_path)
    await server.start()
    raw = await connect(server.url)
    run = await raw.start("TwoSteps", "a", {"n": 5})
    await in_step(raw, run, "second")
    assert (await raw.send(CancelCommand(wf_id="a", reason="enough"))).success
    await server.stop(grace=0)
    workflows.gate.set()
    async with DevServer(HOSTED, store_dir=tmp_path) as server:
        raw = await connect(server.url)
        assert (await raw.end(run)).status is RunStatus.CANCELLED


async def test_a_wait_goes_on_for_the_time_that_is_left(connect: Connect, tmp_path: Path) -> None:
    async with DevServer(HOSTED, store_dir=tmp_path) as server:
        raw = await connect(server.url)
        run = await raw.start("WaitFallback", "a")
        await waits(raw, run)
    async with DevServer(HOSTED, store_dir=tmp_path) as server:
        raw = await connect(server.url)
        assert await result(raw, run) == "fallback"
        took = [event for event in await raw.history(run) if event.kind in ("wait.started", "wait.timed_out")]
        assert took[1].timestamp - took[0].timestamp < timedelta(seconds=5)


async def test_a_run_whose_type_is_hosted_no_more_fails(connect: Connect, tmp_path: Path) -> None:
    async with DevServer(HOSTED, store_dir=tmp_path) as server:
        raw = await connect(server.url)
        run = await raw.start("OrderApproval", "a", ORDER)
        await waits(raw, run)
    async with DevServer([two_steps], store_dir=tmp_path) as server:
        raw = await connect(server.url)
        info = await raw.end(run)
        assert info.status is RunStatus.FAILED
        error = await raw.get(subjects.error(run))
        assert error is not None
        assert "'OrderApproval' is not registered" in wire.decode_error(error.data).message
        end, state = (await raw.history(run))[-1], await raw.get(subjects.run_state(run))
        assert state is not None
        assert (end.kind, end.seq) == ("run.failed", Raw.seq(state) - 1)


async def test_the_parent_of_a_run_that_cannot_go_on_learns_of_it(connect: Connect, tmp_path: Path) -> None:
    async with DevServer([*HOSTED, calls_two_steps], store_dir=tmp_path) as server:
        raw = await connect(server.url)
        run = await raw.start("CallsTwoSteps", "a")
        await waits(raw, run)
        await in_step(raw, await latest(raw, "a-child"), "second")
        await server.stop(grace=0)
    async with DevServer([calls_two_steps], store_dir=tmp_path) as server:
        raw = await connect(server.url)
        assert await result(raw, run) == ["failed", "NotResumable"]
        child = await latest(raw, "a-child")
        assert (await raw.end(child)).status is RunStatus.FAILED


async def test_a_step_that_runs_again_finds_the_child_that_it_has_started(connect: Connect, tmp_path: Path) -> None:
    """But not one that an earlier step has started: that one's id is taken, as without the restart."""
    async with DevServer([*HOSTED, runs_two_steps], store_dir=tmp_path) as server:
        raw = await connect(server.url)
        run = await raw.start("RunsTwoSteps", "a")
        child = await latest(raw, "a-child")
        await in_step(raw, child, "second")
        await server.stop(grace=0)
    workflows.gate.set()
    async with DevServer([*HOSTED, runs_two_steps], store_dir=tmp_path) as server:
        raw = await connect(server.url)
        assert await result(raw, run) == [7, "WorkflowAlreadyRunningError"]
        assert await latest(raw, "a-child") == child
        assert (await raw.kinds(run)).count("child.started") == 2


async def latest(raw: Raw, wf_id: str) -> RunRef:
    async def found() -> RunRef | None:
        info = await raw.describe(wf_id)
        return None if info is None else info.ref

    return await until(found)


async def test_many_runs(connect: Connect, tmp_path: Path) -> None:
    server = DevServer(HOSTED, store_dir=tmp_path)
    await server.start()
    raw = await connect(server.url)
    runs = [await raw.start("TwoSteps", f"a{number}", {"n": number}) for number in range(150)]
    await server.stop(grace=0)
    workflows.gate.set()
    async with DevServer(HOSTED, store_dir=tmp_path) as server:
        raw = await connect(server.url)
        assert [await result(raw, run) for run in runs] == list(range(150))


async def test_a_stream_of_another_server_is_left_alone(connect: Connect, tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        raw = await connect(broker.url)
        await raw.api("STREAM.CREATE.grctl_state", {"name": "grctl_state", "subjects": ["grctl_run.>"]})
        with pytest.raises(DevServerError, match="another server made"):
            async with DevServer(HOSTED, nats_url=broker.url):
                pass
    finally:
        await broker.stop()
