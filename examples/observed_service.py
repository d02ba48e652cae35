"""What tracing, logging and retry show when the reply to a start gets lost.

    pip install "grctl-client[dev-server,tracing,logging]" opentelemetry-sdk
    python examples/observed_service.py

A development server carries the start out and loses its answer, once. The client looks, finds the run, and goes on:
one workflow was started. Printed are the log records, each with its trace id, how many runs there are, and the trace,
drawn as a tree.
"""

import asyncio
import logging
import sys
from collections.abc import Iterable, Iterator

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import grctl
from grctl.testing import DevServer, Fault, Faults, What
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_logging import RunContextFilter

order = Workflow(workflow_type="Order")
log = logging.getLogger("shop")


@order.start()
async def start(ctx: Context, item: str) -> Directive:
    ctx.store.put("item", item)
    return ctx.next.wait()


@order.event()
async def approve(ctx: Context, by: str) -> Directive:
    return ctx.next.complete(f"{await ctx.store.get('item', str)} shipped, approved by {by}")


async def serve(client: grctl.Client) -> None:
    """Do what a service does for one request."""
    with trace.get_tracer("shop").start_as_current_span("POST /orders"):
        handle = await client.start_workflow("Order", "order-7", {"item": "tea"}, request_timeout=0.5)
        with handle.log_context():
            log.info("order accepted")
            await handle.send("approve", {"by": "Ada"})
            log.info("order %s", await handle.result())


async def main() -> None:
    spans = record_traces()
    log_to_stdout()
    faults = Faults(Fault(what=What.LOSE_REPLY, kind="run.start", nth=(1,)))
    async with DevServer([order], faults=faults) as server, await grctl.connect(server.url) as connection:
        client = grctl.Client(connection=connection, plugins=["tracing", "logging", "retry"])
        await serve(client)
        runs = [run async for run in client.list_workflows()]
    print(f"\nreplies lost: {len(faults.struck)}, runs on the server: {len(runs)}\n")
    print("\n".join(tree(spans.get_finished_spans())))


def record_traces() -> InMemorySpanExporter:
    """Have spans kept in memory; a service has them sent to its collector."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    return spans


class TraceIdFilter(logging.Filter):
    """Gives each record the trace id of the span that is current."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = trace.get_current_span().get_span_context()
        record.trace_id = f"{context.trace_id:032x}"[:8] if context.is_valid else "-"
        return True


def log_to_stdout() -> None:
    """Log as services do: all that is INFO or louder, in one format."""
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(RunContextFilter())
    handler.addFilter(TraceIdFilter())
    line = "%(levelname)-7s trace=%(trace_id)s [%(workflow_id)s] %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, handlers=[handler], format=line)


def tree(spans: Iterable[ReadableSpan]) -> Iterator[str]:
    """Yield the lines of the spans drawn as trees."""
    children: dict[int | None, list[ReadableSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        children.setdefault(span.parent.span_id if span.parent else None, []).append(span)

    def draw(span: ReadableSpan, first: str, rest: str) -> Iterator[str]:
        context = span.get_span_context()
        below = children.get(context.span_id, []) if context else []
        yield first + described(span)
        for event in span.events:
            yield f"{rest}{'│' if below else ' '}   * {event.name}"
        for child in below:
            last = child is below[-1]
            yield from draw(child, f"{rest}{'└── ' if last else '├── '}", f"{rest}{'    ' if last else '│   '}")

    for root in children.get(None, []):
        yield from draw(root, "", "")


def described(span: ReadableSpan) -> str:
    """Say what a span is, and how it ended."""
    error = (span.attributes or {}).get("error.type")
    milliseconds = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    return f"{span.name} ({span.kind.name}) {milliseconds:.0f} ms{f', {error}' if error else ''}"


if __name__ == "__main__":
    asyncio.run(main())
