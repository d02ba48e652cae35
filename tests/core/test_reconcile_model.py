"""grctl_core.reconcile against a model server: at most one run comes of a start, and what the caller is told is true.

Each message may be handled and answered, be lost before or after, be held back and arrive later, come twice, or be
answered 5000; the connection may change, and the run may end, at any moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from grctl_core.commands import ErrorCode, Reply
from grctl_core.errors import DeliveryUnknownError, GrctlError, NotDeliveredError, NotSentError, RefusedError
from grctl_core.protocols import OnConflict
from grctl_core.run import RunInfo, RunRef, RunStatus

from .scripted import (
    OK,
    OTHER_RUN,
    ScriptedConnection,
    already_running,
    client_on,
    lost,
    refused,
    retrying,
    run_info,
)

FATES = ["ok", "lost", "done_and_lost", "held_back", "twice", "not_sent", "not_delivered"]
FAILURES = ["failed", "done_and_failed", "recorded_and_failed"]


class ModelServer(ScriptedConnection):
    """Handles commands with the server's semantics; what happens to each message is drawn."""

    def __init__(self, draw: Callable[[list[str]], str]) -> None:
        super().__init__()
        self.draw = draw
        self.held_back: list[tuple[int, Any]] = []  # over which connection, and the command
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
        if command.kind == "run.terminate":
            if active is None or self.records[active].is_finished:
                return refused(ErrorCode.FINISHED)
            self.end(active, "terminated")
            return OK
        if active is not None and not self.records[active].is_finished:
            return already_running(active)
        if command.run.id in self.records:
            self.overwritten = True  # protocol, section 8, 1: the id is blocked from now on
        self.started.append(command.run.id)
        self.record(msgspec.structs.replace(command.run, status=RunStatus.RUNNING))
        return OK

    def arrive(self, link: int) -> None:
        """What was held back on a connection arrives."""
        arriving = [command for held_on, command in self.held_back if held_on == link]
        self.held_back = [(held_on, command) for held_on, command in self.held_back if held_on != link]
        for command in arriving:
            self.handle(command)

    async def request(self, command: Any, *, timeout: float) -> Reply:
        self.commands.append(command)
        link = self.link
        if self.draw(["same", "same", "changed"]) == "changed":
            self.link += 1
        self.perhaps_end()
        if command.kind == "run.describe":
            fate = self.draw(["ok", "ok", "ok", "lost", "not_sent", "failed"])
            self.arrive(self.link)  # a barrier on the same connection
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
                self.held_back.append((link, command))
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
        if active is not None and active in self.begun and self.draw(["goes on", "goes on", "ends"]) == "ends":
            self.end(active)

    async def find_run(self, run: RunRef) -> RunInfo | None:
        for link in range(self.link):  # what an old connection holds back arrives within the quarantine
            self.arrive(link)
        return self.records.get(run.run_id)


def drawing(data: st.DataObject) -> Callable[[list[str]], str]:
    return lambda choices: data.draw(st.sampled_from(choices))


@given(st.data(), st.integers(0, 5), st.booleans(), st.sampled_from(["raise", "attach", "terminate"]))
def test_at_most_one_run_and_a_true_verdict(
    data: st.DataObject, attempts: int, taken: bool, on_conflict: OnConflict
) -> None:
    server = ModelServer(drawing(data))
    if taken:
        server.record(run_info(OTHER_RUN))
    client = client_on(server, retrying(attempts) if attempts else None)

    async def start() -> str | GrctlError:
        try:
            return (await client.start_workflow("Order", "order-1", on_conflict=on_conflict)).run_info.id
        except GrctlError as error:
            return error

    verdict = asyncio.run(start())
    run_ids = {command.run.id for command in server.sent("run.start")}
    assert len(run_ids) <= 1
    if verdict == OTHER_RUN:
        assert on_conflict == "attach"
        assert server.started == []
    elif isinstance(verdict, str):
        assert server.started == [verdict]
    elif not isinstance(verdict, DeliveryUnknownError):
        assert isinstance(verdict, NotSentError | NotDeliveredError | RefusedError)
        assert server.started == []
        assert not any(held_on == server.link for held_on, held in server.held_back if held.kind == "run.start")
    assert len(server.started) <= 1
    assert not server.overwritten


@given(st.data(), st.integers(0, 5), st.booleans())
def test_an_event_arrives_once_unless_it_may_arrive_twice(data: st.DataObject, attempts: int, idempotent: bool) -> None:
    server = ModelServer(lambda choices: data.draw(st.sampled_from([c for c in choices if c != "twice"])))

    async def send() -> GrctlError | None:
        server.record(run_info("R1"))
        handle = await client_on(server).get_handle("order-1", run_id="R1")
        handle._operations = client_on(server, retrying(attempts) if attempts else None)._operations
        try:
            await handle.send("approve", idempotent=idempotent)
        except GrctlError as error:
            return error
        return None

    verdict = asyncio.run(send())
    held_back = len(server.held_back)
    if verdict is None:
        assert server.delivered
    elif not isinstance(verdict, DeliveryUnknownError):
        assert server.delivered == []
        assert held_back == 0
    if not idempotent:
        assert len(server.delivered) + held_back <= 1
