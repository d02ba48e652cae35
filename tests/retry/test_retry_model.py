"""grctl_retry against the model server of the core's tests: whatever meets the messages, the verdict is true."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from core.scripted import OTHER_RUN, ScriptedConnection, lost, refused, run_info
from core.test_reconcile_model import NOT_DONE, ModelServer, drawing, verdict_of
from hypothesis import given
from hypothesis import strategies as st

from grctl_core.calls import DescribeCall
from grctl_core.commands import Reply
from grctl_core.errors import DeliveryUnknownError, NotDeliveredError, NotSentError, WorkflowAlreadyRunningError
from grctl_core.protocols import OnConflict
from grctl_retry import Retry

from .rig import retrying_client

MODEL_POLICIES = st.builds(Retry, attempts=st.integers(1, 6))
BUDGETS = st.sampled_from([None, 0, 1, 3])


@given(st.data(), MODEL_POLICIES, BUDGETS, st.booleans(), st.sampled_from(["raise", "attach", "terminate"]))
def test_at_most_one_run_of_a_start(
    data: st.DataObject, policy: Retry, budget: int | None, taken: bool, on_conflict: OnConflict
) -> None:
    server = ModelServer(drawing(data))
    if taken:
        server.record(run_info(OTHER_RUN))
    client = retrying_client(server, policy, budget=budget)

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
        assert verdict.run is not None
        assert (verdict.operation, verdict.run.run_id) == ("start", run_id)
    else:
        assert isinstance(verdict, NOT_DONE)
        assert server.started == []
        assert not any(held.command.kind == "run.start" for held in server.held_back)
        if isinstance(verdict, WorkflowAlreadyRunningError):
            assert verdict.run_id == OTHER_RUN
    server.arrive(lambda held: not held.late)
    assert len(server.started) <= 1
    assert not server.overwritten


@given(st.data(), MODEL_POLICIES, BUDGETS, st.booleans())
def test_an_event_arrives_once_unless_it_may_arrive_twice(
    data: st.DataObject, policy: Retry, budget: int | None, idempotent: bool
) -> None:
    server = ModelServer(drawing(data, "twice"))

    async def send() -> None:
        server.record(run_info("R1"))
        handle = _handle(server, policy, budget)
        await handle.send("approve", idempotent=idempotent)

    verdict = verdict_of(send)
    if verdict is None:
        assert server.delivered
    elif not isinstance(verdict, DeliveryUnknownError):
        assert isinstance(verdict, NOT_DONE)
        assert server.delivered == []
        assert server.held_back == []
    server.arrive(lambda _: True)
    if not idempotent:
        assert len(server.delivered) <= 1
        assert len({command.id for command in server.sent("run.event")}) <= 1


@given(st.data(), MODEL_POLICIES, BUDGETS, st.sampled_from(["cancel", "terminate"]))
def test_how_a_run_ended_is_told_as_it_is(
    data: st.DataObject, policy: Retry, budget: int | None, operation: str
) -> None:
    server = ModelServer(drawing(data, "twice"))
    server.ways_to_end = ["completed", "failed", "timed_out", "cancelled", "terminated"]

    async def end() -> None:
        server.record(run_info("R1"))
        await getattr(_handle(server, policy, budget), operation)()

    verdict = verdict_of(end)
    assert len(server.ended_by_command) <= 1
    if verdict is None:
        assert server.records["R1"].status in {"cancelled", "terminated"}
    elif not isinstance(verdict, DeliveryUnknownError):
        assert isinstance(verdict, NOT_DONE)
        server.arrive(lambda _: True)
        assert server.ended_by_command == []


def _handle(server: ModelServer, policy: Retry, budget: int | None) -> Any:
    """A handle, made before anything can go wrong."""
    client = retrying_client(server, policy, budget=budget)
    call = DescribeCall(run=server.records["R1"].ref, request_timeout=5.0)
    return client._handle(server.records["R1"], Any, call)


FATES = ["reply", "not sent", "not delivered", "lost before", "lost after", "refused"]


class Fated(ModelServer):
    """What meets the n-th message is written down; after the last one all is well."""

    def __init__(self, fates: list[str]) -> None:
        super().__init__(lambda choices: choices[0])
        self.fates = iter(fates)

    async def request(self, command: Any, *, timeout: float) -> Reply:
        names = {
            "reply": "ok",
            "not sent": "not_sent",
            "not delivered": "not_delivered",
            "lost before": "lost",
            "lost after": "done_and_lost",
            "refused": "failed",
        }
        self.commands.append(command)
        fate = names[next(self.fates, "reply")]
        await asyncio.sleep(0)
        return self.answer(fate, command, self.link)


@given(st.lists(st.sampled_from(FATES), max_size=12), st.sampled_from(["start", "cancel", "terminate", "idempotent"]))
def test_with_the_defaults_every_doubt_is_settled(fates: list[str], operation: str) -> None:
    """Once messages get through again, the call has been carried out, once, and says so."""
    server = Fated(["reply", *fates])  # the first is for the handle

    async def call() -> None:
        server.record(run_info("R1"))
        client = retrying_client(server, random=lambda: 0.0)
        handle = await client.get_handle("order-1")
        match operation:
            case "start":
                server.end("R1")
                await client.start_workflow("Order", "order-1")
            case "idempotent":
                await handle.send("approve", idempotent=True)
            case _:
                await getattr(handle, operation)()

    assert verdict_of(call) is None
    effects = {"start": server.started, "idempotent": server.delivered[:1]}.get(operation, server.ended_by_command)
    assert len(effects) == 1
    assert not server.overwritten


@given(st.lists(st.sampled_from(FATES), max_size=12))
def test_a_send_is_repeated_only_where_it_did_not_arrive(fates: list[str]) -> None:
    server = Fated(["reply", *fates])

    async def call() -> None:
        server.record(run_info("R1"))
        handle = await retrying_client(server, random=lambda: 0.0).get_handle("order-1")
        await handle.send("approve")

    verdict = verdict_of(call)
    met = next((fate for fate in fates if fate not in {"not sent", "not delivered"}), "reply")
    if met == "reply":
        assert verdict is None
    else:
        assert isinstance(verdict, DeliveryUnknownError)
    assert len(server.delivered) == (met in {"reply", "lost after"})


DOUBTED = {"start": "run.start", "idempotent": "run.event", "cancel": "run.cancel", "terminate": "run.terminate"}


@pytest.mark.parametrize("operation", DOUBTED)
@pytest.mark.parametrize("later", [NotSentError("later"), NotDeliveredError("later"), refused(4999, message="later")])
async def test_a_doubt_is_not_hidden_by_what_comes_later(operation: str, later: Any) -> None:
    connection = ScriptedConnection()
    connection.record(run_info("R1"))

    def lose(command: Any) -> Exception:
        for kind in ("run.describe", *DOUBTED.values()):
            connection.script(kind, *[later] * 30)
        return lost()

    client = retrying_client(connection, Retry(attempts=5))
    handle = await client.get_handle("order-1")
    connection.script(DOUBTED[operation], lose)
    with pytest.raises(DeliveryUnknownError, match="later") as caught:
        match operation:
            case "start":
                await client.start_workflow("Order", "order-2")
            case "idempotent":
                await handle.send("approve", idempotent=True)
            case _:
                await getattr(handle, operation)()
    assert caught.value.__notes__[0].endswith("attempts=5")
    assert caught.value.operation == operation.replace("idempotent", "send")
