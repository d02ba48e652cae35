"""What tracing costs an operation: without an SDK beside no plugin, and with one beside spans written by hand.

    python benchmarks/plugins_tracing.py [--calls N] [--rounds N]

The connection answers at once, so that nothing but the client is measured; all variants take turns in one run. Needs
opentelemetry-sdk. Each start is one command, so with an SDK there are two spans; those written by hand have the same
names, kinds and attributes, and a trace context in the message's headers.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import platform
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Self

import msgspec
from opentelemetry import metrics, trace
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import grctl
from grctl.protocols import Connection
from grctl_core.commands import Command, Reply
from grctl_core.hooks import Plugin
from grctl_core.protocols import Capabilities
from grctl_tracing import TracingPlugin

Start = Callable[[], Awaitable[object]]

_YES = Reply(success=True)


class Instant:
    """A Connection that accepts every command at once."""

    capabilities = Capabilities()

    async def request(self, command: Command, *, timeout: float) -> Reply:
        return _YES

    async def ping(self, *, timeout: object = 5.0) -> timedelta:
        return timedelta(0)

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


class ByHand(Instant):
    """Writes the attempt's span itself, and counts it."""

    def __init__(self, tracer: trace.Tracer, meter: Meter) -> None:
        self.tracer = tracer
        self.attempts = meter.create_counter("attempts")
        self.propagator = TraceContextTextMapPropagator()

    async def request(self, command: Command, *, timeout: float) -> Reply:
        attributes = {"grctl.command": command.kind, "grctl.attempt.number": 1}
        with self.tracer.start_as_current_span(command.kind, kind=SpanKind.PRODUCER, attributes=attributes):
            headers: dict[str, str] = {}
            self.propagator.inject(headers)
            reply = await super().request(msgspec.structs.replace(command, headers=headers), timeout=timeout)
            self.attempts.add(1, {"grctl.command": command.kind})
            return reply


class Empty(Plugin):
    name = "empty"

    async def grctl_operation(self, call: Any, proceed: Any) -> Any:
        return await proceed(call)

    async def grctl_attempt(self, attempt: Any, proceed: Any) -> Any:
        return await proceed(attempt)


def starting(connection: Connection, *plugins: object) -> Start:
    client = grctl.Client(connection=connection, plugins=plugins)

    async def start() -> object:
        return await client.start_workflow("ProcessOrder", "order-1")

    return start


def inside_a_trace(start: Start) -> Start:
    """As in a service without an SDK that was called with a traceparent header."""
    span = NonRecordingSpan(SpanContext(1 << 100, 1 << 50, is_remote=True, trace_flags=TraceFlags(1)))

    async def call() -> object:
        with trace.use_span(span):
            return await start()

    return call


def by_hand(spans: TracerProvider, measurements: metrics.MeterProvider) -> Start:
    tracer = trace.get_tracer("by hand", tracer_provider=spans)
    meter = measurements.get_meter("by hand")
    duration = meter.create_histogram("duration")
    active = meter.create_up_down_counter("active")
    plain = starting(ByHand(tracer, meter))
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


async def cost(start: Start, calls: int) -> float:
    """Return microseconds of CPU time per call."""
    gc.collect()
    gc.disable()
    try:
        begun = time.process_time()
        for _ in range(calls):
            await start()
        return (time.process_time() - begun) / calls * 1e6
    finally:
        gc.enable()


async def main(calls: int, rounds: int) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("opentelemetry-api", "opentelemetry-sdk"))
    print(f"Python {platform.python_version()}, {packages}; {rounds} rounds of {calls} starts each\n")
    spans = TracerProvider()
    nothing = metrics.NoOpMeterProvider()
    measurements = MeterProvider([InMemoryMetricReader()])
    traced = TracingPlugin()
    variants: dict[str, tuple[Start, str]] = {
        "no plugin": (starting(Instant()), "no plugin"),
        "an empty plugin, both layers": (starting(Instant(), Empty()), "no plugin"),
        "tracing, no SDK": (starting(Instant(), traced), "no plugin"),
        "no plugin, in a trace": (inside_a_trace(starting(Instant())), "no plugin, in a trace"),
        "tracing, no SDK, in a trace": (inside_a_trace(starting(Instant(), traced)), "no plugin, in a trace"),
        "spans by hand": (by_hand(spans, nothing), "spans by hand"),
        "tracing, spans": (
            starting(Instant(), TracingPlugin(tracer_provider=spans, meter_provider=nothing)),
            "spans by hand",
        ),
        "spans, metrics by hand": (by_hand(spans, measurements), "spans, metrics by hand"),
        "tracing, spans and metrics": (
            starting(Instant(), TracingPlugin(tracer_provider=spans, meter_provider=measurements)),
            "spans, metrics by hand",
        ),
    }
    costs: dict[str, list[float]] = {name: [] for name in variants}
    for start, _ in variants.values():
        await cost(start, calls)
    for _ in range(rounds):
        for name, (start, _) in variants.items():
            costs[name].append(await cost(start, calls))
    best = {name: min(all_) for name, all_ in costs.items()}  # what else the machine does only adds
    print(f"{'best of all rounds':30} {'us a call':>9} {'more':>6} {'ratio':>6}   beside")
    for name, (_, beside) in variants.items():
        more, ratio = best[name] - best[beside], best[name] / best[beside]
        print(f"{name:30} {best[name]:>9.1f} {more:>6.1f} {ratio:>6.2f}   {beside}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200, help="starts in each round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=150, help="rounds (default %(default)s)")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.calls, arguments.rounds))
