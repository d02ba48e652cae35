from __future__ import annotations

import asyncio
import dataclasses
import gc
from datetime import timedelta
from typing import Any

import pytest

import grctl
from grctl_core.codec import decode, encode
from grctl_core.commands import ErrorCode, QueryCommand
from grctl_core.errors import ConnectionClosedError, UnsupportedOperationError
from grctl_core.run import RunRef
from grctl_engine import Context, Directive, EngineLimits, ManualClock, Workflow, task
from grctl_engine.limits import LimitCode, QueryCode

from .flows import Gate
from .rig import Rig, nothing

wf = Workflow(workflow_type="Order")


@wf.start()
async def start(ctx: Context, order_id: str = "7") -> Directive:
    ctx.store.put("order_id", order_id)
    return ctx.next.wait()


@wf.event()
async def pay(ctx: Context, amount: int) -> Directive:
    ctx.store.put("paid", amount)
    if amount == 0:
        await ctx.sleep(60)
    return ctx.next.complete(amount) if amount > 10 else ctx.next.wait()


@wf.query()
async def paid(ctx: Context) -> int | None:
    return await ctx.store.get("paid", int)


@wf.query(name="describe")
async def describe_order(ctx: Context, prefix: str = "", times: int = 1) -> dict[str, Any]:
    ctx.logger.info("asked")
    return {"text": prefix * times + await ctx.store.get("order_id", str), "status": ctx.run.status}


@dataclasses.dataclass
class Filter:
    sku: str
    most: int = 5


@wf.query()
async def typed(ctx: Context, filter: Filter) -> Filter:
    assert isinstance(filter, Filter)
    return Filter(filter.sku.upper(), filter.most + 1)


@wf.query()
async def fails(ctx: Context) -> None:
    raise KeyError("qty")


@wf.query()
async def cancels(ctx: Context) -> None:
    raise asyncio.CancelledError


@wf.query()
async def unsendable(ctx: Context) -> Any:
    return {"a": object()}


@wf.query()
async def slow(ctx: Context) -> str:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("slow")
    return "never"


@wf.query()
async def stubborn(ctx: Context) -> str:
    while True:
        try:
            await release.wait()
            return "at last"
        except asyncio.CancelledError:
            ended.append("swallowed")


@task
async def a_task() -> None:
    pass


FORBIDDEN = {
    "put": lambda ctx: ctx.store.put("x", 1),
    "next": lambda ctx: ctx.next.wait(),
    "now": lambda ctx: ctx.now(),
    "random": lambda ctx: ctx.random(),
    "uuid4": lambda ctx: ctx.uuid4(),
    "sleep": lambda ctx: ctx.sleep(1),
    "task": lambda _: a_task(),
    "start_child": lambda ctx: ctx.start_child("Order", "c"),
    "run_child": lambda ctx: ctx.run_child("Order", "c"),
    "send_to_parent": lambda ctx: ctx.send_to_parent("x"),
}


@wf.query()
async def tries(ctx: Context, what: str) -> None:
    returned = FORBIDDEN[what](ctx)
    if returned is not None:
        await returned


ended: list[str] = []
release = asyncio.Event()


@pytest.fixture(autouse=True)
def fresh():
    global release
    ended.clear()
    release = asyncio.Event()


async def ask(rig: Rig, ref: RunRef, name: str, **arguments: Any):
    encoded = encode("arguments", arguments) if arguments else None
    return await rig.engine.query(QueryCommand(wf_id=ref.wf_id, run_id=ref.run_id, query_name=name, arguments=encoded))


async def answer(rig: Rig, ref: RunRef, name: str, **arguments: Any) -> Any:
    reply = await ask(rig, ref, name, **arguments)
    assert reply.success, reply.error
    return None if reply.payload is None else decode(reply.payload)


async def test_while_it_waits_while_it_runs_and_after_its_end(make_rig):
    rig = make_rig(wf)
    ref = rig.start("Order", {"order_id": "abc"})
    assert await answer(rig, ref, "paid") is None
    await rig.settle()
    assert await answer(rig, ref, "describe", prefix="#", times=2) == {"text": "##abc", "status": "running"}
    rig.send("pay", {"amount": 3})
    await rig.settle()
    assert await answer(rig, ref, "paid") == 3
    rig.send("pay", {"amount": 0})
    await rig.settle()
    assert await answer(rig, ref, "paid") == 3  # what a step puts counts when the step has completed
    await rig.advance(60)
    assert await answer(rig, ref, "paid") == 0
    rig.send("pay", {"amount": 11})
    await rig.settle()
    before = await rig.history(ref)
    assert await answer(rig, ref, "paid") == 11
    assert await answer(rig, ref, "describe") == {"text": "abc", "status": "completed"}
    assert await rig.history(ref) == before


async def test_a_query_is_of_its_run_and_without_run_id_of_the_latest(make_rig):
    rig = make_rig(wf)
    first = rig.start("Order", {"order_id": "first"})
    await rig.settle()
    rig.send("pay", {"amount": 20})
    await rig.settle()
    second = rig.start("Order", {"order_id": "second"})
    await rig.settle()
    assert (await answer(rig, first, "describe"))["text"] == "first"
    assert (await answer(rig, second, "describe"))["text"] == "second"
    assert (await answer(rig, RunRef("w", ""), "describe"))["text"] == "second"
    for ref in (RunRef("w", "other"), RunRef("nobody", "")):
        reply = await ask(rig, ref, "paid")
        assert reply.error.code == ErrorCode.NOT_FOUND


async def test_arguments_are_bound_as_those_of_any_handler(make_rig):
    rig = make_rig(wf)
    ref = rig.start("Order")
    assert await answer(rig, ref, "typed", filter={"sku": "a"}) == {"sku": "A", "most": 6}
    reply = await ask(rig, ref, "typed", filter={"sku": 5})
    assert reply.error.code == QueryCode.FAILED
    assert "query 'typed' of workflow 'Order': 'filter' does not fit Filter" in reply.error.message
    reply = await ask(rig, ref, "paid", nope=1)
    assert "the arguments has nope" in reply.error.message
    reply = await ask(rig, ref, "typed")
    assert "needs 'filter' (Filter); the query has no arguments" in reply.error.message


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("nope", QueryCode.UNKNOWN, "workflow type 'Order' answers no query 'nope': it answers 'cancels', 'describe'"),
        ("pay", QueryCode.UNKNOWN, "answers no query 'pay'"),
        ("fails", QueryCode.FAILED, "query 'fails' failed: KeyError: 'qty'"),
        ("cancels", QueryCode.FAILED, "query 'cancels' failed: CancelledError"),
        ("unsendable", QueryCode.FAILED, "the answer['a'] cannot be encoded (object)"),
    ],
)
async def test_what_is_refused(name, code, message, make_rig):
    rig = make_rig(wf)
    ref = rig.start("Order")
    await rig.settle()
    before = await rig.history(ref)
    reply = await ask(rig, ref, name)
    assert reply.error.code == code
    assert message in reply.error.message
    assert await rig.history(ref) == before
    assert (await answer(rig, ref, "describe"))["text"] == "7"


async def test_a_type_without_queries(make_rig):
    plain = Workflow(workflow_type="Plain")

    @plain.start()
    async def start(ctx: Context) -> Directive:
        return ctx.next.wait()

    rig = make_rig(plain)
    reply = await ask(rig, rig.start("Plain"), "paid")
    assert "answers no query 'paid': it answers none at all" in reply.error.message


@pytest.mark.parametrize("what", FORBIDDEN)
@pytest.mark.parametrize("when", ["waiting", "ended"])
async def test_a_query_can_only_read(what, when, make_rig):
    rig = make_rig(wf)
    ref = rig.start("Order")
    await rig.settle()
    if when == "ended":
        rig.terminate()
    before = await rig.history(ref), dict(rig.engine._runs.latest("w").store)
    reply = await ask(rig, ref, "tries", what=what)
    assert reply.error.code == QueryCode.FAILED
    assert "ReadOnlyError" in reply.error.message
    assert "query 'tries' of workflow type 'Order' can only read" in reply.error.message
    assert (await rig.history(ref), dict(rig.engine._runs.latest("w").store)) == before
    assert len(rig.engine._runs.all()) == 1


async def test_what_a_query_gets_is_its_own(make_rig):
    mutates = Workflow(workflow_type="Mutates")

    @mutates.start()
    async def start(ctx: Context) -> Directive:
        ctx.store.put("list", [1])
        return ctx.next.wait()

    @mutates.query()
    async def spoil(ctx: Context) -> list[int]:
        got = await ctx.store.get("list", list[int])
        got.append(2)
        return got

    rig = make_rig(mutates)
    ref = rig.start("Mutates")
    await rig.settle()
    assert [await answer(rig, ref, "spoil") for _ in range(2)] == [[1, 2], [1, 2]]


async def test_a_slow_one_is_given_up_and_harms_nobody(make_rig):
    rig = make_rig(wf, limits=EngineLimits(query_timeout=timedelta(milliseconds=50), running_steps=1))
    ref = rig.start("Order")
    await rig.settle()
    asked = asyncio.create_task(ask(rig, ref, "slow"))
    await rig.settle()
    rig.send("pay", {"amount": 4})
    await rig.settle()
    assert await answer(rig, ref, "paid") == 4
    reply = await asked
    assert reply.error.code == QueryCode.TIMED_OUT
    assert "query 'slow' was given up after 0:00:00.05" in reply.error.message
    await rig.settle()
    assert ended == ["slow"]
    assert rig.engine._host.queries.running == 0


async def test_one_that_will_not_be_cancelled_holds_nobody_up_but_counts(make_rig):
    rig = make_rig(wf, limits=EngineLimits(query_timeout=timedelta(milliseconds=50), running_queries=2))
    ref = rig.start("Order")
    asked = [asyncio.create_task(ask(rig, ref, "stubborn")) for _ in range(2)]
    await rig.settle()
    reply = await ask(rig, ref, "paid")
    assert reply.error.code == LimitCode.QUERIES
    assert "answers 2 queries already" in reply.error.message
    assert [(await one).error.code for one in asked] == [QueryCode.TIMED_OUT] * 2
    assert rig.engine._host.queries.running == 2
    release.set()
    await rig.settle()
    assert rig.engine._host.queries.running == 0
    assert ended == ["swallowed"] * 2
    assert await answer(rig, ref, "paid") is None


async def test_cancelling_the_caller_cancels_the_handler(make_rig):
    rig = make_rig(wf)
    ref = rig.start("Order")
    asked = asyncio.create_task(ask(rig, ref, "slow"))
    await rig.settle()
    asked.cancel()
    await asyncio.wait([asked])
    assert asked.cancelled()
    await rig.settle()
    assert ended == ["slow"]
    rig.terminate()
    await rig.settle()
    assert nothing({**rig.held(), "stores": 0})


async def test_a_thousand_at_once(make_rig):
    rig = make_rig(wf)
    ref = rig.start("Order")
    await rig.settle()
    rig.send("pay", {"amount": 4})
    await rig.settle()
    assert await asyncio.gather(*(answer(rig, ref, "paid") for _ in range(1000))) == [4] * 1000


async def test_they_run_in_no_steps_slot(make_rig):
    rig = make_rig(wf, limits=EngineLimits(running_steps=1))
    ref = rig.start("Order")
    await rig.settle()
    rig.send("pay", {"amount": 0})
    await rig.settle()
    assert rig.engine._host.executor.running == 1
    assert (await answer(rig, ref, "describe"))["text"] == "7"


@pytest.mark.parametrize(("name", "end"), [("slow", "slow"), ("stubborn", "swallowed")])
async def test_close_cancels_them_and_waits_for_none(name, end, make_rig):
    rig = make_rig(wf)
    ref = rig.start("Order")
    asked = asyncio.create_task(ask(rig, ref, name))
    await rig.settle()
    closing = asyncio.create_task(rig.engine.close(grace=0))
    for _ in range(100):  # turns, and no time
        await asyncio.sleep(0)
    assert closing.done()
    with pytest.raises(ConnectionClosedError, match="engine was closed"):
        await asked
    assert ended[:1] == [end]
    with pytest.raises(ConnectionClosedError):
        await ask(rig, ref, "paid")
    release.set()
    await asyncio.sleep(0)


async def test_who_waits_knows_of_the_close_before_steps_have_ended(make_rig):
    gate = Gate()
    rig = make_rig(wf, gate.workflow)
    rig.start("Gated", "done", wf_id="g")
    asked = asyncio.create_task(ask(rig, rig.start("Order"), "stubborn"))
    await rig.settle()
    closing = asyncio.create_task(rig.engine.close(grace=60))
    with pytest.raises(ConnectionClosedError):
        await asked
    assert not closing.done()
    gate.opened.set()
    release.set()
    await closing


@pytest.mark.parametrize("clock", [None, ManualClock()])
async def test_a_client_with_defaults_learns_that_its_query_was_given_up(clock):
    assert EngineLimits().query_timeout < timedelta(seconds=5)  # the patience of a client
    limits = EngineLimits(query_timeout=timedelta(milliseconds=20))
    async with await grctl.connect("memory://", workflows=[wf], clock=clock, limits=limits) as connection:
        handle = await grctl.Client(connection=connection).start_workflow("Order", "w")
        with pytest.raises(grctl.RefusedError, match="query 'slow' was given up after"):
            await handle.query("slow")


async def test_execute_leaves_queries_to_query(make_rig):
    rig = make_rig(wf)
    with pytest.raises(UnsupportedOperationError, match="QueryCommand"):
        rig.engine.execute(QueryCommand(wf_id="w", run_id="r", query_name="paid"))


async def test_a_query_after_its_end_cannot_be_used(make_rig):
    kept = []
    keeps = Workflow(workflow_type="Keeps")

    @keeps.start()
    async def start(ctx: Context) -> Directive:
        return ctx.next.wait()

    @keeps.query()
    async def keep(ctx: Context) -> None:
        kept.append(ctx)

    rig = make_rig(keeps)
    await answer(rig, rig.start("Keeps"), "keep")
    with pytest.raises(Exception, match=r"ctx\.store\.get\(\): step 'keep' of workflow 'w' has ended"):
        await kept[0].store.get("x")


async def test_a_query_keeps_no_run_alive(make_rig):
    rig = make_rig(wf, limits=EngineLimits(finished_runs=1))
    ref = rig.start("Order")
    await rig.settle()
    assert (await answer(rig, ref, "describe"))["text"] == "7"
    gc.collect()
    assert rig.clock.pending == 1  # the wait's own
