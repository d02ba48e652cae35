from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from grctl_core.errors import InvalidInputError
from grctl_core.workflow_type import TypeInfo
from grctl_engine.context import Context
from grctl_engine.definition import DEFAULT_HANDLER_TIMEOUT, DEFAULT_STEP_TIMEOUT, Workflow
from grctl_engine.directive import Directive

if TYPE_CHECKING:
    from decimal import Decimal

    OnlyForCheckers = Decimal


async def handler(ctx: Context) -> Directive:
    return ctx.next.complete()


def full_workflow() -> Workflow:
    wf = Workflow(workflow_type="W")

    @wf.start(timeout=3)
    async def begin(ctx: Context, order_id: str) -> Directive: ...

    @wf.step(timeout=timedelta(minutes=1))
    async def charge(ctx: Context) -> Directive: ...

    @wf.step()
    async def ship(ctx: Context) -> Directive: ...

    @wf.event(name="order.rejected")
    async def rejected(ctx: Context, why: str = "") -> Directive: ...

    @wf.event(timeout=2.5)
    async def approve(ctx: Context) -> Directive: ...

    @wf.query(name="state")
    async def ask(ctx: Context) -> str: ...

    return wf


def test_type_info():
    wf = full_workflow()
    assert wf.type_info() == TypeInfo(
        name="W", start_step="start", steps=("charge", "ship"), events=("order.rejected", "approve"), queries=("state",)
    )
    assert wf.resolve().info == wf.type_info()


def test_timeouts_and_their_defaults():
    assert full_workflow().resolve().step_timeouts == {
        "start": timedelta(seconds=3),
        "charge": timedelta(minutes=1),
        "ship": DEFAULT_STEP_TIMEOUT,
        "order.rejected": DEFAULT_HANDLER_TIMEOUT,
        "approve": timedelta(seconds=2.5),
    }


def test_the_defaults_are_the_servers():
    assert timedelta(minutes=5) == DEFAULT_HANDLER_TIMEOUT
    assert timedelta(seconds=10) == DEFAULT_STEP_TIMEOUT


@pytest.mark.parametrize("decorator", ["start", "step", "event", "query"])
@pytest.mark.parametrize("bare", [True, False])
def test_a_decorator_returns_the_function_unchanged(decorator, bare):
    decorate = getattr(Workflow(workflow_type="W"), decorator)
    assert (decorate if bare else decorate())(handler) is handler


@pytest.mark.parametrize("decorator", ["step", "event", "query"])
def test_a_name_by_position(decorator):
    wf = Workflow(workflow_type="W")
    getattr(wf, decorator)("other")(handler)
    info = wf.type_info()
    assert info.steps + info.events + info.queries == ("other",)


def test_a_timeout_by_position():
    wf = Workflow(workflow_type="W")
    wf.start(timedelta(seconds=7))(handler)
    assert wf.resolve().step_timeouts == {"start": timedelta(seconds=7)}


async def no_context() -> Directive: ...
async def other_first(order_id: str) -> Directive: ...
async def keyword_context(*, ctx: Context) -> Directive: ...
async def bare_parameter(ctx: Context, order_id) -> Directive: ...
async def bare_variadic(ctx: Context, *rest) -> Directive: ...
def plain(ctx: Context) -> Directive: ...


async def generator(ctx: Context):
    yield


class NoFunction:
    async def __call__(self, ctx: Context) -> Directive: ...


BAD_HANDLERS: dict[str, tuple[Any, str]] = {
    "no context": (no_context, "first parameter must be the context"),
    "another first parameter": (other_first, "it is 'order_id'"),
    "context by keyword only": (keyword_context, "first parameter must be the context"),
    "no annotation": (bare_parameter, r"'order_id' has no annotation.*order_id: str"),
    "variadic without annotation": (bare_variadic, "'rest' has no annotation"),
    "no async def": (plain, "async def"),
    "async generator": (generator, "yield"),
    "object": (NoFunction(), "async def"),
    "class": (NoFunction, "async def"),
    "partial": (functools.partial(handler), "async def"),
    "staticmethod": (staticmethod(handler), "async def"),
}


@pytest.mark.parametrize("decorator", ["start", "step", "event", "query"])
@pytest.mark.parametrize("case", BAD_HANDLERS)
def test_a_bad_handler_is_refused_by_every_decorator(decorator, case):
    function, message = BAD_HANDLERS[case]
    decorate: Callable[..., Any] = getattr(Workflow(workflow_type="W"), decorator)
    with pytest.raises(InvalidInputError, match=rf"@{decorator} in workflow 'W'.*{message}"):
        decorate(function)
    with pytest.raises(InvalidInputError, match=message):
        decorate()(function)


@pytest.mark.parametrize("first", ["step", "event"])
@pytest.mark.parametrize("second", ["step", "event"])
def test_two_handlers_of_one_name(first, second):
    wf = Workflow(workflow_type="W")
    getattr(wf, first)(name="x")(handler)
    with pytest.raises(InvalidInputError, match=rf"two handlers named 'x': {first} .*handler, and {second} .*handler"):
        getattr(wf, second)(name="x")(handler)


def test_two_start_handlers_and_a_step_named_start():
    wf = Workflow(workflow_type="W")
    wf.start(handler)
    with pytest.raises(InvalidInputError, match="two handlers named 'start'"):
        wf.start(handler)
    with pytest.raises(InvalidInputError, match="two handlers named 'start'"):
        wf.step(name="start")(handler)


def test_queries_have_names_of_their_own():
    wf = Workflow(workflow_type="W")
    wf.step(name="x")(handler)
    wf.query(name="x")(handler)
    with pytest.raises(InvalidInputError, match="two handlers named 'x'"):
        wf.query(name="x")(handler)


@pytest.mark.parametrize("timeout", [0, -1, "1 s", True, timedelta(0), float("inf")])
@pytest.mark.parametrize("decorator", ["start", "step", "event"])
def test_a_bad_timeout(decorator, timeout):
    with pytest.raises(InvalidInputError, match=rf"@{decorator} in workflow 'W': timeout"):
        getattr(Workflow(workflow_type="W"), decorator)(timeout=timeout)(handler)


@pytest.mark.parametrize("name", [7, b"x", "x" * 2000, "\ud800"])
@pytest.mark.parametrize("decorator", ["step", "event", "query"])
def test_a_bad_name(decorator, name):
    with pytest.raises(InvalidInputError, match=rf"@{decorator} in workflow 'W': name"):
        getattr(Workflow(workflow_type="W"), decorator)(name=name)(handler)


def test_an_event_name_may_be_empty_as_on_the_server_but_a_steps_may_not():
    Workflow(workflow_type="W").event(name="")(handler)
    with pytest.raises(InvalidInputError, match="name is empty"):
        Workflow(workflow_type="W").step(name="")(handler)


@pytest.mark.parametrize("workflow_type", ["", "a b", "a.b", "*", None, 7])
def test_a_bad_workflow_type(workflow_type):
    with pytest.raises(InvalidInputError, match="workflow_type"):
        Workflow(workflow_type=workflow_type)


def test_no_start_handler():
    wf = Workflow(workflow_type="W")
    wf.step(handler)
    with pytest.raises(InvalidInputError, match=r"'W' has no start handler: decorate one with @wf.start\(\)"):
        wf.resolve()


def test_an_annotation_that_cannot_be_resolved():
    wf = Workflow(workflow_type="W")

    @wf.start()
    async def start(ctx: Context, order: OnlyForCheckers) -> Directive: ...

    with pytest.raises(InvalidInputError, match=r"start\(\) of workflow 'W'.*'order', 'OnlyForCheckers'.*TYPE_CH"):
        wf.resolve()


def test_annotations_of_context_and_return_need_not_resolve():
    wf = Workflow(workflow_type="W")

    @wf.start()
    async def start(ctx: OnlyForCheckers, order_id: str) -> OnlyForCheckers: ...

    assert wf.resolve().steps["start"].binder is not None


def test_an_annotation_that_nothing_decodes_to():
    wf = Workflow(workflow_type="W")

    @wf.start()
    async def start(ctx: Context, x: dict[str, int] | dict[int, str]) -> Directive: ...

    with pytest.raises(InvalidInputError, match=r"start\(\) of workflow 'W': x"):
        wf.resolve()


def test_a_wrapped_handler_is_read_through():
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        async def wrapper(ctx: Context, *args: Any, **kwargs: Any) -> Directive:
            return await function(ctx, *args, **kwargs)

        return wrapper

    wf = Workflow(workflow_type="W")

    @wf.start()
    @logged
    async def start(ctx: Context, order_id: str) -> Directive: ...

    binder = wf.resolve().steps["start"].binder
    assert binder is not None
    assert [parameter.name for parameter in binder.parameters] == ["order_id"]


def test_repr_names_the_handlers():
    assert repr(Workflow(workflow_type="W")) == "<Workflow 'W': no handlers>"
    assert repr(full_workflow()) == "<Workflow 'W': start, charge, ship, order.rejected, approve, state>"
