"""A model test: operations and faults at random, on both transports; then what callers were told is held to the truth.

For each start call there is one run at most, and exactly one where the caller was told so. Events arrive in the order
of the calls, once where the caller was told so, never where he was told that they were not sent. Every wait settles, as
the server's record has it. Nothing is left.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from grctl import (
    Client,
    ConnectionClosedError,
    DeliveryUnknownError,
    GrctlError,
    HistoryEvent,
    NotDeliveredError,
    NotSentError,
    RefusedError,
    RunInfo,
    WorkflowHandle,
)
from grctl_core.doubt import DoubtBounds
from grctl_core.operations import Operations

from .form import FULL, in_form
from .places import FAULTS, MemoryPlace, NatsPlace, until_nothing_is_left
from .server_thread import ServerThread
from .site import HANGS_AFTER, order
from .stepping import CancelAt

SOON = 0.15
BOUNDS = DoubtBounds(reached_within=1.0, begun_within=1.0, quarantine=0.05)

NOT_DONE = NotSentError | NotDeliveredError | RefusedError | ConnectionClosedError

faults = st.none() | st.sampled_from(FAULTS)
steps = st.none() | st.integers(1, 12)
calls = st.sampled_from(["note", "note", "ship", "cancel", "terminate", "describe"])


class Told:
    """What became of a call, as its caller knows."""

    def __init__(self, error: BaseException | None) -> None:
        self.is_done = error is None
        self.may_be = isinstance(error, DeliveryUnknownError | asyncio.CancelledError)
        self.error = error
        if error is not None and not self.may_be:
            assert isinstance(error, NOT_DONE), repr(error)


class Held:
    """A handle, and the events that were sent by it: value and what the caller was told."""

    def __init__(self, handle: WorkflowHandle[Any]) -> None:
        self.handle = handle
        self.events: list[tuple[int, Told]] = []


class Model(RuleBasedStateMachine):
    """Drives a client at a place."""

    place: Any

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.starts: list[tuple[Told, RunInfo | None]] = []
        self.held: list[Held] = []
        self.waits: list[tuple[str, asyncio.Task[Any]]] = []
        self.values = 0
        self.place = self.make_place()
        self.run(self._open())

    def make_place(self) -> Any:
        raise NotImplementedError

    def run(self, what: Any) -> Any:
        """Let the loop run until something is done; it fails if that hangs."""

        async def bounded() -> Any:
            async with asyncio.timeout(HANGS_AFTER):
                return await what

        return self.runner.run(bounded())

    async def _open(self) -> None:
        self.before = asyncio.all_tasks() - {asyncio.current_task()}
        await self.place.open()
        self._new_client()

    def _new_client(self) -> None:
        self.client = Client(connection=self.place.connection, request_timeout=SOON, plugins=[])
        self.client._operations = Operations(self.place.connection, self.client.plugins.pipeline, BOUNDS)

    # --- what is done

    @rule(
        slot=st.integers(0, 3),
        on_conflict=st.sampled_from(["raise", "attach", "terminate"]),
        fault=faults,
        step=steps,
    )
    def start(self, slot: int, on_conflict: Any, fault: str | None, step: int | None) -> None:
        self._with(fault, self._start(slot, on_conflict, step))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 50), call=calls, fault=faults, step=steps)
    def call(self, which: int, call: str, fault: str | None, step: int | None) -> None:
        self._with(fault, self._call(which, call, step))

    @precondition(lambda self: self.held)
    @rule(
        which=st.lists(st.tuples(st.integers(0, 50), calls, steps), min_size=2, max_size=6),
        slots=st.lists(st.integers(0, 3), max_size=3),
        fault=faults,
    )
    def several_at_once(self, which: list[Any], slots: list[int], fault: str | None) -> None:
        async def together() -> None:
            await asyncio.gather(
                *(self._call(*each) for each in which), *(self._start(slot, "raise", None) for slot in slots)
            )

        self._with(fault, together())

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 50), how=st.sampled_from(["outcome", "history"]))
    def wait(self, which: int, how: str) -> None:
        async def begin() -> None:
            handle = self.held[which % len(self.held)].handle
            waiting = handle.outcome() if how == "outcome" else _read(handle)
            self.waits.append((handle.run_info.id, asyncio.ensure_future(waiting)))
            await asyncio.sleep(0)

        self.run(begin())

    @precondition(lambda self: self.waits)
    @rule(which=st.integers(0, 50))
    def give_up_waiting(self, which: int) -> None:
        async def cancel() -> None:
            _, task = self.waits.pop(which % len(self.waits))
            task.cancel()
            await asyncio.wait([task])

        self.run(cancel())

    @rule()
    def connect_anew(self) -> None:
        async def anew() -> None:
            await self.place.settle()
            await self.place.connection.close(grace=0)
            self.held_before.extend(self.held)
            self.held = []
            await self.place.connect()
            self._new_client()

        self.run(anew())

    def _with(self, fault: str | None, what: Any) -> None:
        async def act() -> None:
            if fault is not None:
                self.place.arm(fault)
            await what
            await self.place.disarm()

        self.run(act())

    async def _start(self, slot: int, on_conflict: Any, step: int | None) -> None:
        starting = self.client.start_workflow(
            "Order", f"{self.place.prefix}{slot}", {"number": slot}, on_conflict=on_conflict
        )
        told, handle = await _told(starting, step)
        if handle is not None:
            self.held.append(Held(handle))
        self.starts.append((told, None if handle is None else handle.run_info))

    async def _call(self, which: int, call: str, step: int | None) -> None:
        held = self.held[which % len(self.held)]
        handle = held.handle
        match call:
            case "note":
                self.values += 1
                place = len(held.events)
                value = self.values
                held.events.append((value, Told(NotSentError("not yet"))))
                told, _ = await _told(handle.send("note", value), step)
                held.events[place] = (value, told)
            case "ship":
                await _told(handle.send("ship"), step)
            case "cancel" | "terminate":
                await _told(getattr(handle, call)("enough"), step)
            case "describe":
                told, found = await _told(handle.describe(), step)
                assert found is None or found.id == handle.run_info.id

    # --- what must be so in the end

    def teardown(self) -> None:
        try:
            self.run(self._settle())
        finally:
            self.runner.close()

    async def _settle(self) -> None:
        await self.place.settle()
        runs = await self.place.runs()
        for run in runs:
            if not run.is_finished:
                await self.place.end(run.wf_id)
        runs = await self.place.runs()
        histories = {run.id: await self.place.history(run.ref) for run in runs}
        self._check_starts(histories)
        self._check_events(histories)
        await self._check_waits(histories)
        await self.place.close()
        assert not {what: count for what, count in self.place.left().items() if count}
        del self.client
        self.held = self.held_before = []
        await until_nothing_is_left(self.before)

    def _check_starts(self, histories: dict[str, list[HistoryEvent]]) -> None:
        for events in histories.values():
            kinds = Counter(event.kind for event in events)
            assert kinds["run.started"] == 1
            assert sum(event.is_terminal for event in events) == 1
        sure = {run.id for told, run in self.starts if run is not None}
        assert sure <= histories.keys()
        doubted = [told for told, _ in self.starts if told.may_be]
        assert len(histories.keys() - sure) <= len(doubted)
        named = {told.error.run.run_id for told in doubted if getattr(told.error, "run", None) is not None}
        nameless = sum(isinstance(told.error, asyncio.CancelledError) for told in doubted)
        assert len(histories.keys() - sure - named) <= nameless

    def _check_events(self, histories: dict[str, list[HistoryEvent]]) -> None:
        received = {
            run_id: [event.data["payload"] for event in events if event.data.get("event_name") == "note"]
            for run_id, events in histories.items()
        }
        counts = Counter(value for values in received.values() for value in values)
        assert not [value for value, count in counts.items() if count > 1]
        for held in (*self.held, *self.held_before):
            for value, told in held.events:
                assert counts[value] == 1 if told.is_done else told.may_be or not counts[value], (value, told.error)
            sure = [value for value, told in held.events if told.is_done]
            for values in received.values():
                assert [value for value in values if value in sure] == [value for value in sure if value in values]

    async def _check_waits(self, histories: dict[str, list[HistoryEvent]]) -> None:
        for run_id, task in self.waits:
            try:
                got = await task
            except ConnectionClosedError:
                assert self.held_before  # a connection was closed
                continue
            events = histories[run_id]
            if isinstance(got, list):
                assert [event.kind for event in got] == [event.kind for event in events]
                continue
            (end,) = (event for event in events if event.is_terminal)
            assert f"run.{got.status}" == end.kind
            assert got.result == end.data.get("result")

    held_before: list[Held]


async def _told(calling: Any, step: int | None) -> tuple[Told, Any]:
    """Call; cancel the caller at one of its awaits, if one is named. Return what it was told, and what it got."""

    async def call() -> Any:
        return await (calling if step is None else CancelAt(calling, step))

    try:
        return Told(None), await asyncio.ensure_future(call())
    except (GrctlError, asyncio.CancelledError) as error:
        return Told(error), None


async def _read(handle: WorkflowHandle[Any]) -> list[HistoryEvent]:
    return [event async for event in handle.history(follow=True)]


def _run(machine: type[Model], examples: int, count: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=count,
            deadline=None,
            derandomize=not FULL,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


class OnMemory(Model):
    def __init__(self) -> None:
        self.held_before = []
        super().__init__()

    def make_place(self) -> MemoryPlace:
        return MemoryPlace()


def test_on_the_embedded_engine() -> None:
    _run(OnMemory, in_form(40, 400), in_form(25, 50))


@pytest.fixture(scope="module")
def server() -> Any:
    from grctl.testing import DevServer

    with asyncio.Runner() as runner:
        serving = ServerThread(lambda: DevServer([order]))
        runner.run(serving.__aenter__())
        yield serving
        runner.run(serving.__aexit__())


def test_over_nats(server: ServerThread) -> None:
    class OverNats(OnMemory):
        def make_place(self) -> NatsPlace:  # type: ignore[override]
            return NatsPlace(server)

    _run(OverNats, in_form(15, 150), in_form(20, 40))
