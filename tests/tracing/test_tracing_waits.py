"""Waits for a run's end: no span while they last, one at their end that leads to the start."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from core.scripted import ScriptedConnection, run_info, settle
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import StatusCode

import grctl
from grctl_core.errors import WorkflowError, WorkflowNotFoundError
from grctl_tracing import TracingPlugin
from grctl_tracing.kept import Kept

from .recorder import Recorder

WAIT = "grctl.client.wait.duration"
ORDER = {"grctl.workflow.type": "Order"}


def link(span: Any) -> tuple[int, int]:
    (found,) = span.links
    return found.context.trace_id, found.context.span_id


def own_id(span: Any) -> tuple[int, int]:
    return span.context.trace_id, span.context.span_id


async def test_a_long_wait(recorder: Recorder, connection: ScriptedConnection) -> None:
    client = recorder.client(connection)
    with recorder.tracer.start_as_current_span("request"):
        handle = await client.start_workflow("Order", "order-1")
    waiting = asyncio.create_task(handle.result())
    await settle()
    assert recorder.names == ["run.start", "grctl/start", "request"]
    assert recorder.counts("grctl.client.active_waits") == [(ORDER, 1)]
    connection.end(handle.run_info.id, result="shipped")
    assert await waiting == "shipped"
    result = recorder.span("grctl/result")
    assert link(result) == own_id(recorder.span("grctl/start"))
    assert result.parent is None
    attributes = dict(result.attributes or {})
    assert attributes.pop("grctl.wait.duration") > 0  # type: ignore[operator]
    assert attributes == {
        "grctl.workflow.id": "order-1",
        "grctl.workflow.type": "Order",
        "grctl.run.id": handle.run_info.id,
        "grctl.run.status": "completed",
    }
    assert result.status.status_code is StatusCode.UNSET
    assert recorder.counts("grctl.client.active_waits") == [(ORDER, 0)]
    assert recorder.counts(WAIT) == [({**ORDER, "grctl.run.status": "completed"}, 1)]
    assert recorder.counts("rpc.client.call.duration")[0][0]["rpc.method"] == "grctl/start"
    assert recorder.total("rpc.client.call.duration") == 1  # a wait is no call


async def test_a_handle_that_was_fetched_links_to_the_look(recorder: Recorder, connection: ScriptedConnection) -> None:
    connection.record(run_info("R1"))
    handle = await recorder.client(connection).get_handle("order-1")
    connection.end("R1")
    await handle.outcome()
    assert link(recorder.span("grctl/result")) == own_id(recorder.span("grctl/describe"))


@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        ("failed", "WorkflowError"),
        ("timed_out", "WorkflowTimeoutError"),
        ("cancelled", "WorkflowCancelledError"),
        ("terminated", "WorkflowTerminatedError"),
    ],
)
async def test_runs_that_do_not_complete(
    recorder: Recorder, connection: ScriptedConnection, status: str, error_type: str
) -> None:
    handle = await recorder.client(connection).start_workflow("Order", "order-1")
    connection.end(handle.run_info.id, status)
    await handle.outcome()  # an end as data is an error in the trace nevertheless
    result = recorder.span("grctl/result")
    assert (result.attributes or {})["error.type"] == error_type
    assert (result.status.status_code, result.status.description) == (StatusCode.ERROR, None)
    assert recorder.counts(WAIT) == [({**ORDER, "grctl.run.status": status, "error.type": error_type}, 1)]


async def test_waits_that_bring_no_end(recorder: Recorder, connection: ScriptedConnection) -> None:
    handle = await recorder.client(connection).start_workflow("Order", "order-1")
    with pytest.raises(TimeoutError):
        await handle.result(timeout=0.001)
    waiting = asyncio.create_task(handle.result())
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    waiting = asyncio.create_task(handle.result())
    await settle()
    connection.fail_watches(WorkflowNotFoundError("gone"))
    with pytest.raises(WorkflowNotFoundError):
        await waiting
    ends = [span for span in recorder.spans if span.name == "grctl/result"]
    types = ["CancelledError", "CancelledError", "WorkflowNotFoundError"]
    assert [(span.attributes or {})["error.type"] for span in ends] == types
    assert {span.status.status_code for span in ends} == {StatusCode.ERROR}
    assert recorder.counts("grctl.client.active_waits") == [(ORDER, 0)]
    assert recorder.counts(WAIT) == [
        ({**ORDER, "error.type": "CancelledError"}, 2),
        ({**ORDER, "error.type": "WorkflowNotFoundError"}, 1),
    ]


async def test_the_end_that_a_future_brings(recorder: Recorder, connection: ScriptedConnection) -> None:
    handle = await recorder.client(connection).start_workflow("Order", "order-1")
    future = handle.future
    connection.end(handle.run_info.id, "failed")
    with recorder.tracer.start_as_current_span("request"), pytest.raises(WorkflowError):
        await future
    result = recorder.span("grctl/result")
    assert link(result) == own_id(recorder.span("grctl/start"))
    assert result.parent is None
    assert recorder.counts(WAIT) == [({**ORDER, "grctl.run.status": "failed", "error.type": "WorkflowError"}, 1)]


async def test_one_end_is_reported_once_for_each_who_waits_by_a_call(
    recorder: Recorder, connection: ScriptedConnection
) -> None:
    handle = await recorder.client(connection).start_workflow("Order", "order-1")
    future = handle.future
    waits = [asyncio.create_task(handle.outcome()) for _ in range(3)]
    await settle()
    assert recorder.counts("grctl.client.active_waits") == [(ORDER, 3)]
    connection.end(handle.run_info.id, result=1)
    await asyncio.gather(*waits, future)
    assert recorder.names.count("grctl/result") == 3
    assert recorder.total(WAIT) == 3


async def test_waits_on_two_handles_to_one_run_are_two(recorder: Recorder, connection: ScriptedConnection) -> None:
    client = recorder.client(connection)
    handle = await client.start_workflow("Order", "order-1")
    connection.record(run_info(handle.run_info.id))
    other = await client.get_handle("order-1")
    recorder.clear()
    future = other.future
    waiting = asyncio.create_task(handle.result())
    await settle()
    connection.end(handle.run_info.id, result=1)
    assert [await waiting, await future] == [1, 1]
    assert recorder.names == ["grctl/result"] * 2
    assert recorder.total(WAIT) == 2


async def test_an_end_after_the_last_wait_was_given_up_is_none(
    recorder: Recorder, connection: ScriptedConnection
) -> None:
    handle = await recorder.client(connection).start_workflow("Order", "order-1")
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await handle.result(timeout=0.001)
    connection.end(handle.run_info.id, result=1)
    await settle()
    assert handle._end.outcome is not None  # it has learned it
    ends = [(span.attributes or {}) for span in recorder.spans if span.name == "grctl/result"]
    assert [end["error.type"] for end in ends] == ["CancelledError"] * 3
    assert recorder.counts(WAIT) == [({**ORDER, "error.type": "CancelledError"}, 3)]


async def test_with_measurements_alone_waits_are_counted_the_same(connection: ScriptedConnection) -> None:
    reader = InMemoryMetricReader()
    meter_provider = MeterProvider([reader], shutdown_on_exit=False)
    client = grctl.Client(connection=connection, plugins=[TracingPlugin(meter_provider=meter_provider)])
    called, looked_at = [await client.start_workflow("Order", f"order-{number}") for number in range(2)]
    future = looked_at.future
    waiting = asyncio.create_task(called.result())
    await settle()
    connection.end(called.run_info.id, result=1)
    connection.end(looked_at.run_info.id, result=2)
    assert [await waiting, await future] == [1, 2]
    await called.result()
    data = reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    (waits,) = (metric for metric in metrics if metric.name == WAIT)
    assert sum(point.count for point in waits.data.data_points) == 3  # type: ignore[union-attr]
    meter_provider.shutdown()


async def test_of_handles_that_are_dropped_nothing_is_kept(recorder: Recorder, connection: ScriptedConnection) -> None:
    def kept() -> int:
        return sum(type(each) is Kept for each in gc.get_objects())

    client = recorder.client(connection)
    gc.collect()
    before = kept()
    handles = []
    for number in range(20):
        handle = await client.start_workflow("Order", f"order-{number}")
        with pytest.raises(TimeoutError):
            await handle.result(timeout=0.001)
        assert not handle.future.done()
        handles.append(handle)
    assert kept() == before + 20
    del handle, handles
    connection.commands.clear()
    await settle()
    gc.collect()
    assert kept() == before


async def test_a_handle_keeps_no_span(recorder: Recorder, connection: ScriptedConnection) -> None:
    handle = await recorder.client(connection).start_workflow("Order", "order-1")
    kept = handle._state["tracing"]
    assert (kept.span, kept.start) == (None, recorder.span("grctl/start").context)
