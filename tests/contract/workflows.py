"""The workflows of the contract suite.

It imports from ``grctl.workflow``, ``grctl.worker`` and ``grctl.models`` alone, so the same file can be hosted by a
worker of a live server. Each workflow is named for what it shows; ``workflows`` at the end has them all.
"""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from grctl.models.common import ErrorDetails
from grctl.models.directive import RetryPolicy
from grctl.models.errors import WorkflowError
from grctl.worker import ChildOutcome, Context, task
from grctl.workflow import Directive, Workflow

LONG = timedelta(minutes=5)
"""A timeout that no case reaches."""

SHORT = timedelta(milliseconds=200)
"""A timeout that a case waits for."""

# --- what goes in and what comes out

returns_its_input = Workflow(workflow_type="ReturnsItsInput")


@returns_its_input.start()
async def start_returns_its_input(ctx: Context, value: Any = "nothing was passed") -> Directive:
    return ctx.next.complete(value)


names_its_inputs_type = Workflow(workflow_type="NamesItsInputsType")


@names_its_inputs_type.start()
async def start_names_its_inputs_type(ctx: Context, value: Any) -> Directive:
    return ctx.next.complete(type(value).__name__)


spreads_a_map = Workflow(workflow_type="SpreadsAMap")


@spreads_a_map.start()
async def start_spreads_a_map(ctx: Context, order_id: str, qty: int = 1) -> Directive:
    return ctx.next.complete({"order_id": order_id, "qty": qty})


@dataclasses.dataclass
class Item:
    sku: str
    qty: int


converts_its_input = Workflow(workflow_type="ConvertsItsInput")


@converts_its_input.start()
async def start_converts_its_input(ctx: Context, item: Item, due: datetime) -> Directive:
    return ctx.next.complete({"sku": item.sku, "qty": item.qty + 1, "year": due.year})


RESULTS: dict[str, Any] = {
    "none": None,
    "int": 7,
    "big": 2**62,
    "bool": True,
    "float": 1e300,
    "str": "héllo ✓",
    "bytes": b"\x00\xff",
    "list": [1, "a", None],
    "map": {"a": {"b": [1.5]}},
    "datetime": datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC),
    "empty_str": "",
    "empty_list": [],
    "empty_map": {},
    "zero": 0,
    "false": False,
    "negative": -(2**63),
    "unsigned": 2**64 - 1,
}

returns_a = Workflow(workflow_type="ReturnsA")


@returns_a.start()
async def start_returns_a(ctx: Context, kind: str) -> Directive:
    return ctx.next.complete(RESULTS[kind])


returns_many_bytes = Workflow(workflow_type="ReturnsManyBytes")


@returns_many_bytes.start()
async def start_returns_many_bytes(ctx: Context, size: int) -> Directive:
    return ctx.next.complete(b"x" * size)


returns_what_cannot_be_sent = Workflow(workflow_type="ReturnsWhatCannotBeSent")


@returns_what_cannot_be_sent.start()
async def start_returns_what_cannot_be_sent(ctx: Context) -> Directive:
    return ctx.next.complete({"receipt": object()})


knows_its_run = Workflow(workflow_type="KnowsItsRun")


@knows_its_run.start()
async def start_knows_its_run(ctx: Context) -> Directive:
    return ctx.next.complete({"id": ctx.run.id, "wf_id": ctx.run.wf_id, "wf_type": ctx.run.wf_type})


# --- steps and the store

three_steps = Workflow(workflow_type="ThreeSteps")


@three_steps.start()
async def start_three_steps(ctx: Context, first: str) -> Directive:
    ctx.store.put("visited", [first])
    return ctx.next.step(second)


@three_steps.step()
async def second(ctx: Context) -> Directive:
    visited = await ctx.store.get("visited", list, [])
    ctx.store.put("visited", [*visited, "second"])
    return ctx.next.step(named_otherwise)


@three_steps.step(name="third")
async def named_otherwise(ctx: Context) -> Directive:
    visited = await ctx.store.get("visited", list, [])
    return ctx.next.complete([*visited, "third"])


# --- events

waits_for_approval = Workflow(workflow_type="WaitsForApproval")


@waits_for_approval.start()
async def start_waits_for_approval(ctx: Context, order_id: str = "1", qty: int = 1) -> Directive:
    ctx.store.put("order_id", order_id)
    ctx.store.put("qty", qty)
    return ctx.next.wait()


@waits_for_approval.event()
async def update_quantity(ctx: Context, qty: int, item_id: str = "sku-1") -> Directive:
    ctx.store.put("qty", qty)
    return ctx.next.wait()


@waits_for_approval.event()
async def approve(ctx: Context) -> Directive:
    return ctx.next.complete({"approved": True, "qty": await ctx.store.get("qty", int)})


@waits_for_approval.event(name="order.rejected")
async def order_rejected(ctx: Context, reason: str = "no reason given") -> Directive:
    return ctx.next.fail(ErrorDetails(type="OrderRejected", message=reason, stack_trace=""))


greet_events = Workflow(workflow_type="GreetEvents")


@greet_events.start()
async def start_greet_events(ctx: Context, name: str) -> Directive:
    ctx.store.put("name", name)
    return ctx.next.wait()


@greet_events.event()
async def greet(ctx: Context) -> Directive:
    ctx.store.put("greeting", f"Hello, {await ctx.store.get('name', str)}!")
    return ctx.next.wait()


@greet_events.event()
async def farewell(ctx: Context) -> Directive:
    greeting = await ctx.store.get("greeting", str)
    return ctx.next.complete(f"{greeting} Goodbye, {await ctx.store.get('name', str)}!")


collects_events = Workflow(workflow_type="CollectsEvents")


@collects_events.start(timeout=LONG)
async def start_collects_events(ctx: Context, busy_for: float = 0.0) -> Directive:
    """Collect what ``add`` brings until ``done``; before that, be in the start step for ``busy_for`` seconds."""
    ctx.store.put("collected", [])
    await asyncio.sleep(busy_for)
    return ctx.next.wait()


@collects_events.event()
async def add(ctx: Context, value: Any = "nothing was passed") -> Directive:
    ctx.store.put("collected", [*await ctx.store.get("collected", list, []), value])
    return ctx.next.wait()


@collects_events.event()
async def done(ctx: Context) -> Directive:
    return ctx.next.complete(await ctx.store.get("collected", list, []))


# --- failures

fails_by_exception = Workflow(workflow_type="FailsByException")


@fails_by_exception.start()
async def start_fails_by_exception(ctx: Context) -> Directive:
    raise ValueError("card declined")


fails_by_decision = Workflow(workflow_type="FailsByDecision")


@fails_by_decision.start()
async def start_fails_by_decision(ctx: Context) -> Directive:
    return ctx.next.fail(ErrorDetails(type="Refused", message="not today", stack_trace="line 1\nline 2"))


fails_in_an_event = Workflow(workflow_type="FailsInAnEvent")


@fails_in_an_event.start()
async def start_fails_in_an_event(ctx: Context) -> Directive:
    return ctx.next.wait()


@fails_in_an_event.event()
async def explode(ctx: Context) -> Directive:
    raise KeyError("missing part")


decides_nothing = Workflow(workflow_type="DecidesNothing")


@decides_nothing.start()
async def start_decides_nothing(ctx: Context) -> Directive:
    return None  # type: ignore[return-value]


# --- long steps and timeouts

is_in_a_step = Workflow(workflow_type="IsInAStep")


@is_in_a_step.start(timeout=LONG)
async def start_is_in_a_step(ctx: Context, seconds: float) -> Directive:
    await asyncio.sleep(seconds)
    return ctx.next.complete("the step ended")


fails_after = Workflow(workflow_type="FailsAfter")


@fails_after.start(timeout=LONG)
async def start_fails_after(ctx: Context, seconds: float) -> Directive:
    await asyncio.sleep(seconds)
    raise ValueError("the step failed")


start_step_times_out = Workflow(workflow_type="StartStepTimesOut")


@start_step_times_out.start(timeout=SHORT)
async def start_start_step_times_out(ctx: Context) -> Directive:
    await asyncio.sleep(60)
    return ctx.next.complete("too late")


later_step_times_out = Workflow(workflow_type="LaterStepTimesOut")


@later_step_times_out.start()
async def start_later_step_times_out(ctx: Context) -> Directive:
    return ctx.next.step(dawdle)


@later_step_times_out.step(timeout=SHORT)
async def dawdle(ctx: Context) -> Directive:
    await asyncio.sleep(60)
    return ctx.next.complete("too late")


event_step_times_out = Workflow(workflow_type="EventStepTimesOut")


@event_step_times_out.start()
async def start_event_step_times_out(ctx: Context) -> Directive:
    return ctx.next.wait()


@event_step_times_out.event(timeout=SHORT)
async def linger(ctx: Context) -> Directive:
    await asyncio.sleep(60)
    return ctx.next.complete("too late")


wait_times_out = Workflow(workflow_type="WaitTimesOut")


@wait_times_out.start()
async def start_wait_times_out(ctx: Context) -> Directive:
    return ctx.next.wait(timeout=SHORT)


wait_falls_back = Workflow(workflow_type="WaitFallsBack")


@wait_falls_back.start()
async def start_wait_falls_back(ctx: Context) -> Directive:
    return ctx.next.wait(timeout=SHORT, on_timeout=fallback)


@wait_falls_back.step()
async def fallback(ctx: Context) -> Directive:
    return ctx.next.complete("fallback")


event_in_time = Workflow(workflow_type="EventInTime")


@event_in_time.start()
async def start_event_in_time(ctx: Context) -> Directive:
    return ctx.next.wait(timeout=timedelta(seconds=1), on_timeout=too_late)


@event_in_time.event(timeout=LONG)
async def proceed(ctx: Context, seconds: float) -> Directive:
    """Be in this step for longer than the wait's timeout, which the event has ended."""
    await asyncio.sleep(seconds)
    return ctx.next.complete("in time")


@event_in_time.step()
async def too_late(ctx: Context) -> Directive:
    return ctx.next.complete("too late")


# --- tasks

calls_tasks = Workflow(workflow_type="CallsTasks")


@task
async def add_up(first: int, second: int = 10) -> int:
    return first + second


@calls_tasks.start()
async def start_calls_tasks(ctx: Context, n: int) -> Directive:
    both = await asyncio.gather(add_up(n), add_up(n, second=1))
    return ctx.next.complete(both)


retries_a_task = Workflow(workflow_type="RetriesATask")


@task(retry_policy=RetryPolicy(max_attempts=3, initial_delay_ms=10, non_retryable_errors=["KeyError"]))
async def succeeds_at(attempt: int, key: str) -> str:
    _attempts[key] = _attempts.get(key, 0) + 1
    if attempt == 0:
        raise KeyError("hopeless")
    if _attempts[key] < attempt:
        raise ConnectionError("try again")
    return f"attempt {_attempts[key]}"


_attempts: dict[str, int] = {}


@retries_a_task.start()
async def start_retries_a_task(ctx: Context, attempt: int) -> Directive:
    return ctx.next.complete(await succeeds_at(attempt, ctx.run.id))


is_in_a_task = Workflow(workflow_type="IsInATask")


@task
async def dawdling(seconds: float) -> None:
    await asyncio.sleep(seconds)


@is_in_a_task.start(timeout=LONG)
async def start_is_in_a_task(ctx: Context, seconds: float) -> Directive:
    await dawdling(seconds)
    return ctx.next.complete("the task ended")


# --- children

runs_a_child = Workflow(workflow_type="RunsAChild")


@runs_a_child.start(timeout=LONG)
async def start_runs_a_child(ctx: Context, child_type: str, child_input: Any = None) -> Directive:
    return ctx.next.complete(await ctx.run_child(child_type, f"{ctx.run.wf_id}-child", child_input))


survives_its_child = Workflow(workflow_type="SurvivesItsChild")


@survives_its_child.start(timeout=LONG)
async def start_survives_its_child(ctx: Context, child_type: str) -> Directive:
    try:
        await ctx.run_child(child_type, f"{ctx.run.wf_id}-child")
    except WorkflowError:
        return ctx.next.complete("survived")
    return ctx.next.complete("nothing to survive")


starts_children = Workflow(workflow_type="StartsChildren")


@starts_children.start()
async def start_starts_children(ctx: Context, children: dict[str, Any]) -> Directive:
    """Start one child of each type, with the given input; then wait for as many outcomes."""
    ctx.store.put("expected", len(children))
    for child_type, child_input in children.items():
        await ctx.start_child(
            child_type, f"{ctx.run.wf_id}-{child_type}", child_input, on_completed_step=child_completed
        )
    return ctx.next.wait() if children else ctx.next.complete([])


@starts_children.step()
async def child_completed(ctx: Context, outcome: ChildOutcome) -> Directive:
    error = outcome.error.type if outcome.error is not None else None
    outcomes = [*await ctx.store.get("outcomes", list, []), [str(outcome.status), outcome.result, error]]
    ctx.store.put("outcomes", outcomes)
    if len(outcomes) < await ctx.store.get("expected", int, 0):
        return ctx.next.wait()
    return ctx.next.complete(sorted(outcomes, key=str))


hears_from_its_child = Workflow(workflow_type="HearsFromItsChild")


@hears_from_its_child.start()
async def start_hears_from_its_child(ctx: Context) -> Directive:
    await ctx.start_child("TellsItsParent", f"{ctx.run.wf_id}-child", {"news": "born"})
    return ctx.next.wait()


@hears_from_its_child.event()
async def news_came(ctx: Context, news: str) -> Directive:
    return ctx.next.complete(news)


tells_its_parent = Workflow(workflow_type="TellsItsParent")


@tells_its_parent.start()
async def start_tells_its_parent(ctx: Context, news: str) -> Directive:
    await ctx.send_to_parent("news_came", {"news": news})
    return ctx.next.complete("told")


# --- queries

answers_queries = Workflow(workflow_type="AnswersQueries")


@answers_queries.start()
async def start_answers_queries(ctx: Context, items: list[str]) -> Directive:
    ctx.store.put("items", items)
    return ctx.next.wait()


@answers_queries.event()
async def add_item(ctx: Context, item: str, seconds: float = 0.0) -> Directive:
    ctx.store.put("items", [*await ctx.store.get("items", list[str], []), item])
    await asyncio.sleep(seconds)
    return ctx.next.wait()


@answers_queries.event()
async def close_order(ctx: Context) -> Directive:
    return ctx.next.complete(len(await ctx.store.get("items", list[str], [])))


@answers_queries.query()
async def items(ctx: Context) -> list[str]:
    return await ctx.store.get("items", list[str], [])


@answers_queries.query(name="count.of")
async def count_of(ctx: Context, item: str, *, more: int = 0) -> int:
    return (await ctx.store.get("items", list[str], [])).count(item) + more


@answers_queries.query()
async def nothing(ctx: Context) -> None:
    return None


@answers_queries.query()
async def breaks(ctx: Context) -> None:
    raise ValueError("cannot say")


@answers_queries.query()
async def cannot_be_sent(ctx: Context) -> Any:
    return object()


@answers_queries.query()
async def writes(ctx: Context) -> None:
    ctx.store.put("items", [])


@answers_queries.query()
async def takes(ctx: Context, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "answered"


workflows = [
    returns_its_input,
    names_its_inputs_type,
    spreads_a_map,
    converts_its_input,
    returns_a,
    returns_many_bytes,
    returns_what_cannot_be_sent,
    knows_its_run,
    three_steps,
    waits_for_approval,
    greet_events,
    collects_events,
    fails_by_exception,
    fails_by_decision,
    fails_in_an_event,
    decides_nothing,
    is_in_a_step,
    fails_after,
    start_step_times_out,
    later_step_times_out,
    event_step_times_out,
    wait_times_out,
    wait_falls_back,
    event_in_time,
    calls_tasks,
    retries_a_task,
    is_in_a_task,
    runs_a_child,
    survives_its_child,
    starts_children,
    hears_from_its_child,
    tells_its_parent,
    answers_queries,
]
