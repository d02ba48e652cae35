"""What was traced and measured, as the SDK exports it."""

from __future__ import annotations

import json
from typing import Any

from core.scripted import ScriptedConnection
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from grctl_core.client import WorkflowClient
from grctl_tracing import TracingPlugin


class Recorder:
    """An SDK, and a plugin that reports to it."""

    def __init__(self, sampler: Sampler | None = None, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.tracer_provider.get_tracer("test")
        self.plugin = self.another(**options)

    def another(self, **options: Any) -> TracingPlugin:
        return TracingPlugin(tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options)

    def client(self, connection: Any, *more: object) -> WorkflowClient:
        return WorkflowClient(connection=connection, plugins=[self.plugin, *more])

    @property
    def spans(self) -> list[ReadableSpan]:
        """In the order in which they ended."""
        return list(self._exporter.get_finished_spans())

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def span(self, name: str) -> ReadableSpan:
        (found,) = (span for span in self.spans if span.name == name)
        return found

    def clear(self) -> None:
        self._exporter.clear()

    def metrics(self) -> dict[str, Any]:
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[Any]:
        metric = self.metrics().get(name)
        return [] if metric is None else list(metric.data.data_points)

    def counts(self, name: str) -> list[tuple[dict[str, Any], int]]:
        """Attributes and count (of a histogram) or value, for each series."""
        return [
            (dict(point.attributes), point.count if hasattr(point, "count") else point.value)
            for point in self.points(name)
        ]

    def total(self, name: str) -> int:
        return sum(count for _, count in self.counts(name))

    def everything(self) -> str:
        """All that is exported, as text."""
        spans = [span.to_json() for span in self.spans]
        return "\n".join([*spans, *(json.dumps(json.loads(m.to_json())) for m in self.metrics().values())])

    def close(self) -> None:
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


def sent_headers(connection: ScriptedConnection) -> list[dict[str, str] | None]:
    return [None if command.headers is None else dict(command.headers) for command in connection.commands]


def traceparent(span: ReadableSpan) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
