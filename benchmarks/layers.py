"""Rows of middleware: what a layer, and each plugin, adds to a call over a connection that answers at once."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import msgspec
from opentelemetry import metrics, trace
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import grctl
from benchmarks.measuring import Cost, Pair, in_turns
from benchmarks.rows import Row, Scale, more_row, ratio_row
from grctl.plugins import Plugin
from grctl_core.commands import Command, Reply
from grctl_core.pipeline import Layer, compose
from grctl_core.protocols import Capabilities
from grctl_core.run import RunInfo, RunStatus
from grctl_tracing import TracingPlugin

__all__ = ["layers"]

_CALLS = 200
"""Calls in one turn: short turns, and many, as what is looked for is a fraction of a microsecond."""

Do = Callable[[], Awaitable[object]]


class Instant:
    """A connection that accepts every command at once: what is left is the client's own cost."""

    capabilities = Capabilities()

    def __init__(self) -> None:
        now = datetime.now(UTC)
        run = RunInfo(id="01M82CM2EPSQNNVV4233NRWD1P", wf_id="order-1", wf_type="Order", created_at=now)
        self._reply = Reply(success=True, run=msgspec.structs.replace(run, status=RunStatus.RUNNING))

    async def request(self, command: Command, *, timeout: float) -> Reply:
        return self._reply

    async def ping(self, *, timeout: float = 5.0) -> timedelta:
        raise NotImplementedError

    async def find_run(self, run: object) -> None: ...
    async def has_begun(self, run: object) -> bool:
        return True

    async def find_type(self, workflow_type: str) -> None: ...
    def watch(self, run: object) -> asyncio.Future[Any]:
        raise NotImplementedError

    async def history(self, run: object, *, follow: bool) -> AsyncIterator[Any]:
        raise NotImplementedError
        yield

    async def list_runs(self, run_filter: object) -> AsyncIterator[Any]:
        raise NotImplementedError
        yield

    def add_listener(self, listener: object) -> Callable[[], None]:
        return lambda: None

    async def close(self, *, grace: float = 5.0) -> None: ...
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...


class SpansByHand(Instant):
    """Writes the attempt's span itself, and counts it."""

    def __init__(self, tracer: trace.Tracer, meter: Meter) -> None:
        super().__init__()
        self._tracer = tracer
        self._attempts = meter.create_counter("attempts")
        self._propagator = TraceContextTextMapPropagator()

    async def request(self, command: Command, *, timeout: float) -> Reply:
        attributes = {"grctl.command": command.kind, "grctl.attempt.number": 1}
        with self._tracer.start_as_current_span(command.kind, kind=SpanKind.PRODUCER, attributes=attributes):
            headers: dict[str, str] = {}
            self._propagator.inject(headers)
            reply = await super().request(msgspec.structs.replace(command, headers=headers), timeout=timeout)
            self._attempts.add(1, {"grctl.command": command.kind})
            return reply


class Empty(Plugin):
    """Adds nothing, around every operation."""

    name = "empty"

    async def grctl_operation(self, call: Any, proceed: Any) -> Any:
        return await proceed(call)


def _starting(connection: Any, *plugins: object) -> Do:
    client = grctl.Client(connection=connection, plugins=plugins)

    async def start() -> object:
        return await client.start_workflow("Order", "order-1")

    return start


def _inside_a_trace(start: Do) -> Do:
    """As in a service without an SDK that was called with a traceparent header."""
    span = NonRecordingSpan(SpanContext(1 << 100, 1 << 50, is_remote=True, trace_flags=TraceFlags(1)))

    async def call() -> object:
        with trace.use_span(span):
            return await start()

    return call


def _by_hand(spans: TracerProvider, measurements: metrics.MeterProvider) -> Do:
    """Return a start with the spans and measurements that the plugin makes, written around it by hand."""
    tracer = trace.get_tracer("by hand", tracer_provider=spans)
    meter = measurements.get_meter("by hand")
    duration = meter.create_histogram("duration")
    active = meter.create_up_down_counter("active")
    plain = _starting(SpansByHand(tracer, meter))
    rpc = {"rpc.system.name": "grctl", "rpc.method": "grctl/start"}

    async def start() -> object:
        with tracer.start_as_current_span("grctl/start", kind=SpanKind.CLIENT, attributes=rpc) as span:
            active.add(1, rpc)
            begun = time.perf_counter()
            handle: Any = await plain()
            active.add(-1, rpc)
            duration.record(time.perf_counter() - begun, rpc)
            run = handle.run_info
            ids = {"workflow.id": run.wf_id, "run.id": run.id, "workflow.type": run.wf_type, "attempts": 1}
            span.set_attributes({f"grctl.{name}": value for name, value in ids.items()})
            return handle

    return start


async def _turn(do: Do) -> Cost:
    gc.collect()
    gc.disable()
    try:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(_CALLS):
            await do()
        return Cost((time.perf_counter() - wall) / _CALLS, (time.process_time() - cpu) / _CALLS)
    finally:
        gc.enable()


async def _compared(ours: Do, reference: Do, scale: Scale) -> Pair:
    return await in_turns(lambda: _turn(ours), lambda: _turn(reference), scale.rounds * 10)


async def layers(scale: Scale) -> AsyncIterator[Row]:
    """Yield what layers add."""

    async def nothing(call: object) -> object:
        return call

    async def empty(call: Any, proceed: Any) -> Any:
        return await proceed(call)

    composed = compose([Layer("empty", "grctl_operation", empty)], nothing, "query")
    pair = await _compared(lambda: composed(1), lambda: nothing(1), scale)
    yield more_row("layer", "one empty layer, around a coroutine", pair, 1.0)

    def describing(*plugins: object) -> Do:
        client = grctl.Client(connection=Instant(), plugins=plugins)
        handle = asyncio.ensure_future(client.get_handle("order-1"))

        async def describe() -> object:
            return await (await handle).describe()

        return describe

    plain = describing()
    for plugin, goal in ((Empty(), 1.0), ("logging", None), ("retry", None), ("tracing", 4.0)):
        name = plugin if isinstance(plugin, str) else "an empty plugin"
        pair = await _compared(describing(plugin), plain, scale)
        note = "without an SDK" if plugin == "tracing" else "nobody listens" if plugin == "logging" else ""
        yield more_row(f"plugin-{getattr(plugin, 'name', plugin)}", f"a describe with {name}", pair, goal, note=note)

    start = _starting(Instant())
    pair = await _compared(_inside_a_trace(_starting(Instant(), TracingPlugin())), _inside_a_trace(start), scale)
    yield more_row("tracing-remote", "a start with tracing, in a trace that came in, no SDK", pair, None)

    exporter = InMemorySpanExporter()
    spans = TracerProvider()
    spans.add_span_processor(SimpleSpanProcessor(exporter))
    measurements = MeterProvider(metric_readers=[InMemoryMetricReader()])
    traced = _starting(Instant(), TracingPlugin(tracer_provider=spans, meter_provider=measurements))
    by_hand = _by_hand(spans, measurements)

    def clean(do: Do) -> Callable[[], Awaitable[Cost]]:
        def turn() -> Awaitable[Cost]:
            exporter.clear()
            return _turn(do)

        return turn

    pair = await in_turns(clean(traced), clean(by_hand), scale.rounds * 5)
    yield ratio_row("tracing-sdk", "a start with tracing and an SDK, in-memory exporter", pair, 1.2)
