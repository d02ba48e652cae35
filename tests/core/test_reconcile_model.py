"""grctl_core.reconcile against a model server: at most one run comes of a start, and what the caller is told is true.

Each message may be handled and answered, be lost before or after, be held back and arrive later, come twice, or be
answered 5000; the connection may change, and the run may end, at any moment. What is held back on a connection arrives
before the next describe over it; once the connection has changed, within the quarantine or after the caller was told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from grctl_core.commands import ErrorCode, Reply
from grctl_core.errors import (
    DeliveryUnknownError,
    GrctlError,
    NotDeliveredError,
    NotSentError,
    RefusedError,
    WorkflowAlreadyRunningError,
)
from grctl_core.protocols import OnConflict
from grctl_core.run import RunInfo, RunRef, RunStatus

from .scripted import (
    OK,
    OTHER_RUN,
    ScriptedConnection,
    already_running,
    client_on,
    handle_to,
    lost,
    refused,
    retrying,
    run_info,
)

FATES = ["ok", "lost", "done_and_lost", "held_back", "twice", "not_sent", "not_delivered"]
FAILURES = ["failed", "done_and_failed", "recorded_and_failed"]
ENDINGS = {"run.cancel": "cancelled", "run.terminate": "terminated"}


NOT_DONE = NotSentError | NotDeliveredError | RefusedError
"""Verdicts that say: nothing was done, and nothing will be."""


class HeldBack(NamedTuple):
    command: Any
    link: int
    late: bool  # later than the quarantine, if the connection changes


class ModelServer(ScriptedConnection):
    """Handles commands with the server's semantics; what happens to each message is drawn."""

    link: int

    def __init__(self, draw: Callable[[list[Any]], Any]) -> None:
        super().__init__()
        self.draw = draw
        self.held_back: list[HeldBack] = []
        self.newer_runs = False
        self.ways_to_end = ["completed"]  # in which ways runs may end by themselves
        self.ended_by_command: list[str] = []
        self.started: list[str] = []
        self.overwritten = False
        self.delivered: list[str] = []

    def handle(self, command: Any) -> Reply:
        if command.kind == "run.event":
            self.delivered.append(command.id)
            return OK
        if command.kind == "run.describe":
            return self._serve(command)
        active = self.latest.get(command.wf_id)
        if command.kind in ENDINGS:
            if active is None or self.records[active].is_finished:
                return refused(ErrorCode.FINISHED)
            self.end(active, ENDINGS[command.kind])
            self.ended_by_command.append(active)
            return OK
        if active is not None and not self.records[active].is_finished:
            return already_running(active)
        if command.run.id in self.records:
            self.overwritten = True  # protocol, section 8, 1: the id is blocked from now on
        self.started.append(command.run.id)
        self.record(msgspec.structs.replace(command.run, status=RunStatus.RUNNING))
        return OK

    def arrive(self, which: Callable[[HeldBack], bool]) -> None:
        """Some of what was held back arrives."""
        arriving = [*filter(which, self.held_back)]
        self.held_back = [held for held in self.held_back if held not in arriving]
        for held in arriving:
            self.handle(held.command)

    async def request(self, command: Any, *, timeout: float) -> Reply:
        self.commands.append(command)
        link = self.link
        if self.draw(["same", "same", "changed"]) == "changed":
            self.link += 1
        self.perhaps_end()
        if command.kind == "run.describe":
            fate = self.draw(["ok", "ok", "ok", "lost", "not_sent", "failed"])
            self.arrive(lambda held: held.link == self.link)  # a barrier on the same connection
            return self.answer(fate, command, self.link)
        return self.answer(self.draw(FATES + FAILURES), command, link)

    def answer(self, fate: str, command: Any, link: int) -> Reply:
        reply = OK
        match fate:
            case "not_sent":
                raise NotSentError("no connection")
            case "not_delivered":
                raise NotDeliveredError("no server")
            case "held_back":
                self.held_back.append(HeldBack(command, link, late=self.draw([False, True])))
            case "recorded_and_failed" if command.kind == "run.start" and not self.latest.get(command.wf_id):
                self.record(command.run, begun=False)
            case "twice":
                self.handle(command)
                reply = self.handle(command)
            case "ok" | "done_and_lost" | "done_and_failed":
                reply = self.handle(command)
        if "failed" in fate:
            reply = refused(ErrorCode.INTERNAL)
        if fate in {"lost", "done_and_lost", "held_back"}:
            raise lost(link)
        return msgspec.structs.replace(reply, link=link)

    def perhaps_end(self) -> None:
        active = self.latest.get("order-1")
        if active not in self.begun or self.records[active].is_finished:
            return
        if self.draw(["goes on", "goes on", "ends"]) == "ends":
            self.end(active, self.draw(self.ways_to_end))
            if self.newer_runs and self.draw([False, True]):
                self.record(run_info("R2"))

    async def find_run(self, run: RunRef) -> RunInfo | None:
        self.arrive(lambda held: held.link != self.link and not held.late)
        return self.records.get(run.run_id)


def drawing(data: st.DataObject, *without: str) -> Callable[[list[Any]], Any]:
    return lambda choices: data.draw(st.sampled_from([choice for choice in choices if choice not in without]))


def verdict_of(call: Callable[[], Awaitable[Any]]) -> Any:
    """What the call returns, or the library's error that it raises; any other is a failure."""

    async def run() -> Any:
        try:
            return await call()
        except GrctlError as error:
            return error

    return asyncio.run(run())


@given(st.data(), st.integers(0, 5), st.booleans(), st.sampled_from(["raise", "attach", "terminate"]))
def test_at_most_one_run_and_a_true_verdict(
    data: st.DataObject, attempts: int, taken: bool, on_conflict: OnConflict
) -> None:
    server = ModelServer(drawing(data))
    if taken:
        server.record(run_info(OTHER_RUN))
    client = client_on(server, retrying(attempts) if attempts else None)

    async def start() -> str:
        return (await client.start_workflow("Order", "order-1", on_conflict=on_conflict)).run_info.id

    verdict = verdict_of(start)
    (run_id,) = {command.run.id for command in server.sent("run.start")}
    if verdict == OTHER_RUN:
        assert on_conflict == "attach"
        assert server.started == []
    elif isinstance(verdict, str):
        assert server.started == [verdict] == [run_id]
    elif isinstance(verdict, DeliveryUnknownError):
        assert verdict.operation == "start"
        assert verdict.run is not None
        assert verdict.run.run_id == run_id
    else:
        assert isinstance(verdict, NOT_DONE)
        assert server.started == []
        assert not any(held.command.kind == "run.start" for held in server.held_back)
        if isinstance(verdict, WorkflowAlreadyRunningError):
            assert verdict.run_id == OTHER_RUN
    assert len(server.started) <= 1
    assert not server.overwritten


@given(st.data(), st.integers(0, 5), st.booleans())
def test_an_event_arrives_once_unless_it_may_arrive_twice(data: st.DataObject, attempts: int, idempotent: bool) -> None:
    server = ModelServer(drawing(data, "twice"))
    handle = handle_to(server, pipeline=retrying(attempts) if attempts else None)
    verdict = verdict_of(lambda: handle.send("approve", idempotent=idempotent))
    if verdict is None:
        assert server.delivered
    elif not isinstance(verdict, DeliveryUnknownError):
        assert isinstance(verdict, NOT_DONE)
        assert server.delivered == []
        assert server.held_back == []
    server.arrive(lambda _: True)
    if not idempotent:
        assert len(server.delivered) <= 1


@given(st.data(), st.integers(0, 5), st.sampled_from(["cancel", "terminate"]))
def test_how_a_run_ended_is_told_as_it_is(data: st.DataObject, attempts: int, operation: str) -> None:
    server = ModelServer(drawing(data, "twice"))
    server.ways_to_end = ["completed", "failed", "timed_out", "cancelled", "terminated"]
    server.newer_runs = True
    handle = handle_to(server, pipeline=retrying(attempts) if attempts else None)
    verdict = verdict_of(getattr(handle, operation))
    if "R2" in server.ended_by_command:
        return  # R1 ended between the look and the command: there is no way to name a run (protocol, section 2)
    if verdict is None:
        assert server.records["R1"].status in {"cancelled", "terminated"}
    elif not isinstance(verdict, DeliveryUnknownError):
        assert isinstance(verdict, NOT_DONE)
        server.arrive(lambda _: True)
        assert "R1" not in server.ended_by_command
