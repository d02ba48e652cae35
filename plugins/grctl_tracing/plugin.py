"""TracingPlugin: a span around each operation, one around each attempt in it, and metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextvars import Token
from time import perf_counter
from typing import Any, get_args

from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from grctl_core import __version__
from grctl_core.attempt import Attempt
from grctl_core.calls import CommandCall, QueryCall, ResultCall, SendCall
from grctl_core.commands import Command, Reply
from grctl_core.errors import InvalidInputError
from grctl_core.hooks import Plugin, Proceed
from grctl_core.outcome import Outcome
from grctl_core.run import RunInfo, RunRef
from grctl_tracing import names
from grctl_tracing.instruments import Instruments

__all__ = ["TracingPlugin"]

_SCOPE = "grctl_tracing"
_CLIENT = SpanKind.CLIENT
_NO_SPAN = trace.INVALID_SPAN
_FAILED = Status(StatusCode.ERROR)  # without a description: that would be an error's message, which is user data
_CARRIES_CONTEXT = frozenset({"run.start", "run.event", "run.cancel", "run.terminate"})
"""Commands whose message carries the trace on: what comes of them goes on after the reply."""
_COMMANDS = tuple(command.kind for command in get_args(Command))


class TracingPlugin(Plugin):
    """Traces and measures every operation of a client. One plugin may serve several clients.

    Without an OpenTelemetry SDK nothing is recorded; a trace context that came in is passed on nevertheless.

    Args:
        tracer_provider: where spans go; None for OpenTelemetry's global provider, also one that is set later.
        meter_provider: where measurements go; None likewise.
        propagator: writes the message headers; None for the W3C trace context alone.
            ``opentelemetry.propagate.get_global_textmap()`` also sends baggage, in most set-ups: to the broker, where
            others may read it.
        server_address: host name or address of the server, for the attribute ``server.address``; None leaves it out.
        server_port: its port, for ``server.port``.

    Raises:
        InvalidInputError: an argument is of the wrong type.
    """

    name = "tracing"

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        propagator: TextMapPropagator | None = None,
        server_address: str | None = None,
        server_port: int | None = None,
    ) -> None:
        _check("tracer_provider", tracer_provider, trace.TracerProvider)
        _check("meter_provider", meter_provider, metrics.MeterProvider)
        _check("propagator", propagator, TextMapPropagator)
        _check("server_address", server_address, str)
        _check("server_port", server_port, int)
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider, names.SCHEMA_URL)
        self._instruments = Instruments(
            metrics.get_meter(_SCOPE, __version__, meter_provider, schema_url=names.SCHEMA_URL)
        )
        self._propagator = propagator or TraceContextTextMapPropagator()
        self._needs_span = propagator is None  # the trace context alone: without a span there is nothing to write
        server = {names.SERVER_ADDRESS: server_address, names.SERVER_PORT: server_port}
        self._server: dict[str, Any] = {name: value for name, value in server.items() if value is not None}
        self._active_calls = self._instruments.active_calls
        self._call_duration = self._instruments.call_duration
        self._attempts_sent = self._instruments.attempts
        self._rpc = {
            operation: (method, {names.RPC_SYSTEM: names.SYSTEM, names.RPC_METHOD: method, **self._server})
            for operation, method in names.METHODS.items()
        }
        self._attempts = {kind: {names.COMMAND: kind, **self._server} for kind in _COMMANDS}
        self._waits: Counter[str] = Counter()  # by run id

    async def grctl_operation(self, call: Any, proceed: Proceed[Any, Any]) -> Any:
        """Put a span around it that covers all its attempts; around waiting only a measurement."""
        operation = call.operation
        if operation == "result":
            return await self._wait(call, proceed)
        name, attributes = self._rpc[operation]
        span = self._tracer.start_span(name, None, _CLIENT, attributes, None, None, False, False)  # as _start_span
        entered = None if span is _NO_SPAN else self._enter(call, span)
        self._active_calls.add(1, attributes)
        begun = perf_counter()
        try:
            result = await proceed(call)
        except BaseException as error:
            self._call_ended(call, perf_counter() - begun, span, None, error)
            _leave(entered, span, error)
            raise
        if span is _NO_SPAN:  # the usual way without an SDK, and the shortest
            self._active_calls.add(-1, attributes)
            self._call_duration.record(perf_counter() - begun, attributes)
            return result
        self._call_ended(call, perf_counter() - begun, span, result, None)
        _leave(entered, span)
        return result

    async def grctl_attempt(self, attempt: Attempt, proceed: Proceed[Attempt, Reply]) -> Reply:
        """Put a span around it, and its context into the message's headers."""
        kind = attempt.kind
        attributes = self._attempts[kind]
        span = trace.get_current_span()
        carries = kind in _CARRIES_CONTEXT and not (span is _NO_SPAN and self._needs_span)
        entered = None
        if span.is_recording():  # where the operation's span is not recorded, those of its attempts are not either
            span_kind = SpanKind.PRODUCER if carries else _CLIENT
            span = self._start_span(kind, span_kind, {**attributes, names.ATTEMPT_NUMBER: attempt.number})
            entered = attach(trace.set_span_in_context(span))
        try:
            if carries:
                attempt = self._with_context(attempt)
            reply = await proceed(attempt)
        except BaseException as error:
            self._attempt_ended(attributes, span if entered else None, names.failure_attributes(error))
            _leave(entered, span, error)
            raise
        if entered is None and reply.success:
            self._attempts_sent.add(1, attributes)
            return reply
        self._attempt_ended(attributes, span if entered else None, None if reply.success else _refusal(reply))
        _leave(entered, span)
        return reply

    def grctl_retry_scheduled(self, call: CommandCall, error: Exception, delay: float, attempt: int) -> None:
        """Note it on the operation's span."""
        span = call.state.get(self.name)
        if isinstance(span, Span):
            numbers = {names.RETRY_DELAY: delay, names.RETRY_ATTEMPT: attempt}
            span.add_event(names.RETRY_EVENT, {**names.failure_attributes(error), **numbers})

    def grctl_run_ended(self, run: RunInfo, outcome: Outcome[Any], waited: float, state: Mapping[str, Any]) -> None:
        """Report the end to who looked at ``handle.future``; a waiting call reports its own."""
        if run.id not in self._waits:
            self._report_wait(run.ref, waited, state, _end_attributes(outcome))

    def _start_span(
        self, name: str, kind: SpanKind, attributes: Mapping[str, Any], links: Sequence[Link] | None = None
    ) -> Span:
        # Not by keyword: without an SDK that would be the larger part of the cost. The last two are record_exception
        # and set_status_on_exception: an error's message is user data.
        return self._tracer.start_span(name, None, kind, attributes, links, None, False, False)

    def _enter(self, call: CommandCall, span: Span) -> Token[Context] | None:
        """Make it the current span, where that changes anything; return what leaving it needs."""
        if span.is_recording():
            call.state[self.name] = span
        elif span.get_span_context() == trace.get_current_span().get_span_context():
            return None  # there is no SDK: it is the one that came in
        return attach(trace.set_span_in_context(span))  # a span not sampled, too: that holds for what is inside

    def _call_ended(
        self, call: CommandCall, seconds: float, span: Span, result: object, error: BaseException | None
    ) -> None:
        """Measure and describe it, while the span is current: exemplars lead from the histogram to the trace."""
        attributes = self._rpc[call.operation][1]
        self._active_calls.add(-1, attributes)
        failure = None if error is None else names.failure_attributes(error)
        self._call_duration.record(seconds, attributes if failure is None else {**attributes, **failure})
        if span.is_recording():
            # Of a start that attached, and of get_handle, the run is known only now.
            run = result.ref if isinstance(result, RunInfo) else call.run
            span.set_attributes({**_call_attributes(call), **_run_attributes(run), names.ATTEMPT_TOTAL: call.attempts})
            call.state[self.name] = span.get_span_context()  # a handle keeps it: the end of the wait links to it
            _set_failure(span, failure)

    def _with_context(self, attempt: Attempt) -> Attempt:
        headers: dict[str, str] = {}
        self._propagator.inject(headers)
        return attempt.replace(headers={**attempt.headers, **headers}) if headers else attempt

    def _attempt_ended(self, attributes: Mapping[str, Any], span: Span | None, failure: dict[str, str] | None) -> None:
        self._attempts_sent.add(1, attributes if failure is None else {**attributes, **failure})
        if span is not None:
            _set_failure(span, failure)

    async def _wait(self, call: ResultCall, proceed: Proceed[Any, Any]) -> Any:
        attributes = {names.WORKFLOW_TYPE: call.workflow_type or "", **self._server}
        self._instruments.active_waits.add(1, attributes)
        self._waits[call.run_id] += 1
        begun = perf_counter()
        end: Mapping[str, str] = {}
        try:
            outcome: Outcome[Any] = await proceed(call)
            end = _end_attributes(outcome)
        except BaseException as error:
            end = names.failure_attributes(error)
            raise
        finally:
            seconds = perf_counter() - begun
            self._instruments.active_waits.add(-1, attributes)
            self._waits[call.run_id] -= 1
            if not self._waits[call.run_id]:
                del self._waits[call.run_id]
            self._report_wait(call.run, seconds, call.handle_state, end)
        return outcome

    def _report_wait(self, run: RunRef, seconds: float, kept: Mapping[str, Any], end: Mapping[str, str]) -> None:
        """Measure a wait that is over, and leave a short span that leads to the trace of the start."""
        start = kept.get(self.name)
        links = [Link(start)] if isinstance(start, SpanContext) else None
        span = self._start_span(names.METHODS["result"], SpanKind.INTERNAL, self._server, links)
        attributes = {names.WORKFLOW_TYPE: run.wf_type or "", **self._server, **end}
        if not span.is_recording():
            self._instruments.wait_duration.record(seconds, attributes)
            return
        self._instruments.wait_duration.record(seconds, attributes, trace.set_span_in_context(span))
        span.set_attributes({**_run_attributes(run), names.WAIT_DURATION: seconds, **end})
        if names.ERROR_TYPE in end:
            span.set_status(_FAILED)
        span.end()


def _leave(entered: Token[Context] | None, span: Span, error: BaseException | None = None) -> None:
    if entered is not None:
        # A coroutine that nobody finishes is closed by the garbage collector, in a context that is not its own.
        if not isinstance(error, GeneratorExit) or trace.get_current_span() is span:
            detach(entered)
        span.end()


def _set_failure(span: Span, failure: Mapping[str, str] | None) -> None:
    if failure is not None:
        span.set_attributes(failure)
        span.set_status(_FAILED)


def _refusal(reply: Reply) -> dict[str, str]:
    code = "unknown" if reply.error is None else str(reply.error.code)
    return {names.ERROR_TYPE: code, names.RPC_STATUS_CODE: code}


def _end_attributes(outcome: Outcome[Any]) -> dict[str, str]:
    """Say how a run ended; of one that did not complete also our error class, never the workflow's own error."""
    status = {names.RUN_STATUS: outcome.status.value}
    return status if outcome.completed else {**status, **names.failure_attributes(outcome.to_error())}


def _run_attributes(run: RunRef) -> dict[str, str]:
    known = {names.WORKFLOW_ID: run.wf_id, names.WORKFLOW_TYPE: run.wf_type, names.RUN_ID: run.run_id}
    return {name: value for name, value in known.items() if value}


def _call_attributes(call: CommandCall) -> dict[str, str]:
    attributes = _run_attributes(call.run)
    if isinstance(call, SendCall):
        attributes[names.EVENT_NAME] = call.event_name
    elif isinstance(call, QueryCall):
        attributes[names.QUERY_NAME] = call.query_name
    return attributes


def _check(name: str, value: object, kind: type) -> None:
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise InvalidInputError(f"{name} must be a {kind.__name__} or None, not {type(value).__name__}")
