"""grctl_core.handle: one run, as its caller sees it."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from grctl_core.client import WorkflowClient
from grctl_core.codec import encode
from grctl_core.commands import Reply
from grctl_core.errors import (
    ConnectionClosedError,
    DecodeError,
    WorkflowCancelledError,
    WorkflowError,
    WorkflowFinishedError,
    WorkflowTerminatedError,
    WorkflowTimeoutError,
)
from grctl_core.handle import WorkflowHandle
from grctl_core.history import HistoryEvent
from grctl_core.pipeline import Pipeline
from grctl_core.protocols import Client, Handle
from grctl_core.run import RunStatus

from .scripted import OK, ScriptedConnection, client_on, handle_to, layer, refused, run_info, settle

RAISES = {
    "failed": WorkflowError,
    "timed_out": WorkflowTimeoutError,
    "cancelled": WorkflowCancelledError,
    "terminated": WorkflowTerminatedError,
    "paused_for_good": WorkflowError,
}


@pytest.fixture
def handle(connection: ScriptedConnection) -> WorkflowHandle[Any]:
    return handle_to(connection)


def test_it_is_what_the_protocols_say() -> None:
    for protocol, implementation in ((Handle, WorkflowHandle), (Client, WorkflowClient)):
        names = {name for name in vars(protocol) if not name.startswith("_")}
        assert names <= set(dir(implementation))


async def test_result_and_outcome_of_a_completed_run(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    waiting = [asyncio.create_task(handle.result()), asyncio.create_task(handle.result(60))]
    await settle()
    connection.end("R1", result={"total": 3})
    assert await asyncio.gather(*waiting) == [{"total": 3}] * 2
    outcome = await handle.outcome(timedelta(seconds=60))
    assert (outcome.status, outcome.completed, outcome.result) == (RunStatus.COMPLETED, True, {"total": 3})
    assert handle.run_info is outcome.run
    assert handle.run_info.is_finished
    assert len(connection.watches) == 1


@pytest.mark.parametrize("status", RAISES)
async def test_any_other_end(connection: ScriptedConnection, handle: WorkflowHandle[Any], status: str) -> None:
    connection.end("R1", status, reason="no stock")
    for _ in range(2):
        with pytest.raises(RAISES[status]) as caught:
            await handle.result()
        assert type(caught.value) is RAISES[status]
    outcome = await handle.outcome()
    assert (outcome.status, outcome.reason, outcome.result) == (status, "no stock", None)


async def test_run_workflow_raises_the_end_and_leaves_the_run_when_it_is_cancelled(
    connection: ScriptedConnection, client: WorkflowClient
) -> None:
    running = [asyncio.create_task(client.run_workflow("Order", f"order-{n}", {"n": n})) for n in range(3)]
    await settle()
    run_ids = [command.run.id for command in connection.sent("run.start")]
    connection.end(run_ids[0], result=5)
    connection.end(run_ids[1], "failed")
    running[2].cancel()
    results = await asyncio.gather(*running, return_exceptions=True)
    assert results[0] == 5
    assert isinstance(results[1], WorkflowError)
    assert isinstance(results[2], asyncio.CancelledError)
    assert connection.kinds == ["start"] * 3
    del results, running  # the cancelled one's traceback holds its frames
    gc.collect()
    await settle()
    assert connection.live_watches == 0


async def test_waiting_too_long_is_a_plain_timeout_and_the_run_goes_on(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    for wait in (handle.result, handle.outcome):
        with pytest.raises(
            TimeoutError, match=r"'order-1' \(run R1\) has not ended within 0.001 s; it goes on"
        ) as caught:
            await wait(0.001)
        assert type(caught.value) is TimeoutError
    assert not handle._end._waiting
    connection.end("R1", result=1)
    assert await handle.result(0.001) == 1


async def test_a_timeout_of_a_layer_keeps_its_own_words(connection: ScriptedConnection) -> None:
    async def around(call: Any, proceed: Any) -> Any:
        raise TimeoutError("the layer's")

    connection.record(run_info("R1"))
    handle = await client_on(connection, Pipeline(operations={"result": [layer(around)]})).get_handle("order-1")
    with pytest.raises(TimeoutError, match="the layer's"):
        await handle.result(60)


async def test_no_event_goes_to_a_run_that_is_known_to_have_ended(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    connection.end("R1", "failed")
    await handle.send("approve")  # not known yet: the server decides
    await handle.outcome()
    with pytest.raises(WorkflowFinishedError, match=r"event 'approve' not sent: run R1 .* has ended \(failed\)"):
        await handle.send("approve")
    assert connection.kinds == ["event"]


async def test_nor_however_the_end_became_known(connection: ScriptedConnection, client: WorkflowClient) -> None:
    """Else the event would go to a newer run: the server gives it to the latest of the id."""
    connection.record(run_info("R1"))
    by_describe, by_cancel, by_terminate, by_send = [await client.get_handle("order-1") for _ in range(4)]
    by_bad_result = await client.get_handle("order-1", result_type=int)
    connection.end("R1", result="seven")
    await by_describe.describe()
    for end in (by_cancel.cancel, by_terminate.terminate):
        with pytest.raises(WorkflowFinishedError):
            await end()
    connection.script("run.event", refused(4003))
    with pytest.raises(WorkflowFinishedError):
        await by_send.send("approve")
    with pytest.raises(DecodeError):
        await by_bad_result.outcome()
    assert by_bad_result.run_info.is_finished

    connection.record(run_info("R2"))
    connection.commands.clear()
    of_ended = await client.get_handle("order-1", run_id="R1")
    for handle in (by_describe, by_cancel, by_terminate, by_send, by_bad_result, of_ended):
        with pytest.raises(WorkflowFinishedError, match=r"event 'approve' not sent: run R1 .* has ended"):
            await handle.send("approve")
    assert connection.kinds == ["describe"]


async def test_a_describe_that_is_answered_late_does_not_revive_the_run(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    before = Reply(success=True, run=connection.records["R1"])
    gate = asyncio.get_running_loop().create_future()
    connection.script("run.describe", gate)
    late = asyncio.create_task(handle.describe())
    await settle()
    connection.end("R1", "failed")
    await handle.describe()
    gate.set_result(before)
    await late
    assert handle.run_info.status == "failed"


async def test_an_event_that_queued_while_the_run_ended_is_not_sent(
    connection: ScriptedConnection, handle: WorkflowHandle[Any]
) -> None:
    gate = asyncio.get_running_loop().create_future()
    connection.script("run.event", gate)
    waiting = asyncio.create_task(handle.outcome())
    first, second = (asyncio.create_task(handle.send("note", n)) for n in range(2))
    await settle()
    connection.end("R1")
    await waiting
    gate.set_result(OK)
    await first
    with pytest.raises(WorkflowFinishedError):
        await second


async def test_what_is_sent(connection: ScriptedConnection, handle: WorkflowHandle[Any]) -> None:
    await handle.send("note", {"text": "é"})
    await handle.send("note")
    first, second = connection.sent("run.event")
    assert (first.wf_id, first.event_name, first.payload) == ("order-1", "note", encode("", {"text": "é"}))
    assert second.payload is None
    assert first.id != second.id
    assert first.run == second.run == handle.run_info.ref  # which run is meant, for those who can tell


async def test_describe_updates_run_info(connection: ScriptedConnection, handle: WorkflowHandle[Any]) -> None:
    begun = connection.record(run_info("R1", started_at=datetime.now(UTC)))
    assert handle.run_info.started_at is None
    assert await handle.describe() is handle.run_info
    assert handle.run_info == begun


async def test_history_passes_through(connection: ScriptedConnection, handle: WorkflowHandle[Any]) -> None:
    connection.events = [
        HistoryEvent(seq=n, kind="run.started", timestamp=datetime.now(UTC), wf_id="order-1", run_id="R1")
        for n in range(3)
    ]
    assert [event async for event in handle.history(follow=True)] == connection.events


async def test_the_end_on_a_closed_connection(connection: ScriptedConnection) -> None:
    """A look that cannot watch says why; an end that is known stays known."""
    unknown, known = handle_to(connection), handle_to(connection)
    connection.end("R1", result=7)
    await known.outcome()
    connection.closed = True
    with pytest.raises(ConnectionClosedError):
        _ = unknown.future
    with pytest.raises(ConnectionClosedError):
        await unknown.result()
    assert known.future.result() == await known.result() == 7


async def test_repr_says_which_run_it_is(connection: ScriptedConnection, handle: WorkflowHandle[Any]) -> None:
    assert repr(handle) == "<WorkflowHandle Order 'order-1' run R1 running>"
    connection.end("R1", "timed_out")
    await handle.outcome()
    assert repr(handle) == "<WorkflowHandle Order 'order-1' run R1 timed_out>"
