"""Workflow definitions: which handlers a workflow type has.

    wf = Workflow(workflow_type="ProcessOrder")

    @wf.start()
    async def start(ctx: Context, order_id: str, amount: float) -> Directive:
        return ctx.next.complete({"order_id": order_id, "paid": amount})

Handlers of steps and of events share one namespace: an event is handled by a step of its name
(docs/protocol.md, section 6). Queries have their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, TypeVar, overload

import msgspec

from grctl_core.durations import Duration, to_timedelta
from grctl_core.errors import InvalidInputError
from grctl_core.ids import check_event_name, check_id
from grctl_core.workflow_type import TypeInfo
from grctl_engine.binding import Binder, read_signature
from grctl_engine.directive import NextBuilder
from grctl_engine.state import START_STEP

__all__ = [
    "DEFAULT_HANDLER_TIMEOUT",
    "DEFAULT_STEP_TIMEOUT",
    "Definition",
    "Handler",
    "HandlerKind",
    "Workflow",
]

DEFAULT_HANDLER_TIMEOUT = timedelta(minutes=5)
"""How long start and event handlers without a timeout may run: they are registered without one, and the server then
takes five minutes (docs/protocol.md, section 6)."""

DEFAULT_STEP_TIMEOUT = timedelta(seconds=10)
"""How long a step without a timeout may run: the server's SDK registers this (docs/protocol.md, section 6)."""

F = TypeVar("F", bound=Callable[..., Any])


class HandlerKind(Enum):
    """What a handler is for."""

    START = "start"
    STEP = "step"
    EVENT = "event"
    QUERY = "query"


_INPUTS = {
    HandlerKind.START: ("input", "the run was started without input"),
    HandlerKind.STEP: ("payload", "ctx.next.step() passes nothing: keep what a step needs in ctx.store"),
    HandlerKind.EVENT: ("payload", "the event has no payload"),
    HandlerKind.QUERY: ("arguments", "the query has no arguments"),
}
"""By kind of handler: what comes in, and what to say when nothing does."""


class Handler(msgspec.Struct, frozen=True, kw_only=True):
    """One handler of a workflow.

    Attributes:
        kind: what it is for.
        name: the step's, event's or query's name.
        function: the ``async def`` itself.
        timeout: how long it may run.
        declared_timeout: the timeout that its decorator was given, None for none.
        binder: binds the input; None until the workflow is registered with an engine.
    """

    kind: HandlerKind
    name: str
    function: Callable[..., Any]
    timeout: timedelta
    declared_timeout: timedelta | None = None
    binder: Binder | None = None


class Definition(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A workflow type as an engine has it, all annotations resolved.

    Attributes:
        workflow_type: its name.
        steps: handlers of start, steps and events by name.
        queries: handlers of queries by name.
        step_timeouts: how long each of ``steps`` may run.
        next: ``ctx.next`` of its handlers.
        info: what a client can learn of it.
    """

    workflow_type: str
    steps: Mapping[str, Handler]
    queries: Mapping[str, Handler]
    step_timeouts: Mapping[str, timedelta]
    next: NextBuilder
    info: TypeInfo


class Workflow:
    """A workflow type: give it handlers with its decorators, and register it with an engine or a worker."""

    def __init__(self, workflow_type: str) -> None:
        """Define a workflow type.

        Raises:
            InvalidInputError: the name is empty, or has white space, a dot, ``*`` or ``>``.

        """
        self.workflow_type = check_id("workflow_type", workflow_type)
        self._steps: dict[str, Handler] = {}
        self._queries: dict[str, Handler] = {}

    def __repr__(self) -> str:
        return f"<Workflow {self.workflow_type!r}: {', '.join([*self._steps, *self._queries]) or 'no handlers'}>"

    @overload
    def start(self, timeout: F, /) -> F: ...
    @overload
    def start(self, timeout: Duration | None = None) -> Callable[[F], F]: ...
    def start(self, timeout: Any = None) -> Any:
        """Make a handler the one that a run begins with. It gets the input.

        Args:
            timeout: how long it may run, a ``timedelta`` or seconds; five minutes when left out.

        Raises:
            InvalidInputError: there is one already, or it is no handler.

        """
        if _is_handler(timeout):
            return self._add(HandlerKind.START, START_STEP, None, timeout)
        return lambda function: self._add(HandlerKind.START, START_STEP, timeout, function)

    @overload
    def step(self, name: F, /) -> F: ...
    @overload
    def step(self, name: str | None = None, timeout: Duration | None = None) -> Callable[[F], F]: ...
    def step(self, name: Any = None, timeout: Duration | None = None) -> Any:
        """Make a handler a step, which ``ctx.next.step()`` or a wait's ``on_timeout`` leads to.

        Args:
            name: the step's name; the function's when left out.
            timeout: how long it may run, a ``timedelta`` or seconds; ten seconds when left out.

        Raises:
            InvalidInputError: the name is taken by a step or an event, or it is no handler.

        """
        return self._decorate(HandlerKind.STEP, name, timeout)

    @overload
    def event(self, name: F, /) -> F: ...
    @overload
    def event(self, name: str | None = None, timeout: Duration | None = None) -> Callable[[F], F]: ...
    def event(self, name: Any = None, timeout: Duration | None = None) -> Any:
        """Make a handler the one for an event. It gets the event's payload.

        Args:
            name: the event's name; the function's when left out.
            timeout: how long it may run, a ``timedelta`` or seconds; five minutes when left out.

        Raises:
            InvalidInputError: the name is taken by a step or an event, or it is no handler.

        """
        return self._decorate(HandlerKind.EVENT, name, timeout)

    @overload
    def query(self, name: F, /) -> F: ...
    @overload
    def query(self, name: str | None = None) -> Callable[[F], F]: ...
    def query(self, name: Any = None) -> Any:
        """Make a handler the one for a query.

        Args:
            name: the query's name; the function's when left out.

        Raises:
            InvalidInputError: the name is taken by another query, or it is no handler.

        """
        return self._decorate(HandlerKind.QUERY, name, None)

    def type_info(self) -> TypeInfo:
        """Return what a client can learn of this workflow type."""
        return TypeInfo(
            name=self.workflow_type,
            start_step=START_STEP,
            steps=self._names(HandlerKind.STEP),
            events=self._names(HandlerKind.EVENT),
            queries=tuple(self._queries),
        )

    def resolve(self) -> Definition:
        """Return the definition for an engine: what is added to the workflow later is not in it.

        Raises:
            InvalidInputError: there is no start handler, or an annotation cannot be resolved.

        """
        if START_STEP not in self._steps:
            raise InvalidInputError(
                f"workflow {self.workflow_type!r} has no start handler: decorate one with @wf.start()"
            )
        steps = {name: self._bound(handler) for name, handler in self._steps.items()}
        return Definition(
            workflow_type=self.workflow_type,
            steps=steps,
            queries={name: self._bound(handler) for name, handler in self._queries.items()},
            step_timeouts={name: handler.timeout for name, handler in steps.items()},
            next=NextBuilder(self.workflow_type, steps, {handler.function: name for name, handler in steps.items()}),
            info=self.type_info(),
        )

    def _bound(self, handler: Handler) -> Handler:
        title = "start()" if handler.kind is HandlerKind.START else f"{handler.kind.value} {handler.name!r}"
        what = f"{title} of workflow {self.workflow_type!r}"
        return msgspec.structs.replace(handler, binder=Binder(what, handler.function, *_INPUTS[handler.kind]))

    def _names(self, kind: HandlerKind) -> tuple[str, ...]:
        return tuple(name for name, handler in self._steps.items() if handler.kind is kind)

    def _decorate(self, kind: HandlerKind, name: Any, timeout: Duration | None) -> Any:
        if _is_handler(name):
            return self._add(kind, None, timeout, name)
        return lambda function: self._add(kind, name, timeout, function)

    def _add(self, kind: HandlerKind, name: Any, timeout: Any, function: F) -> F:
        where = f"@{kind.value} in workflow {self.workflow_type!r}"
        _check_function(where, function)
        if name is None:
            name = function.__name__
        try:
            check_event_name(name)
            declared = None if timeout is None else to_timedelta("timeout", timeout)
        except InvalidInputError as error:
            raise InvalidInputError(f"{where}: {str(error).replace('event_name', 'name')}") from None
        if not name and kind is not HandlerKind.EVENT:
            raise InvalidInputError(f"{where}: name is empty")
        taken = self._queries if kind is HandlerKind.QUERY else self._steps
        if name in taken:
            raise InvalidInputError(
                f"workflow {self.workflow_type!r} has two handlers named {name!r}: {taken[name].kind.value} "
                f"{_qualified(taken[name].function)}, and {kind.value} {_qualified(function)}. Steps and events share "
                "one namespace; rename one, or pass name="
            )
        default = DEFAULT_STEP_TIMEOUT if kind is HandlerKind.STEP else DEFAULT_HANDLER_TIMEOUT
        taken[name] = Handler(
            kind=kind, name=name, function=function, timeout=declared or default, declared_timeout=declared
        )
        return function


def _is_handler(value: object) -> bool:
    """Whether a decorator was used bare, so that what it got is the handler, or was meant to be."""
    return callable(value) or isinstance(value, staticmethod | classmethod)


def _qualified(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"


def _check_function(where: str, function: object) -> None:
    if not inspect.iscoroutinefunction(function) or not hasattr(function, "__name__"):
        what = "an async generator (it has a yield)" if inspect.isasyncgenfunction(function) else repr(function)
        raise InvalidInputError(f"{where}: a handler must be an 'async def' function, not {what}")
    parameters = list(read_signature(function).parameters.values())
    name = f"{where}: {function.__name__}()"
    if not parameters or not _is_context(parameters[0]):
        shown = f"is {parameters[0].name!r}" if parameters else "is missing"
        raise InvalidInputError(f"{name}: the first parameter must be the context, 'ctx: Context'; it {shown}")
    for parameter in parameters[1:]:
        if parameter.annotation is parameter.empty:
            raise InvalidInputError(
                f"{name}: parameter {parameter.name!r} has no annotation. What comes in is converted to it and "
                f"checked: write {parameter.name}: str, or {parameter.name}: Any for whatever comes"
            )


def _is_context(parameter: inspect.Parameter) -> bool:
    if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
        return False
    annotation = parameter.annotation
    shown = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return parameter.name in ("ctx", "_ctx", "_") or shown.rpartition(".")[2] == "Context"
