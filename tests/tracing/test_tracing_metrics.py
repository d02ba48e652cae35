"""Metrics: what is counted, under which few attributes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from core.scripted import NEVER, ScriptedConnection, lost, refused, settle

from grctl_core.commands import ErrorCode
from grctl_core.errors import ServerError
from grctl_tracing.instruments import CALL_BUCKETS, WAIT_BUCKETS

from .recorder import Recorder

START = {"rpc.system.name": "grctl", "rpc.method": "grctl/start"}


async def test_duration_and_attempts(recorder: Recorder, connection: ScriptedConnection) -> None:
    client = recorder.client(connection)
    await client.start_workflow("Order", "order-1")
    await client.start_workflow("Order", "order-2")
    connection.script("run.start", lost())
    await client.start_workflow("Order", "order-3")
    connection.script("run.start", refused(ErrorCode.BAD_MESSAGE))
    with pytest.raises(ServerError):
        await client.start_workflow("Order", "order-4")
    refusal = {"error.type": "4005", "rpc.response.status_code": "4005"}
    assert recorder.counts("rpc.client.call.duration") == [(START, 3), ({**START, **refusal}, 1)]
    assert recorder.counts("grctl.client.attempts") == [
        ({"grctl.command": "run.start"}, 3),
        ({"grctl.command": "run.start", "error.type": "DeliveryUnknownError"}, 1),
        ({"grctl.command": "run.describe", "error.type": "4002", "rpc.response.status_code": "4002"}, 1),
        ({"grctl.command": "run.start", **refusal}, 1),
    ]
    assert recorder.counts("grctl.client.active_calls") == [(START, 0)]
    (point, *_) = recorder.points("rpc.client.call.duration")
    assert point.explicit_bounds == CALL_BUCKETS
    assert 0 < point.sum < 60  # seconds


async def test_calls_in_flight(recorder: Recorder, connection: ScriptedConnection) -> None:
    connection.script("run.start", NEVER, NEVER)
    client = recorder.client(connection)
    tasks = [asyncio.create_task(client.start_workflow("Order", f"order-{number}")) for number in range(2)]
    await settle()
    assert recorder.counts("grctl.client.active_calls") == [(START, 2)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert recorder.counts("grctl.client.active_calls") == [(START, 0)]
    assert recorder.counts("rpc.client.call.duration") == [({**START, "error.type": "CancelledError"}, 2)]


async def test_exemplars_lead_to_the_spans(recorder: Recorder, connection: ScriptedConnection) -> None:
    handle = await recorder.client(connection).start_workflow("Order", "order-1")
    connection.end(handle.run_info.id)
    await handle.result()
    metrics = recorder.metrics()  # exemplars are handed out once
    for metric, span in (
        ("rpc.client.call.duration", "grctl/start"),
        ("grctl.client.attempts", "run.start"),
        ("grctl.client.wait.duration", "grctl/result"),
    ):
        (point,) = metrics[metric].data.data_points
        assert [exemplar.span_id for exemplar in point.exemplars] == [recorder.span(span).get_span_context().span_id]


async def test_ids_are_on_no_metric(recorder: Recorder, connection: ScriptedConnection) -> None:
    client = recorder.client(connection)
    for number in range(50):
        handle = await client.start_workflow("Order", f"order-{number}")
        await handle.send("note", number)
        await handle.describe()
        connection.end(handle.run_info.id)
        await handle.outcome()
    for name in ("rpc.client.call.duration", "grctl.client.attempts", "grctl.client.active_calls"):
        assert len(recorder.counts(name)) == 3
    for name in ("grctl.client.wait.duration", "grctl.client.active_waits"):
        assert len(recorder.counts(name)) == 1
    allowed = {"rpc.system.name", "rpc.method", "grctl.command", "grctl.workflow.type", "grctl.run.status"}
    names = ("rpc.client.call.duration", "grctl.client.attempts", "grctl.client.active_calls")
    for name in (*names, "grctl.client.wait.duration", "grctl.client.active_waits"):
        for attributes, _ in recorder.counts(name):
            assert set(attributes) <= allowed


async def test_two_plugins_share_the_instruments(
    recorder: Recorder, connection: ScriptedConnection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        second = recorder.another()
    assert caplog.records == []
    await recorder.client(connection).start_workflow("Order", "order-1")
    from grctl_core.client import WorkflowClient

    await WorkflowClient(connection=connection, plugins=[second]).start_workflow("Order", "order-2")
    assert recorder.counts("rpc.client.call.duration") == [(START, 2)]


def test_waits_of_weeks_have_buckets() -> None:
    assert list(WAIT_BUCKETS) == sorted(WAIT_BUCKETS)
    assert WAIT_BUCKETS[-1] == 30 * 24 * 3600


async def test_a_plugin_that_fails_is_counted_as_well(recorder: Recorder, connection: ScriptedConnection) -> None:
    class Failing:
        name = "failing"

        async def grctl_operation(self, call: Any, proceed: Any) -> Any:
            raise LookupError("mine")

    with pytest.raises(LookupError):
        await recorder.client(connection, Failing()).start_workflow("Order", "order-1")
    assert recorder.counts("rpc.client.call.duration") == [({**START, "error.type": "LookupError"}, 1)]
    assert recorder.counts("grctl.client.attempts") == []
