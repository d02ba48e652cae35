"""The engine against an oracle (oracle.py): whatever is done to runs, and in whatever order, happens as predicted.

500 examples by default; ``GRCTL_MODEL_EXAMPLES=50000 pytest tests/engine/test_model.py`` for more.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from grctl_core.errors import GrctlError
from grctl_core.history import TERMINAL_KINDS
from grctl_core.outcome import ErrorDetails
from grctl_engine import ChildOutcome, Context, Directive, RetryPolicy, Workflow, task

from .oracle import STEP_TIMEOUTS, ModelRun, Oracle
from .rig import Rig

EXAMPLES = int(os.environ.get("GRCTL_MODEL_EXAMPLES", "500"))

SECOND = 1_000_000
TURNS = 12
"""Turns of the event loop after which nothing of what a rule does is still under way."""

DETAILS = {
    "event.received": ("event_name", "payload"),
    "step.started": ("step_name",),
    "step.completed": ("step_name",),
    "step.failed": ("step_name",),
    "step.timeout": ("step_name",),
    "wait.started": ("timeout_step_name",),
    "wait.timed_out": ("timeout_step_name",),
    "task.attempt_failed": ("attempt",),
    "child.started": ("wf_id",),
}

loop = asyncio.new_event_loop()

indices = st.integers(0, 7)
wf_ids = st.sampled_from(["a", "b"])
run_timeouts = st.sampled_from([None, None, None, 37_003_000, 95_003_000])
wait_timeouts = st.sampled_from([None, 20_020_000, 45_020_000])
events = st.sampled_from(["go", "go", "go", "unknown"])
outcomes = st.lists(st.sampled_from(["ok", "fail", "fail", "hang", "fatal"]), max_size=3)


class FatalError(Exception):
    pass


def seconds(microseconds: int | None) -> timedelta | None:
    return None if microseconds is None else timedelta(microseconds=microseconds)


def in_loop(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a rule run in the event loop, in one go where it does not await."""

    @functools.wraps(method)
    def run(self: Any, **arguments: Any) -> None:
        loop.run_until_complete(method(self, **arguments))

    return run


class EngineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.oracle = Oracle()
        self.hands: dict[str, asyncio.Future[Any]] = {}  # by run id: tells the handler what to do
        self.hanging: dict[str, asyncio.Future[None]] = {}
        self.calls: dict[str, list[Any]] = defaultdict(list)
        self.ids: dict[ModelRun, str] = {}
        self.numbers = 0
        self.rig = loop.run_until_complete(self.open())

    async def open(self) -> Rig:
        wf = Workflow(workflow_type="Model")
        timeouts = {name: timedelta(microseconds=timeout) for name, timeout in STEP_TIMEOUTS.items()}

        @wf.start(timeout=timeouts["start"])
        async def start(ctx: Context) -> Directive:
            return await self.handle(ctx, "start", None)

        @wf.event(timeout=timeouts["go"])
        async def go(ctx: Context, n: int) -> Directive:
            return await self.handle(ctx, "go", n)

        @wf.step(timeout=timeouts["later"])
        async def later(ctx: Context) -> Directive:
            return await self.handle(ctx, "later", None)

        @wf.step(timeout=timeouts["child_done"])
        async def child_done(ctx: Context, outcome: ChildOutcome) -> Directive:
            return await self.handle(ctx, "child_done", str(outcome.status))

        return Rig(wf)

    async def handle(self, ctx: Context, step: str, payload: Any) -> Directive:
        run_id = ctx.run.id
        self.calls[run_id].append((step, payload))
        while True:
            self.hands[run_id] = hand = loop.create_future()
            act = await hand
            decision = await act(ctx)
            if decision is not None:
                return decision

    # --- commands

    @rule(wf_id=wf_ids, timeout=run_timeouts)
    @in_loop
    async def start(self, wf_id: str, timeout: int | None) -> None:
        self.try_start(wf_id, timeout)
        await self.settle()

    @rule(wf_id=wf_ids, how=st.sampled_from(["cancel", "terminate", "go", "unknown"]))
    @in_loop
    async def start_and(self, wf_id: str, how: str) -> None:
        """Start, and do something before the first step is taken."""
        run = self.try_start(wf_id, None)
        if run is not None:
            self.do(run, how)
        await self.settle()

    def try_start(self, wf_id: str, timeout: int | None) -> ModelRun | None:
        run = self.oracle.start(wf_id, timeout)
        reply, ref = self.rig.try_start("Model", None, wf_id, timeout=seconds(timeout))
        assert reply.success is (run is not None)
        if run is not None:
            self.ids[run] = ref.run_id
        return run

    @precondition(lambda self: self.oracle.runs)
    @rule(
        index=indices, hows=st.lists(st.sampled_from(["go", "go", "go", "cancel", "unknown"]), min_size=1, max_size=4)
    )
    @in_loop
    async def burst(self, index: int, hows: list[str]) -> None:
        run = self.pick(index)
        for how in hows:
            self.do(run, how)
        await self.settle()

    @precondition(lambda self: self.oracle.runs)
    @rule(index=indices, how=st.sampled_from(["cancel", "terminate"]))
    @in_loop
    async def end(self, index: int, how: str) -> None:
        self.do(self.pick(index), how)
        await self.settle()

    def pick(self, index: int) -> ModelRun:
        """Return the latest run of some id, as commands go to no other."""
        ids = sorted({run.wf_id for run in self.oracle.runs})
        run = self.oracle.latest(ids[index % len(ids)])
        assert run is not None
        return run

    def do(self, run: ModelRun, how: str) -> None:
        self.numbers += 1
        rig, number, wf_id = self.rig, self.numbers, run.wf_id
        match how:
            case "cancel":
                expected = self.oracle.cancel(run)
                reply = rig.cancel("enough", wf_id)
            case "terminate":
                expected = self.oracle.terminate(run)
                reply = rig.terminate("stop", wf_id)
            case _:
                expected = self.oracle.event(run, how, number)
                reply = rig.send(how, {"n": number}, wf_id)
        assert reply.success is expected

    # --- what handlers do

    def tell(self, index: int, act: Any) -> ModelRun | None:
        """Tell a handler that waits for it what to do."""
        idle = [run for run in self.oracle.runs if run.idle]
        if not idle:
            return None
        run = idle[index % len(idle)]
        self.hands[self.ids[run]].set_result(act)
        return run

    @rule(index=indices, decision=st.sampled_from(["complete", "fail", "raise", "step", "step"]))
    @in_loop
    async def decide(self, index: int, decision: str) -> None:
        async def act(ctx: Context) -> Directive:
            match decision:
                case "complete":
                    return ctx.next.complete(None)
                case "fail":
                    return ctx.next.fail(ErrorDetails("E", "m"))
                case "step":
                    return ctx.next.step("later")
            raise ValueError("raised")

        run = self.tell(index, act)
        if run is not None:
            self.oracle.decide(run, decision)
            await self.settle()

    @rule(index=indices, timeout=wait_timeouts, on_timeout=st.sampled_from(["", "later"]))
    @in_loop
    async def wait(self, index: int, timeout: int | None, on_timeout: str) -> None:
        async def act(ctx: Context) -> Directive:
            return ctx.next.wait(timeout=seconds(timeout), on_timeout=on_timeout or None)

        run = self.tell(index, act)
        if run is not None:
            self.oracle.decide(run, "wait", timeout=timeout, on_timeout=on_timeout)
            await self.settle()

    @rule(index=indices, duration=st.sampled_from([3_000_400, 12_000_400, 70_000_400]))
    @in_loop
    async def sleep(self, index: int, duration: int) -> None:
        async def act(ctx: Context) -> None:
            await ctx.sleep(timedelta(microseconds=duration))

        run = self.tell(index, act)
        if run is not None:
            self.oracle.sleep(run, duration)
            await self.settle()

    @rule(index=indices, results=outcomes)
    @in_loop
    async def call_task(self, index: int, results: list[str]) -> None:
        left = list(results)

        @task(retry_policy=RetryPolicy(max_attempts=3, initial_delay_ms=1000, non_retryable_errors=["FatalError"]))
        async def work(run_id: str) -> None:
            match left.pop(0) if left else "ok":
                case "fail":
                    raise ConnectionError("again")
                case "fatal":
                    raise FatalError("never")
                case "hang":
                    self.hanging[run_id] = loop.create_future()
                    await self.hanging[run_id]

        async def act(ctx: Context) -> None:
            with contextlib.suppress(ConnectionError, FatalError):
                await work(ctx.run.id)

        run = self.tell(index, act)
        if run is not None:
            self.oracle.call_task(run, results)
            await self.settle()

    @rule(index=indices)
    @in_loop
    async def release(self, index: int) -> None:
        hanging = [run for run in self.oracle.runs if run.doing and run.doing.what == "task" and run.doing.due is None]
        if hanging:
            run = hanging[index % len(hanging)]
            self.hanging[self.ids[run]].set_result(None)
            self.oracle.release(run)
            await self.settle()

    @rule(
        index=indices,
        wf_id=st.sampled_from(["a", "c", "d", "e"]),
        how=st.sampled_from(["run", "callback", "plain"]),
        timeout=run_timeouts,
    )
    @in_loop
    async def start_child(self, index: int, wf_id: str, how: str, timeout: int | None) -> None:
        async def act(ctx: Context) -> None:
            with contextlib.suppress(GrctlError):
                if how == "run":
                    await ctx.run_child("Model", wf_id, None, seconds(timeout))
                else:
                    callback = "child_done" if how == "callback" else None
                    await ctx.start_child("Model", wf_id, None, seconds(timeout), callback)

        run = self.tell(index, act)
        if run is None:
            return
        child = self.oracle.start_child(run, wf_id, how, timeout)
        await self.settle_without_check()
        if child is not None:
            found = self.rig.engine._runs.latest(wf_id)
            assert found is not None
            self.ids[child] = found.info.id
        self.check()

    @rule(index=indices)
    @in_loop
    async def send_to_parent(self, index: int) -> None:
        self.numbers += 1
        number = self.numbers

        async def act(ctx: Context) -> None:
            with contextlib.suppress(GrctlError):
                await ctx.send_to_parent("go", {"n": number})

        run = self.tell(index, act)
        if run is not None:
            self.oracle.send_to_parent(run, number)
            await self.settle()

    # --- time

    @rule(duration=st.sampled_from([1, 4, 11, 31, 61, 400]))
    @in_loop
    async def advance(self, duration: int) -> None:
        with (
            mock.patch("grctl_engine.clock.QUIET_TURNS_BUSY", TURNS),
            mock.patch("grctl_engine.clock.QUIET_TURNS_IDLE", TURNS),
        ):
            await self.rig.advance(duration)
        self.oracle.advance(duration * SECOND)
        self.check()

    async def settle(self) -> None:
        await self.settle_without_check()
        self.check()

    async def settle_without_check(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self.oracle.flush()

    # --- what must hold

    def check(self) -> None:
        for run in self.oracle.runs:
            actual = self.rig.engine._runs.find(run.wf_id, self.ids[run])
            assert actual is not None
            events = [actual.event(index) for index in range(len(actual.history))]
            self.check_alone(run, events)
            assert [detailed(event) for event in events] == run.history
            assert actual.info.status == run.status
            assert self.calls[self.ids[run]] == run.calls

    def check_alone(self, run: ModelRun, events: list[Any]) -> None:
        """Check what can be seen in the history alone, whatever the oracle says."""
        kinds = [event.kind for event in events]
        ends = [index for index, kind in enumerate(kinds) if kind in TERMINAL_KINDS]
        assert len(ends) <= 1
        assert bool(ends) is not run.active
        if ends:
            assert set(kinds[ends[0] + 1 :]) <= {"task.cancelled"}
        sequence = [event.seq for event in events]
        assert sequence == sorted(set(sequence))
        under_way = None
        for event in events:
            if event.kind == "step.started":
                assert under_way is None
                under_way = event.data["step_name"]
            elif event.kind.startswith("step.") and event.data["step_name"] in STEP_TIMEOUTS:
                assert under_way == event.data["step_name"]
                under_way = None
        if run.active:
            received = kinds.count("event.received")
            by_event = [name for name, _ in self.calls[self.ids[run]] if name in {"go", "child_done"}]
            blocked = run.phase == "blocked"
            assert received == len(by_event) + len(run.inbox) + blocked

    @in_loop
    async def teardown(self) -> None:
        for run in self.rig.engine._runs.all():
            if run.state is not None:
                self.rig.terminate(wf_id=run.info.wf_id)
        await self.settle_without_check()
        assert not self.rig.clock.pending
        assert not self.rig.engine._host.executor.running
        await self.rig.engine.close(grace=0)


def detailed(event: Any) -> Any:
    keys = DETAILS.get(event.kind)
    if keys is None:
        return event.kind
    values = []
    for key in keys:
        value = event.data[key]
        if key == "payload":
            value = value["n"] if "n" in value else value["status"]
        values.append(value)
    return (event.kind, *values)


TestEngineModel = EngineMachine.TestCase
TestEngineModel.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=25,
    deadline=None,
    derandomize="GRCTL_MODEL_EXAMPLES" not in os.environ,  # by hand others are tried each time
    database=None,
    suppress_health_check=list(HealthCheck),
)
