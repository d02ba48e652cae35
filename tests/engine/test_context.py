from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from grctl_core.run import RunStatus
from grctl_engine.context import Context
from grctl_engine.definition import Workflow
from grctl_engine.directive import Directive
from grctl_engine.errors import StepEndedError


@dataclass
class Item:
    sku: str
    tags: tuple[str, ...] = ()


async def run(make_rig, *handlers, value: Any = None, seconds: float = 0):
    """Run a workflow of these steps, one after the other; return its outcome and its history."""
    wf = Workflow(workflow_type="W")
    for number, handler in enumerate(handlers):
        (wf.start(timeout=3600) if number == 0 else wf.step(name=f"step{number}"))(handler)
    rig = make_rig(wf)
    ref = rig.start("W", value)
    if seconds:
        await rig.advance(seconds)
    return await rig.outcome(ref), await rig.history(ref)


async def test_the_store_keeps_values_over_steps_and_converts_them(make_rig):
    async def start(ctx: Context) -> Directive:
        ctx.store.put("item", Item("a", ("x", "y")))
        ctx.store.put("user.name", "Cem")
        ctx.store.put("nothing", None)
        return ctx.next.step("step1")

    async def then(ctx: Context) -> Directive:
        assert await ctx.store.get("item", Item) == Item("a", ("x", "y"))
        assert await ctx.store.get("nothing", default=7) is None
        return ctx.next.complete([await ctx.store.get("item"), await ctx.store.get("user.name", str)])

    outcome, _ = await run(make_rig, start, then)
    assert outcome.unwrap() == [{"sku": "a", "tags": ["x", "y"]}, "Cem"]


async def test_a_step_reads_what_it_has_put_and_later_changes_do_not_count(make_rig):
    async def start(ctx: Context) -> Directive:
        values = [1]
        ctx.store.put("values", values)
        values.append(2)
        read = await ctx.store.get("values")
        read.append(3)
        return ctx.next.complete([await ctx.store.get("values"), await ctx.store.get("no", str, "default")])

    outcome, _ = await run(make_rig, start)
    assert outcome.unwrap() == [[1], "default"]


async def test_a_value_of_another_type_says_so(make_rig):
    async def start(ctx: Context) -> Directive:
        ctx.store.put("qty", "three")
        await ctx.store.get("qty", int)
        raise AssertionError

    outcome, _ = await run(make_rig, start)
    assert (outcome.error.type, outcome.error.message) == (
        "DecodeError",
        "store['qty']: Expected `int`, got `str`",
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("k", {"a": object()}, "store['k']['a'] cannot be encoded"),
        ("k", datetime(2026, 1, 1), "store['k'] is a datetime without a time zone"),  # noqa: DTZ001
        ("", 1, "the store's key is empty"),
        ("a b", 1, "the store's key 'a b' has ' ' at position 1"),
        ("a..b", 1, "the store's key is empty"),
        (7, 1, "the store's key must be a string"),
    ],
)
async def test_what_cannot_be_stored_fails_where_it_is_put(make_rig, key, value, message):
    async def start(ctx: Context) -> Directive:
        ctx.store.put(key, value)
        raise AssertionError

    outcome, _ = await run(make_rig, start)
    assert outcome.error.type == "InvalidInputError"
    assert message in outcome.error.message
    assert "ctx.store.put(key, value)" in outcome.error.stack_trace


async def test_what_a_failed_step_has_put_is_dropped(make_rig):
    wf = Workflow(workflow_type="W")

    @wf.start()
    async def start(ctx: Context) -> Directive:
        ctx.store.put("k", 1)
        return ctx.next.wait()

    @wf.event()
    async def fail(ctx: Context) -> Directive:
        ctx.store.put("k", 2)
        raise ValueError

    @wf.query()  # keeps the store after the end
    async def ask(ctx: Context) -> int: ...

    rig = make_rig(wf)
    ref = rig.start("W")
    rig.send("fail")
    await rig.outcome(ref)
    assert rig.engine._runs.latest("w").store == {"k": b"\x01"}


async def test_recorded_values(make_rig):
    async def start(ctx: Context) -> Directive:
        now, number, unique = await ctx.now(), await ctx.random(), await ctx.uuid4()
        await ctx.sleep(timedelta(seconds=2))
        await ctx.sleep(0.5)
        await ctx.sleep(0)
        assert isinstance(unique, UUID)
        return ctx.next.complete([now, number, str(unique), await ctx.now() - now])

    outcome, history = await run(make_rig, start, seconds=10)
    now, number, unique, slept = outcome.unwrap()
    assert now == datetime(2026, 1, 1, tzinfo=UTC)
    assert 0 <= number < 1
    assert slept == "PT2.5S"
    recorded = [(event.kind, event.data) for event in history if event.kind.endswith("recorded")]
    assert recorded[:3] == [
        ("timestamp.recorded", {"value": now}),
        ("random.recorded", {"value": number}),
        ("uuid.recorded", {"value": unique}),
    ]
    assert recorded[3:6] == [
        ("sleep.recorded", {"duration_ms": 2000}),
        ("sleep.recorded", {"duration_ms": 500}),
        ("sleep.recorded", {"duration_ms": 0}),
    ]
    operations = [event.operation_id.partition(":")[0] for event in history if event.operation_id]
    assert operations == ["now", "random", "uuid4", "sleep", "sleep", "sleep", "now"]
    assert len({event.operation_id for event in history if event.operation_id}) == 7


@pytest.mark.parametrize("duration", [-1, "1", None, float("nan"), True])
async def test_a_sleep_that_is_none(make_rig, duration):
    async def start(ctx: Context) -> Directive:
        await ctx.sleep(duration)
        raise AssertionError

    outcome, _ = await run(make_rig, start)
    assert outcome.error.type == "InvalidInputError"


async def test_sleeps_side_by_side(make_rig):
    async def start(ctx: Context) -> Directive:
        order = []

        async def nap(seconds: float) -> None:
            await ctx.sleep(seconds)
            order.append(seconds)

        await asyncio.gather(nap(3), nap(1), nap(2))
        return ctx.next.complete(order)

    outcome, _ = await run(make_rig, start, seconds=3)
    assert outcome.unwrap() == [1, 2, 3]


async def test_a_cancelled_sleep_leaves_no_timer(make_rig):
    wf = Workflow(workflow_type="W")

    @wf.start()
    async def start(ctx: Context) -> Directive:
        nap = asyncio.create_task(ctx.sleep(3000))
        await asyncio.sleep(0)
        nap.cancel()
        await asyncio.gather(nap, return_exceptions=True)
        return ctx.next.complete("up")

    rig = make_rig(wf)
    assert (await rig.result("W")).result == "up"
    assert not any(rig.held().values())


async def test_the_context_ends_with_its_step(make_rig):
    kept: list[Context] = []

    async def start(ctx: Context) -> Directive:
        kept.append(ctx)
        return ctx.next.complete()

    await run(make_rig, start)
    ctx = kept[0]
    message = "step 'start' of workflow 'w' has ended"
    with pytest.raises(StepEndedError, match=message):
        ctx.store.put("k", 1)
    for use in (ctx.store.get("k"), ctx.now(), ctx.random(), ctx.uuid4(), ctx.sleep(1)):
        with pytest.raises(StepEndedError, match=message):
            await use
    assert ctx.run.status is RunStatus.COMPLETED


async def test_a_task_that_outlives_its_step_gets_the_error(make_rig):
    left: list[asyncio.Task[Any]] = []

    async def start(ctx: Context) -> Directive:
        left.append(asyncio.create_task(ctx.sleep(1)))
        await asyncio.sleep(0)
        return ctx.next.complete()

    wf = Workflow(workflow_type="W")
    wf.start(start)
    rig = make_rig(wf)
    await rig.result("W")
    await rig.advance(2)
    assert isinstance(left[0].exception(), StepEndedError)
    assert rig.held()["sleeping"] == 0


async def test_the_run_as_its_handler_sees_it(make_rig):
    async def start(ctx: Context, value: Any = None) -> Directive:
        return ctx.next.complete([ctx.run.wf_id, ctx.run.wf_type, ctx.run.status, ctx.run.started_at is not None])

    outcome, _ = await run(make_rig, start)
    assert outcome.unwrap() == ["w", "W", "running", True]


async def test_the_logger_names_the_run_and_prints_nothing_by_itself(make_rig, caplog, capsys):
    async def start(ctx: Context) -> Directive:
        ctx.logger.warning("charged %s", 7, extra={"amount": 7})
        return ctx.next.complete(ctx.run.id)

    with caplog.at_level(logging.INFO):
        outcome, _ = await run(make_rig, start)
    record = caplog.records[0]
    assert (record.name, record.getMessage()) == ("grctl.workflow", "charged 7")
    assert (record.wf_id, record.run_id, record.wf_type, record.step_name, record.amount) == (
        "w",
        outcome.unwrap(),
        "W",
        "start",
        7,
    )
    assert capsys.readouterr().err == ""
    assert logging.getLogger("grctl.workflow").handlers


async def test_no_span_of_the_caller_leaks_into_a_step(make_rig):
    import contextvars

    span: contextvars.ContextVar[str] = contextvars.ContextVar("engine_span", default="none")

    async def start(ctx: Context) -> Directive:
        await ctx.sleep(1)
        return ctx.next.complete(span.get())

    span.set("the caller's")
    outcome, _ = await run(make_rig, start, seconds=1)
    assert outcome.unwrap() == "none"
