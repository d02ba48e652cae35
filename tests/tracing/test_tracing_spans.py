"""Spans around operations and attempts, and what goes into the headers."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from core.scripted import NEVER, OK, ScriptedConnection, already_running, lost, refused, run_info, settle
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

import grctl
from grctl_core.commands import ErrorCode
from grctl_core.errors import (
    AccessDeniedError,
    ConnectionClosedError,
    DeliveryUnknownError,
    GrctlError,
    InvalidInputError,
    NotDeliveredError,
    NotSentError,
    ServerError,
    UnsupportedOperationError,
    WorkflowAlreadyRunningError,
    WorkflowFinishedError,
    WorkflowNotFoundError,
    WorkflowTypeNotRegisteredError,
)
from grctl_engine import Workflow
from grctl_memory import MemoryConnection
from grctl_tracing import TracingPlugin
from grctl_tracing.names import SCHEMA_URL

from .recorder import Recorder, sent_headers, traceparent

wf = Workflow(workflow_type="Greet")


@wf.start()
async def begin(ctx: Any, wait: bool = False) -> Any:
    return ctx.next.wait() if wait else ctx.next.complete("hello")


@wf.event()
async def finish(ctx: Any, word: str) -> Any:
    return ctx.next.complete(word)


@wf.query()
async def mood(ctx: Any) -> str:
    return "good"


class Again:
    """Tries again, at once."""

    name = "again"

    async def grctl_retry(self, call: Any, proceed: Any) -> Any:
        try:
            return await proceed(call)
        except GrctlError as error:
            proceed.announce(error, 0.25)
            return await proceed(call)


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def span_id(span: ReadableSpan) -> int:
    return span.get_span_context().span_id


async def test_a_start(recorder: Recorder, connection: ScriptedConnection) -> None:
    handle = await recorder.client(connection).start_workflow("Order", "order-1")
    attempt, start = recorder.spans
    assert (start.name, start.kind, start.status.status_code) == ("grctl/start", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(start.attributes or {}) == {
        "rpc.system.name": "grctl",
        "rpc.method": "grctl/start",
        "grctl.workflow.id": "order-1",
        "grctl.workflow.type": "Order",
        "grctl.run.id": handle.run_info.id,
        "grctl.attempts": 1,
    }
    assert (attempt.name, attempt.kind, parent(attempt)) == ("run.start", SpanKind.PRODUCER, span_id(start))
    assert dict(attempt.attributes or {}) == {"grctl.command": "run.start", "grctl.attempt.number": 1}
    assert sent_headers(connection) == [{"traceparent": traceparent(attempt)}]
    scope = start.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version, scope.schema_url) == ("grctl_tracing", grctl.__version__, SCHEMA_URL)


async def test_every_operation_on_the_embedded_engine(recorder: Recorder) -> None:
    async with await MemoryConnection.open(workflows=[wf]) as connection:
        client = recorder.client(connection)
        handle = await client.start_workflow("Greet", "greet-1", {"wait": True})
        await handle.send("finish", "bye")
        assert await handle.result() == "bye"
        assert await handle.query("mood") == "good"
        await handle.describe()
        await client.get_handle("greet-1")
        cancelled = await client.start_workflow("Greet", "greet-2", {"wait": True})
        await cancelled.cancel()
        await cancelled.outcome()
        terminated = await client.start_workflow("Greet", "greet-3", {"wait": True})
        await terminated.terminate()
    operations = {span.name: span for span in recorder.spans if span.name.startswith("grctl/")}
    assert set(operations) == {
        f"grctl/{name}" for name in ("start", "send", "result", "query", "describe", "cancel", "terminate")
    }
    kinds = {name: span.kind for name, span in operations.items()}
    assert kinds.pop("grctl/result") is SpanKind.INTERNAL
    assert set(kinds.values()) == {SpanKind.CLIENT}
    attempts = {span.name: span.kind for span in recorder.spans if span.name.startswith("run.")}
    assert attempts == {
        "run.start": SpanKind.PRODUCER,
        "run.event": SpanKind.PRODUCER,
        "run.cancel": SpanKind.PRODUCER,
        "run.terminate": SpanKind.PRODUCER,
        "run.describe": SpanKind.CLIENT,
        "run.query": SpanKind.CLIENT,
    }
    assert (operations["grctl/send"].attributes or {})["grctl.event.name"] == "finish"
    assert (operations["grctl/query"].attributes or {})["grctl.query.name"] == "mood"


async def test_run_workflow_is_a_start_and_a_result_in_the_callers_trace(recorder: Recorder) -> None:
    async with await MemoryConnection.open(workflows=[wf]) as connection:
        with recorder.tracer.start_as_current_span("request") as request:
            assert await recorder.client(connection).run_workflow("Greet", "greet-1") == "hello"
    assert recorder.names == ["run.start", "grctl/start", "grctl/result", "request"]
    ours = [recorder.span("grctl/start"), recorder.span("grctl/result")]
    assert {parent(span) for span in ours} == {request.get_span_context().span_id}
    assert {span.context.trace_id for span in ours if span.context} == {request.get_span_context().trace_id}


async def test_a_lost_reply_is_one_operation_and_the_attempts_that_resolve_it(
    recorder: Recorder, connection: ScriptedConnection
) -> None:
    def lose(command: Any) -> Any:
        connection._serve(command)
        return lost()

    connection.script("run.start", lose)
    await recorder.client(connection).start_workflow("Order", "order-1")
    assert recorder.names == ["run.start", "run.describe", "grctl/start"]
    start, (first, look) = recorder.span("grctl/start"), recorder.spans[:2]
    assert (start.attributes or {})["grctl.attempts"] == 2
    assert start.status.status_code is StatusCode.UNSET
    assert {parent(first), parent(look)} == {span_id(start)}
    assert (first.attributes or {})["error.type"] == "DeliveryUnknownError"
    assert first.status.status_code is StatusCode.ERROR
    assert (look.attributes or {})["grctl.attempt.number"] == 2
    assert sent_headers(connection) == [{"traceparent": traceparent(first)}, None]


async def test_a_retry_is_an_event_on_the_operations_span(recorder: Recorder, connection: ScriptedConnection) -> None:
    connection.script("run.start", NotSentError("secret"))
    await recorder.client(connection, Again()).start_workflow("Order", "order-1")
    assert recorder.names == ["run.start", "run.start", "grctl/start"]
    (event,) = recorder.span("grctl/start").events
    assert event.name == "grctl.retry"
    assert dict(event.attributes or {}) == {
        "error.type": "NotSentError",
        "grctl.retry.delay": 0.25,
        "grctl.retry.attempt": 2,
    }


@pytest.mark.parametrize(
    ("answer", "raised", "of_operation", "of_attempt"),  # None: as the operation
    [
        (NotSentError("x"), NotSentError, {"error.type": "NotSentError"}, {"error.type": "NotSentError"}),
        (NotDeliveredError("x"), NotDeliveredError, {"error.type": "NotDeliveredError"}, None),
        (ConnectionClosedError("x"), ConnectionClosedError, {"error.type": "ConnectionClosedError"}, None),
        (AccessDeniedError("x"), AccessDeniedError, {"error.type": "AccessDeniedError"}, None),
        (InvalidInputError("too large"), InvalidInputError, {"error.type": "InvalidInputError"}, None),
        (
            already_running("01HZZZZZZZZZZZZZZZZZZZZZZZ"),
            WorkflowAlreadyRunningError,
            {"error.type": "WorkflowAlreadyRunningError", "rpc.response.status_code": "4001"},
            {"error.type": "4001", "rpc.response.status_code": "4001"},
        ),
        (
            refused(ErrorCode.TYPE_NOT_REGISTERED),
            WorkflowTypeNotRegisteredError,
            {"error.type": "WorkflowTypeNotRegisteredError", "rpc.response.status_code": "4004"},
            {"error.type": "4004", "rpc.response.status_code": "4004"},
        ),
        (
            refused(ErrorCode.BAD_MESSAGE, "secret"),
            ServerError,
            {"error.type": "4005", "rpc.response.status_code": "4005"},
            {"error.type": "4005", "rpc.response.status_code": "4005"},
        ),
        (KeyError("a transport's mistake"), KeyError, {"error.type": "KeyError"}, {"error.type": "KeyError"}),
    ],
)
async def test_errors(  # noqa: PLR0917
    recorder: Recorder,
    connection: ScriptedConnection,
    answer: Any,
    raised: type[Exception],
    of_operation: dict[str, str],
    of_attempt: dict[str, str] | None,
) -> None:
    connection.script("run.start", answer)
    with pytest.raises(raised):
        await recorder.client(connection).start_workflow("Order", "order-1")
    attempt, start = recorder.spans
    for span, expected in ((start, of_operation), (attempt, of_attempt or of_operation)):
        attributes = dict(span.attributes or {})
        failure = ("error.type", "rpc.response.status_code")
        assert {name: attributes[name] for name in failure if name in attributes} == expected
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description is None
        assert span.events == ()


async def test_errors_of_other_operations(recorder: Recorder) -> None:
    connection = ScriptedConnection(queries=False)
    client = recorder.client(connection)
    with pytest.raises(WorkflowNotFoundError):
        await client.get_handle("nobody")
    handle = await client.start_workflow("Order", "order-1")
    with pytest.raises(UnsupportedOperationError):
        await handle.query("mood")
    with pytest.raises(InvalidInputError):
        await handle.send("no such event")
    connection.script("run.event", refused(ErrorCode.FINISHED))
    with pytest.raises(WorkflowFinishedError):
        await handle.send("approve")
    connection.script("run.cancel", lost(), lost())
    with pytest.raises(DeliveryUnknownError):
        await handle.cancel()
    failed = [span for span in recorder.spans if span.name.startswith("grctl/") and not span.status.is_ok]
    kinds = [(span.name, (span.attributes or {})["error.type"]) for span in failed]
    assert kinds == [
        ("grctl/describe", "WorkflowNotFoundError"),
        ("grctl/query", "UnsupportedOperationError"),
        ("grctl/send", "InvalidInputError"),
        ("grctl/send", "WorkflowFinishedError"),
        ("grctl/cancel", "DeliveryUnknownError"),
    ]


async def test_a_cancelled_call(recorder: Recorder, connection: ScriptedConnection) -> None:
    connection.script("run.start", NEVER)
    before = trace.get_current_span()
    task = asyncio.create_task(recorder.client(connection).start_workflow("Order", "order-1"))
    await settle()
    assert connection.kinds == ["start"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorder.names == ["run.start", "grctl/start"]
    for span in recorder.spans:
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == "CancelledError"
    assert trace.get_current_span() is before


async def test_a_call_that_nobody_finishes_is_closed_in_another_context(
    recorder: Recorder, connection: ScriptedConnection, caplog: pytest.LogCaptureFixture
) -> None:
    connection.script("run.start", NEVER)
    inside = contextvars.copy_context()
    call = recorder.client(connection).start_workflow("Order", "order-1")
    inside.run(call.send, None)
    inside.run(call.send, None)  # now it waits for the reply
    assert connection.kinds == ["start"]
    call.close()
    assert recorder.names == ["run.start", "grctl/start"]
    assert caplog.records == []


async def test_concurrent_calls_have_the_right_parents(recorder: Recorder, connection: ScriptedConnection) -> None:
    client = recorder.client(connection)
    both = asyncio.Event()

    async def answer() -> Any:
        if len(connection.commands) == 20:
            both.set()
        await both.wait()
        return OK

    connection.script("run.start", *(answer() for _ in range(20)))

    async def request(number: int) -> None:
        with recorder.tracer.start_as_current_span(f"request-{number}"):
            await client.start_workflow("Order", f"order-{number}")

    await asyncio.gather(*(request(number) for number in range(20)))
    spans = {span_id(span): span for span in recorder.spans}
    starts = [span for span in spans.values() if span.name == "grctl/start"]
    attempts = [span for span in spans.values() if span.name == "run.start"]
    assert len(starts) == len(attempts) == 20
    for start in starts:
        number = str((start.attributes or {})["grctl.workflow.id"]).removeprefix("order-")
        assert spans[parent(start) or 0].name == f"request-{number}"
    assert sorted(parent(span) or 0 for span in attempts) == sorted(map(span_id, starts))
    assert {traceparent(span) for span in attempts} == {
        (headers or {})["traceparent"] for headers in sent_headers(connection)
    }


async def test_calls_that_join_a_cancel_have_spans_of_their_own(
    recorder: Recorder, connection: ScriptedConnection
) -> None:
    handle = await recorder.client(connection).start_workflow("Order", "order-1")
    recorder.clear()
    await asyncio.gather(handle.cancel(), handle.cancel())
    cancels = [span for span in recorder.spans if span.name == "grctl/cancel"]
    assert sorted((span.attributes or {})["grctl.attempts"] for span in cancels) == [0, 2]
    (leader,) = (span for span in cancels if (span.attributes or {})["grctl.attempts"])
    attempts = [span for span in recorder.spans if span.name.startswith("run.")]
    assert [(span.name, parent(span)) for span in attempts] == [
        ("run.describe", span_id(leader)),
        ("run.cancel", span_id(leader)),
    ]


async def test_a_users_layer_inside_sees_the_span_and_may_nest_its_own(
    recorder: Recorder, connection: ScriptedConnection
) -> None:
    class Nesting:
        name = "nesting"

        async def grctl_operation(self, call: Any, proceed: Any) -> Any:
            with recorder.tracer.start_as_current_span("mine"):
                return await proceed(call)

    await recorder.client(connection, Nesting()).start_workflow("Order", "order-1")
    attempt, mine, start = recorder.spans
    assert (attempt.name, mine.name, start.name) == ("run.start", "mine", "grctl/start")
    assert (parent(attempt), parent(mine)) == (span_id(mine), span_id(start))


async def test_the_run_that_is_attached_to_is_named(recorder: Recorder, connection: ScriptedConnection) -> None:
    active = connection.record(run_info("01HZZZZZZZZZZZZZZZZZZZZZZZ"))
    connection.script("run.start", already_running(active.id))
    await recorder.client(connection).start_workflow("Order", "order-1", on_conflict="attach")
    assert (recorder.span("grctl/start").attributes or {})["grctl.run.id"] == active.id
    recorder.clear()
    await recorder.client(connection).get_handle("order-1")
    attributes = recorder.span("grctl/describe").attributes or {}
    assert (attributes["grctl.run.id"], attributes["grctl.workflow.type"]) == (active.id, "Order")


async def test_server_attributes_where_they_are_given(recording: Any, connection: ScriptedConnection) -> None:
    recorder = recording(server_address="nats.example.com", server_port=4222)
    await recorder.client(connection).start_workflow("Order", "order-1")
    for span in recorder.spans:
        assert (span.attributes["server.address"], span.attributes["server.port"]) == ("nats.example.com", 4222)
    ((attributes, _),) = recorder.counts("rpc.client.call.duration")
    assert (attributes["server.address"], attributes["server.port"]) == ("nats.example.com", 4222)


@pytest.mark.parametrize(
    "options",
    [
        {"tracer_provider": 1},
        {"meter_provider": "x"},
        {"propagator": object()},
        {"server_address": 1},
        {"server_port": "4222"},
        {"server_port": True},
    ],
)
def test_bad_options(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(InvalidInputError, match=f"{name} must be a .* or None, not"):
        TracingPlugin(**options)


# Headers


async def test_baggage_is_not_sent_unless_asked_for(recording: Any, connection: ScriptedConnection) -> None:
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        await recording().client(connection).start_workflow("Order", "order-1")
        await recording(propagator=propagate.get_global_textmap()).client(connection).start_workflow("Order", "order-2")
    finally:
        context.detach(token)
    plain, with_baggage = sent_headers(connection)
    assert plain is not None
    assert with_baggage is not None
    assert set(plain) == {"traceparent"}
    assert set(with_baggage) == {"traceparent", "baggage"}
    assert with_baggage["baggage"] == "tenant=acme"


async def test_headers_of_others_stay(recorder: Recorder, connection: ScriptedConnection) -> None:
    class Tenant:
        name = "tenant"

        async def grctl_operation(self, call: Any, proceed: Any) -> Any:
            if call.operation == "result":
                return await proceed(call)
            return await proceed(call.replace(headers={"tenant": "acme"}))

    await recorder.client(connection, Tenant()).start_workflow("Order", "order-1")
    (headers,) = sent_headers(connection)
    assert headers == {"tenant": "acme", "traceparent": traceparent(recorder.spans[0])}


async def test_what_is_not_sampled_is_not_recorded_and_the_decision_goes_along(
    recording: Any, connection: ScriptedConnection
) -> None:
    recorder = recording(sampler=ParentBased(ALWAYS_OFF))
    seen: list[SpanContext] = []

    class Looking:
        name = "looking"

        async def grctl_operation(self, call: Any, proceed: Any) -> Any:
            seen.append(trace.get_current_span().get_span_context())
            return await proceed(call)

    handle = await recorder.client(connection, Looking()).start_workflow("Order", "order-1")
    assert recorder.spans == []
    (inside,) = seen
    assert inside.is_valid
    assert not inside.trace_flags.sampled
    (headers,) = sent_headers(connection)
    assert headers == {"traceparent": f"00-{inside.trace_id:032x}-{inside.span_id:016x}-{inside.trace_flags:02x}"}
    assert not trace.get_current_span().get_span_context().is_valid
    assert recorder.total("rpc.client.call.duration") == 1  # measured all the same
    connection.end(handle.run_info.id)
    await handle.result()
    assert recorder.spans == []
    assert recorder.total("grctl.client.wait.duration") == 1


# The API alone


async def test_without_an_sdk_nothing_is_sent_and_nothing_kept(connection: ScriptedConnection) -> None:
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)  # else this tests something else
    client = grctl.Client(connection=connection, plugins=["tracing"])
    handle = await client.start_workflow("Order", "order-1")
    assert sent_headers(connection) == [None]
    kept = handle._state["tracing"]
    assert (kept.span, kept.start) == (None, None)
    connection.end(handle.run_info.id, result="done")
    assert await handle.result() == "done"


async def test_without_an_sdk_a_traceparent_that_came_in_passes_through(connection: ScriptedConnection) -> None:
    client = grctl.Client(connection=connection, plugins=["tracing"])
    came_in = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1)))
    with trace.use_span(came_in):
        handle = await client.start_workflow("Order", "order-1")
        await handle.describe()
        assert trace.get_current_span() is came_in
    assert sent_headers(connection) == [{"traceparent": f"00-{0xABC:032x}-{0xDEF:016x}-01"}, None]


async def test_a_plugin_without_a_provider_does_not_hide_the_callers_span(
    recorder: Recorder, connection: ScriptedConnection
) -> None:
    seen: list[trace.Span] = []

    class Looking:
        name = "looking"

        async def grctl_operation(self, call: Any, proceed: Any) -> Any:
            seen.append(trace.get_current_span())
            return await proceed(call)

    silent = TracingPlugin(tracer_provider=trace.NoOpTracerProvider())
    with recorder.tracer.start_as_current_span("request") as request:
        await grctl.Client(connection=connection, plugins=[silent, Looking()]).start_workflow("Order", "order-1")
    assert seen == [request]
    assert sent_headers(connection) == [{"traceparent": traceparent(recorder.span("request"))}]
