"""Bad input: each has an error of its own that says what to do, and nothing is sent."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timedelta

import pytest

import grctl
from grctl import (
    Client,
    GrctlError,
    InvalidInputError,
    UnsupportedOperationError,
    WorkflowAlreadyRunningError,
    WorkflowError,
    WorkflowFinishedError,
    WorkflowNotFoundError,
    WorkflowTypeNotRegisteredError,
)
from grctl.models import errors as models_errors
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

from .helpers import collect, waiting

BAD_IDS = [
    ("", "is empty"),
    (None, "must be a string, not NoneType"),
    (7, "must be a string, not int"),
    (b"order", "must be a string, not bytes"),
    ("with space", "position 4"),
    ("tab\tbed", "position 3"),
    ("new\nline", "position 3"),
    (" leading", "position 0"),
    ("no\u00a0break", "position 2"),
    ("with.dot", "position 4"),
    ("*", "position 0"),
    (">", "position 0"),
    ("a*b", "position 1"),
    ("null\x00", "position 4"),
    ("bell\x07", "position 4"),
    ("del\x7f", "position 3"),
    ("lone\ud800surrogate", "surrogate at position 4"),
    ("x" * 2000, "2000 bytes"),
    ("\u00e9" * 600, "1200 bytes"),
]


def shown(value: object) -> str:
    return ascii(value)[:20] if isinstance(value, str) else type(value).__name__ if not isinstance(value, int) else "7"


@pytest.mark.parametrize(("value", "message"), BAD_IDS, ids=shown)
async def test_bad_workflow_ids(client, value, message):
    with pytest.raises(InvalidInputError, match=f"workflow_id.*{message}"):
        await client.start_workflow("ReturnsItsInput", value)
    with pytest.raises(InvalidInputError, match=f"workflow_id.*{message}"):
        await client.run_workflow("ReturnsItsInput", value)
    with pytest.raises(InvalidInputError, match=f"workflow_id.*{message}"):
        await client.get_handle(value)


@pytest.mark.parametrize(("value", "message"), BAD_IDS, ids=shown)
async def test_bad_workflow_types(client, unique_id, value, message):
    with pytest.raises(InvalidInputError, match=f"workflow_type.*{message}"):
        await client.start_workflow(value, unique_id())


@pytest.mark.parametrize(("value", "message"), [bad for bad in BAD_IDS if bad[0] is not None], ids=shown)
async def test_bad_run_ids(client, unique_id, value, message):
    with pytest.raises(InvalidInputError, match=f"run_id.*{message}"):
        await client.get_handle(unique_id(), run_id=value)


@pytest.mark.parametrize("name", ["order-1", "a_b:c/d@e+f=g", "\u00e9t\u00e9", "\u6ce8\u6587", "x" * 200])
async def test_good_workflow_ids(client, unique_id, name):
    wf_id = unique_id(name)
    handle = await client.start_workflow("ReturnsItsInput", wf_id, 1)
    assert await handle.result() == 1
    assert (await client.get_handle(wf_id)).run_info.wf_id == wf_id


async def test_nothing_is_sent_when_the_input_is_bad(client, unique_id):
    wf_id = unique_id()
    with pytest.raises(InvalidInputError):
        await client.start_workflow("ReturnsItsInput", wf_id, object())
    with pytest.raises(InvalidInputError):
        await client.start_workflow("ReturnsItsInput", wf_id, workflow_timeout=-1)
    with pytest.raises(WorkflowNotFoundError):
        await client.get_handle(wf_id)


# --- durations

BAD_DURATIONS = [
    (0, "above zero"),
    (-1, "above zero"),
    (-0.5, "above zero"),
    (timedelta(0), "above zero"),
    (timedelta(seconds=-1), "above zero"),
    (float("nan"), "above zero"),
    (float("inf"), "leave it out"),
    ("5", "timedelta or a number of seconds, not str"),
    (True, "timedelta or a number of seconds, not bool"),
    ([5], "timedelta or a number of seconds, not list"),
]


@pytest.mark.parametrize(("value", "message"), BAD_DURATIONS, ids=str)
async def test_bad_workflow_timeouts(client, unique_id, value, message):
    with pytest.raises(InvalidInputError, match=f"workflow_timeout.*{message}"):
        await client.start_workflow("ReturnsItsInput", unique_id(), workflow_timeout=value)
    with pytest.raises(InvalidInputError, match=f"workflow_timeout.*{message}"):
        await client.run_workflow("ReturnsItsInput", unique_id(), workflow_timeout=value)


@pytest.mark.parametrize(("value", "message"), BAD_DURATIONS, ids=str)
async def test_bad_request_timeouts(connection, client, unique_id, value, message):
    with pytest.raises(InvalidInputError, match=f"request_timeout.*{message}"):
        Client(connection=connection, request_timeout=value)
    with pytest.raises(InvalidInputError, match=f"request_timeout.*{message}"):
        await client.start_workflow("ReturnsItsInput", unique_id(), request_timeout=value)
    with pytest.raises(InvalidInputError, match=f"request_timeout.*{message}"):
        await client.get_handle(unique_id(), request_timeout=value)
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    for call in (handle.describe, handle.cancel, handle.terminate):
        with pytest.raises(InvalidInputError, match=f"request_timeout.*{message}"):
            await call(request_timeout=value)
    with pytest.raises(InvalidInputError, match=f"request_timeout.*{message}"):
        await handle.send("approve", request_timeout=value)
    assert not (await handle.describe()).is_finished
    await handle.terminate()


@pytest.mark.parametrize("value", [5, 0.5, timedelta(seconds=5)])
async def test_good_durations(client, unique_id, value):
    handle = await client.start_workflow(
        "ReturnsItsInput", unique_id(), 1, workflow_timeout=timedelta(minutes=1), request_timeout=value
    )
    await handle.describe(request_timeout=value)
    assert await handle.result(timeout=60) == 1


# --- values

CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), r"workflow_input cannot be encoded \(object\)"),
        ({"order": {"items": [1, object()]}}, r"workflow_input\['order'\]\['items'\]\[1\] cannot be encoded"),
        ({"order": lambda: 1}, r"workflow_input\['order'\] cannot be encoded \(function\)"),
        ({"n": 2**64}, r"workflow_input\['n'\] cannot be encoded \(int\)"),
        ({"s": "\ud800"}, r"workflow_input\['s'\] cannot be encoded \(str\)"),
        ({"when": datetime(2026, 1, 1)}, r"workflow_input\['when'\] is a datetime without a time zone"),  # noqa: DTZ001
        ([datetime(2026, 1, 1)], r"workflow_input\[0\] is a datetime without a time zone"),  # noqa: DTZ001
        (CIRCLE, "nested too deeply, or contains itself"),
    ],
    ids=["object", "deep", "function", "int", "surrogate", "naive", "naive_in_list", "circle"],
)
async def test_values_that_cannot_be_sent_name_the_path(client, unique_id, value, message):
    with pytest.raises(InvalidInputError, match=message):
        await client.start_workflow("ReturnsItsInput", unique_id(), value)


async def test_a_string_that_looks_like_a_naive_datetime_is_a_string(client, unique_id):
    value = "2026-01-02T03:04:05"
    assert await client.run_workflow("ReturnsItsInput", unique_id(), value) == value


# --- what the server refuses


async def test_refusals_carry_the_servers_code(client, unique_id):
    wf_id = unique_id()
    running = await client.start_workflow("WaitsForApproval", wf_id)
    with pytest.raises(WorkflowAlreadyRunningError) as again:
        await client.start_workflow("WaitsForApproval", wf_id)
    with pytest.raises(WorkflowNotFoundError) as unknown:
        await client.get_handle(unique_id())
    with pytest.raises(WorkflowTypeNotRegisteredError) as unregistered:
        await client.start_workflow("NobodyHasThis", unique_id())
    assert (again.value.code, unknown.value.code, unregistered.value.code) == (4001, 4002, 4004)
    await running.terminate()


async def test_messages_say_which_run_and_what_to_do(client, unique_id):
    wf_id = unique_id()
    handle = await client.start_workflow("WaitsForApproval", wf_id)
    with pytest.raises(WorkflowAlreadyRunningError, match=f"{wf_id}.*{handle.run_info.id}.*another workflow id"):
        await client.start_workflow("WaitsForApproval", wf_id)
    with pytest.raises(WorkflowTypeNotRegisteredError, match="start a worker that has it, or check the spelling"):
        await client.start_workflow("NobodyHasThis", unique_id())
    await waiting(handle)
    await handle.terminate()
    await handle.outcome()
    with pytest.raises(WorkflowFinishedError, match=f"{handle.run_info.id}.*terminated"):
        await handle.send("approve")


async def test_errors_survive_pickle_and_copy(client, unique_id):
    with pytest.raises(WorkflowError) as caught:
        await client.run_workflow("FailsByException", unique_id())
    for error in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert type(error) is WorkflowError
        assert str(error) == str(caught.value)
        assert (error.type, error.message, error.stack_trace, error.run) == (
            caught.value.type,
            caught.value.message,
            caught.value.stack_trace,
            caught.value.run,
        )


async def test_every_error_is_a_grctl_error_under_its_documented_paths():
    for name in models_errors.__all__:
        error = getattr(models_errors, name)
        assert issubclass(error, GrctlError)
        assert getattr(grctl, name) is error


# --- what is not there


async def test_a_query_without_queries_is_unsupported(connection, client, unique_id):
    if connection.capabilities.queries:
        pytest.skip("this engine answers queries")
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    with pytest.raises(UnsupportedOperationError, match="embedded engine"):
        await handle.query("status")
    await waiting(handle)
    await handle.terminate()


@pytest.mark.parametrize("name", ["", None, 7])
async def test_a_query_name_must_be_a_string(client, unique_id, name):
    handle = await client.start_workflow("ReturnsItsInput", unique_id())
    with pytest.raises(InvalidInputError, match="query_name"):
        await handle.query(name)
    await handle.result()


async def test_a_client_needs_a_connection():
    with pytest.raises(InvalidInputError, match=r"connection must be an? .*Connection, not str"):
        Client(connection="nats://localhost:4225")


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("memory", {}, "no scheme"),
        ("gopher://x", {}, "gopher"),
        (7, {}, "must be a string"),
        ("memory://", {"workflow": []}, "no option workflow"),
        ("memory://elsewhere", {}, "memory://"),
        ("memory://", {"workflows": ["ReturnsItsInput"]}, "workflow"),
    ],
)
async def test_connect_refuses_what_it_does_not_understand(url, options, message):
    with pytest.raises(InvalidInputError, match=message):
        await grctl.connect(url, **options)


# --- definitions: refused where they are written


async def handler(ctx: Context) -> Directive:
    return ctx.next.complete()


def test_two_handlers_of_one_name():
    wf = Workflow(workflow_type="Twice")
    wf.step(name="approve")(handler)
    with pytest.raises(InvalidInputError, match=r"two handlers.*'approve'"):
        wf.event(name="approve")(handler)


def test_two_start_handlers():
    wf = Workflow(workflow_type="Twice")
    wf.start()(handler)
    with pytest.raises(InvalidInputError, match="two handlers"):
        wf.start()(handler)


def test_a_parameter_without_annotation():
    async def start(ctx: Context, order_id) -> Directive:
        return ctx.next.complete(order_id)

    with pytest.raises(InvalidInputError, match=r"'order_id' has no annotation"):
        Workflow(workflow_type="Bare").start()(start)


def test_a_handler_that_is_not_async():
    def start(ctx: Context) -> Directive:
        return ctx.next.complete()

    with pytest.raises(InvalidInputError, match="async def"):
        Workflow(workflow_type="Sync").start()(start)


async def test_a_workflow_without_start_handler():
    wf = Workflow(workflow_type="Headless")
    with pytest.raises(InvalidInputError, match=r"'Headless' has no start handler"):
        await grctl.connect("memory://", workflows=[wf])


async def test_two_workflows_of_one_type():
    first, second = Workflow(workflow_type="Same"), Workflow(workflow_type="Same")
    first.start()(handler)
    second.start()(handler)
    with pytest.raises(InvalidInputError, match="Same"):
        await grctl.connect("memory://", workflows=[first, second])


@pytest.mark.parametrize(("value", "message"), BAD_IDS[:9], ids=shown)
def test_bad_names_of_workflow_types(value, message):
    with pytest.raises(InvalidInputError, match=message):
        Workflow(workflow_type=value)


async def test_a_bad_filter_is_refused_at_the_call_and_a_good_one_is_lazy(client, unique_id):
    assert await collect(client.list_workflows(workflow_id_prefix=unique_id())) == []
