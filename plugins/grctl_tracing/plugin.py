"""TracingPlugin: a span around each operation, one around each attempt in it, and metrics."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextvars import Token
from time import perf_counter
from typing import Any, get_args

from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from grctl_core import __version__
from grctl_core.attempt import Attempt
from grctl_core.calls import CommandCall, ResultCall
from grctl_core.commands import Command, Reply
from grctl_core.errors import InvalidInputError
from grctl_core.hooks import Plugin, Proceed
from grctl_core.outcome import Outcome
from grctl_core.run import RunInfo, RunRef
from grctl_tracing import names
from grctl_tracing.attributes import call_attributes, end_attributes, refusal_attributes, run_attributes
from grctl_tracing.instruments import Instruments
from grctl_tracing.kept import Kept

__all__ = ["TracingPlugin"]

_log = logging.getLogger("grctl.tracing")

_SCOPE = "grctl_tracing"
_CLIENT = SpanKind.CLIENT
_NO_SPAN: Span = trace.INVALID_SPAN
_FAILED = Status(StatusCode.ERROR)  # without a description: that would be an error's message, which is user data
_CARRIES_CONTEXT = frozenset({"run.start", "run.event", "run.cancel", "run.terminate"})
"""Commands whose message carries the trace on: what comes of them goes on after the reply."""
_COMMANDS = tuple(command.kind for command in get_args(Command))
_MAKES_A_HANDLE = frozenset({"start", "describe"})


class TracingPlugin(Plugin):
    """Traces and measures every operation of a client. One plugin may serve several clients.

    Without an OpenTelemetry SDK nothing is recorded; a trace context that came in is passed on nevertheless. What a
    tracing set-up raises breaks no call: the first time it is logged, as a warning of the logger ``grctl.tracing``.

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
        self._broke = False

    async def grctl_operation(self, call: Any, proceed: Proceed[Any, Any]) -> Any:
        """Put a span around it that covers all its attempts; around waiting only a measurement."""
        operation = call.operation
        if operation == "result":
            return await self._wait(call, proceed)
        name, attributes = self._rpc[operation]
        span, entered = _NO_SPAN, None
        try:
            span = self._tracer.start_span(name, None, _CLIENT, attributes, None, None, False, False)  # as _start_span
            entered = None if span is _NO_SPAN else self._enter(call, span)
        except Exception as broken:  # noqa: BLE001 - see _complain
            self._complain(broken)
        try:
            self._active_calls.add(1, attributes)
        except Exception as broken:  # noqa: BLE001 - see _complain
            self._complain(broken)
        begun = perf_counter()
        try:
            result = await proceed(call)
        except BaseException as error:
            self._call_ended(call, perf_counter() - begun, span, None, error)
            self._leave(entered, span, error)
            raise
        if span is not _NO_SPAN:
            self._call_ended(call, perf_counter() - begun, span, result, None)
            self._leave(entered, span)
            return result
        if operation in _MAKES_A_HANDLE:  # the usual way without an SDK, and the shortest
            call.state[self.name] = Kept()
        try:
            self._active_calls.add(-1, attributes)
            self._call_duration.record(perf_counter() - begun, attributes)
        except Exception as broken:  # noqa: BLE001 - see _complain
            self._complain(broken)
        return result

    async def grctl_attempt(self, attempt: Attempt, proceed: Proceed[Attempt, Reply]) -> Reply:
        """Put a span around it, and its context into the message's headers."""
        kind = attempt.kind
        attributes = self._attempts[kind]
        span = trace.get_current_span()
        carries = kind in _CARRIES_CONTEXT and not (span is _NO_SPAN and self._needs_span)
        entered = None
        try:
            if span.is_recording():  # where the operation's span is not recorded, those of its attempts are not either
                span_kind = SpanKind.PRODUCER if carries else _CLIENT
                made = self._start_span(kind, span_kind, {**attributes, names.ATTEMPT_NUMBER: attempt.number})
                if made is not _NO_SPAN:  # what a tracer without an SDK makes, before OpenTelemetry 1.40
                    span = made
                    entered = attach(trace.set_span_in_context(span))
        except Exception as broken:  # noqa: BLE001 - see _complain
            self._complain(broken)
        if carries:
            attempt = self._with_context(attempt)
        try:
            reply = await proceed(attempt)
        except BaseException as error:
            self._attempt_ended(attributes, span if entered else None, names.failure_attributes(error))
            self._leave(entered, span, error)
            raise
        if entered is not None or not reply.success:
            failure = None if reply.success else refusal_attributes(reply)
            self._attempt_ended(attributes, span if entered else None, failure)
            self._leave(entered, span)
            return reply
        try:
            self._attempts_sent.add(1, attributes)
        except Exception as broken:  # noqa: BLE001 - see _complain
            self._complain(broken)
        return reply

    def grctl_retry_scheduled(self, call: CommandCall, error: Exception, delay: float, attempt: int) -> None:
        """Note it on the operation's span."""
        kept = call.state.get(self.name)
        if isinstance(kept, Kept) and kept.span is not None:
            numbers = {names.RETRY_DELAY: delay, names.RETRY_ATTEMPT: attempt}
            try:
                kept.span.add_event(names.RETRY_EVENT, {**names.failure_attributes(error), **numbers})
            except Exception as broken:  # noqa: BLE001 - see _complain
                self._complain(broken)

    def grctl_run_ended(self, run: RunInfo, outcome: Outcome[Any], waited: float, state: Mapping[str, Any]) -> None:
        """Report the end to who looked at ``handle.future`` alone; a waiting call reports its own."""
        kept = state.get(self.name)
        if isinstance(kept, Kept) and not kept.waited:
            self._report_wait(run.ref, waited, kept, end_attributes(outcome))

    def _complain(self, error: Exception) -> None:
        """Log what broke in the tracing set-up, once: the call goes on, and must not fill the log either."""
        if not self._broke:
            self._broke = True
            _log.warning("the tracing set-up raised an error: traces are incomplete, calls go on", exc_info=error)

    def _add(
        self, counter: metrics.Counter | metrics.UpDownCounter, change: int, attributes: Mapping[str, Any]
    ) -> None:
        try:
            counter.add(change, attributes)
        except Exception as broken:  # noqa: BLE001 - see _complain
            self._complain(broken)

    def _start_span(
        self, name: str, kind: SpanKind, attributes: Mapping[str, Any], links: Sequence[Link] | None = None
    ) -> Span:
        # Not by keyword: without an SDK that would be the larger part of the cost. The last two are record_exception
        # and set_status_on_exception: an error's message is user data.
        return self._tracer.start_span(name, None, kind, attributes, links, None, False, False)

    def _enter(self, call: CommandCall, span: Span) -> Token[Context] | None:
        """Make it the current span, where that changes anything; return what leaving it needs."""
        if span.is_recording():
            call.state[self.name] = kept = Kept()
            kept.span = span
        elif span.get_span_context() == trace.get_current_span().get_span_context():
            return None  # there is no SDK: it is the one that came in
        return attach(trace.set_span_in_context(span))  # a span not sampled, too: that holds for what is inside

    def _call_ended(
        self, call: CommandCall, seconds: float, span: Span, result: object, error: BaseException | None
    ) -> None:
        """Measure and describe it, while the span is current: exemplars lead from the histogram to the trace."""
        attributes = self._rpc[call.operation][1]
        failure = None if error is None else names.failure_attributes(error)
        kept = call.state.get(self.name)
        if isinstance(kept, Kept):
            kept.span, kept.start = None, span.get_span_context()  # the end of the wait links to it
        elif call.operation in _MAKES_A_HANDLE:
            call.state[self.name] = Kept()
        self._add(self._active_calls, -1, attributes)
        try:
            self._call_duration.record(seconds, attributes if failure is None else {**attributes, **failure})
            if kept is not None:
                # Of a start that attached, and of get_handle, the run is known only now.
                run = result.ref if isinstance(result, RunInfo) else call.run
                span.set_attributes(
                    {**call_attributes(call), **run_attributes(run), names.ATTEMPT_TOTAL: call.attempts}
                )
                _set_failure(span, failure)
        except Exception as broken:  # noqa: BLE001 - see _complain
            self._complain(broken)

    def _with_context(self, attempt: Attempt) -> Attempt:
        headers: dict[str, str] = {}
        try:
            self._propagator.inject(headers)
            return attempt.replace(headers={**attempt.headers, **headers}) if headers else attempt
        except Exception as broken:  # noqa: BLE001 - see _complain
            self._complain(broken)
            return attempt

    def _attempt_ended(self, attributes: Mapping[str, Any], span: Span | None, failure: dict[str, str] | None) -> None:
        self._add(self._attempts_sent, 1, attributes if failure is None else {**attributes, **failure})
        if span is not None:
            _set_failure(span, failure)

    def _leave(self, entered: Token[Context] | None, span: Span, error: BaseException | None = None) -> None:
        if entered is None:
            return
        # A coroutine that nobody finishes is closed by the garbage collector, in a context that is not its own.
        if not isinstance(error, GeneratorExit) or trace.get_current_span() is span:
            detach(entered)
        try:
            span.end()
        except Exception as broken:  # noqa: BLE001 - see _complain
            self._complain(broken)

    async def _wait(self, call: ResultCall, proceed: Proceed[Any, Any]) -> Any:
        attributes = {names.WORKFLOW_TYPE: call.workflow_type or "", **self._server}
        kept = call.handle_state.get(self.name)
        if isinstance(kept, Kept):
            kept.waited = True
        self._add(self._instruments.active_waits, 1, attributes)
        begun = perf_counter()
        end: Mapping[str, str] = {}
        try:
            outcome: Outcome[Any] = await proceed(call)
            end = end_attributes(outcome)
        except BaseException as error:
            end = names.failure_attributes(error)
            raise
        finally:
            seconds = perf_counter() - begun
            self._add(self._instruments.active_waits, -1, attributes)
            self._report_wait(call.run, seconds, kept, end)
        return outcome

    def _report_wait(self, run: RunRef, seconds: float, kept: object, end: Mapping[str, str]) -> None:
        """Measure a wait that is over, and leave a short span that leads to the trace of the start."""
        start = kept.start if isinstance(kept, Kept) else None
        attributes = {names.WORKFLOW_TYPE: run.wf_type or "", **self._server, **end}
        span = _NO_SPAN
        try:
            links = None if start is None else [Link(start)]
            span = self._start_span(names.METHODS["result"], SpanKind.INTERNAL, self._server, links)
        except Exception as broken:  # noqa: BLE001 - see _complain
            self._complain(broken)
        try:
            if not span.is_recording():
                self._instruments.wait_duration.record(seconds, attributes)
                return
            self._instruments.wait_duration.record(seconds, attributes, trace.set_span_in_context(span))
            span.set_attributes({**run_attributes(run), names.WAIT_DURATION: seconds, **end})
            if names.ERROR_TYPE in end:
                span.set_status(_FAILED)
            span.end()
        except Exception as broken:  # noqa: BLE001 - see _complain
            self._complain(broken)


def _set_failure(span: Span, failure: Mapping[str, str] | None) -> None:
    if failure is not None:
        span.set_attributes(failure)
        span.set_status(_FAILED)


def _check(name: str, value: object, kind: type) -> None:
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise InvalidInputError(f"{name} must be a {kind.__name__} or None, not {type(value).__name__}")
