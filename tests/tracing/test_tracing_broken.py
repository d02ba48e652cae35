"""A tracing set-up that is broken: whatever it raises, calls go on, and it is logged once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from core.scripted import ScriptedConnection
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

import grctl
from grctl_core.errors import NotDeliveredError
from grctl_tracing import TracingPlugin
from grctl_tracing.instruments import Instruments


class BrokenError(RuntimeError):
    pass


def broken(*_: Any, **__: Any) -> Any:
    raise BrokenError


class BreaksAtStarts(SpanProcessor):
    on_start = broken


class BreaksAtEnds(SpanProcessor):
    on_end = broken


class BreaksHeaders(TextMapPropagator):
    inject = extract = broken
    fields = frozenset[str]()  # type: ignore[assignment]  # never asked for


def processor(made: Callable[[], SpanProcessor]) -> TracingPlugin:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(made())
    return TracingPlugin(tracer_provider=provider)


def meters() -> TracingPlugin:
    plugin = TracingPlugin(tracer_provider=TracerProvider(shutdown_on_exit=False), meter_provider=NoOpMeterProvider())
    for name in Instruments.__slots__:
        instrument = getattr(plugin._instruments, name)
        instrument.add = instrument.record = broken
    return plugin


def headers() -> TracingPlugin:
    return TracingPlugin(propagator=BreaksHeaders())


SET_UPS = {
    "on_start": lambda: processor(BreaksAtStarts),
    "on_end": lambda: processor(BreaksAtEnds),
    "meters": meters,
    "headers": headers,
}


@pytest.mark.parametrize("made", SET_UPS.values(), ids=SET_UPS)
async def test_calls_go_on(
    connection: ScriptedConnection, made: Callable[[], TracingPlugin], caplog: pytest.LogCaptureFixture
) -> None:
    before = trace.get_current_span()
    with caplog.at_level(logging.WARNING, "grctl"):
        client = grctl.Client(connection=connection, plugins=[made(), "retry"])
        connection.script("run.start", NotDeliveredError("once"))  # a retry is noted on the span
        handle = await client.start_workflow("Order", "order-1")
        await handle.send("approve")
        future = (looked_at := await client.start_workflow("Order", "order-2")).future
        connection.end(looked_at.run_info.id, result=2)
        assert await future == 2
        connection.script("run.terminate", NotDeliveredError("no"))
        with pytest.raises(grctl.NotDeliveredError):
            await handle.terminate(retry=None)
        connection.end(handle.run_info.id, result=1)
        assert await handle.result() == 1
        assert trace.get_current_span() is before
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("grctl.tracing", "WARNING")
    assert record.exc_info is not None
    assert record.exc_info[0] is BrokenError
    assert [command.kind for command in connection.commands].count("run.start") == 3
