"""Each call does what the asynchronous one does, on each transport."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import inspect
import threading
import traceback
from datetime import datetime

import pytest
from contract.workflows import workflows

import grctl
from grctl import (
    GrctlError,
    InvalidInputError,
    RunStatus,
    WorkflowAlreadyRunningError,
    WorkflowNotFoundError,
    WorkflowRef,
)
from grctl.plugins import Plugin, hookimpl
from grctl.protocols import ConnectionEvent
from grctl.sync import Client, Connection, Handle, connect
from grctl_engine import ManualClock


@dataclasses.dataclass
class Approval:
    approved: bool
    qty: int


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Client, grctl.Client), (Handle, grctl.WorkflowHandle), (connect, grctl.connect)],
)
def test_nothing_is_missing(ours, theirs):
    """A method that the asynchronous class gets is one that this one gets, with the same parameters and defaults."""
    for name, method in vars(theirs).items() if isinstance(theirs, type) else [("", theirs)]:
        if name.startswith("_"):
            continue
        mirrored = getattr(ours, name) if name else ours
        if isinstance(method, property):
            assert isinstance(mirrored, property), name
            continue
        assert inspect.signature(mirrored).parameters == inspect.signature(method).parameters, name
        assert not inspect.iscoroutinefunction(mirrored), name
        assert mirrored.__doc__, name


def test_a_run_and_its_end(client, unique_id):
    assert client.run_workflow("ReturnsItsInput", unique_id(), {"value": [1, "a"]}) == [1, "a"]
    handle = client.start_workflow("WaitsForApproval", unique_id(), {"order_id": "7", "qty": 2})
    assert handle.run_info.wf_type == "WaitsForApproval"
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.05 s; it goes on"):
        handle.result(timeout=0.05)
    assert handle.describe().status is RunStatus.RUNNING
    handle.send("update_quantity", {"qty": 3})
    handle.send("approve", idempotent=True)
    assert handle.result() == {"approved": True, "qty": 3}
    assert handle.outcome().completed
    assert handle.future.result() == {"approved": True, "qty": 3}
    assert handle.run_info.status is RunStatus.COMPLETED


def test_get_handle_and_attach(client, unique_id):
    name = unique_id()
    with pytest.raises(WorkflowNotFoundError):
        client.get_handle(name)
    started = client.start_workflow("WaitsForApproval", name)
    with pytest.raises(WorkflowAlreadyRunningError) as caught:
        client.start_workflow("WaitsForApproval", name)
    assert caught.value.run_id == started.run_info.id
    attached = client.start_workflow("WaitsForApproval", name, on_conflict="attach")
    found = client.get_handle(name, started.run_info.id, result_type=dict)
    assert {attached.run_info.id, found.run_info.id} == {started.run_info.id}
    found.send("approve")
    assert [handle.result()["approved"] for handle in (started, attached, found)] == [True] * 3


def test_history_and_listing(client, unique_id):
    handle = client.start_workflow("WaitsForApproval", unique_id())
    kinds = []
    for event in handle.history(follow=True):
        kinds.append(event.kind)
        if event.kind == "wait.started":
            handle.send("approve")
    assert kinds[0] == "run.started"
    assert kinds[-1] == "run.completed"
    assert [event.kind for event in handle.history()] == kinds
    listed = client.list_workflows(workflow_type="WaitsForApproval", workflow_id_prefix=handle.run_info.wf_id)
    assert [run.id for run in listed] == [handle.run_info.id]


def test_typed_references(client, unique_id):
    approval = WorkflowRef("WaitsForApproval", dict[str, int], Approval)
    with pytest.raises(InvalidInputError, match=r"workflow_input must be dict\[str, int\], .* not list"):
        client.start_workflow(approval, unique_id(), [("qty", 2)])
    handle = client.start_workflow(approval, unique_id(), {"qty": 2})
    handle.send("approve")
    found = client.get_handle(handle.run_info.wf_id, result_type=approval)
    assert handle.result() == found.result() == Approval(approved=True, qty=2)


def test_queries_and_what_the_transport_can(memory):
    handle = memory.start_workflow("AnswersQueries", "order", {"items": ["a", "b", "a"]})
    assert handle.query("items") == ["a", "b", "a"]
    assert handle.query("count.of", item="a", more=1) == 3
    assert memory.connection.capabilities.queries


def test_wrong_arguments_are_refused_at_the_call(client, unique_id):
    with pytest.raises(InvalidInputError, match="workflow_id 'order 1'"):
        client.start_workflow("WaitsForApproval", "order 1")
    with pytest.raises(InvalidInputError, match="created_after has no time zone"):
        client.list_workflows(created_after=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(TypeError, match="unexpected keyword argument 'wait'"):
        client.list_workflows(wait=True)
    with pytest.raises(InvalidInputError, match="retry= needs a retry plugin"):
        client.start_workflow("WaitsForApproval", unique_id(), retry=3)


async def test_an_asynchronous_connection_is_refused():
    async with await grctl.connect("memory://") as connection:
        with pytest.raises(InvalidInputError, match=r"must be an open grctl\.sync\.Connection, not MemoryConnection"):
            Client(connection=connection)


def test_a_synchronous_connection_is_refused(memory):
    with pytest.raises(InvalidInputError, match=r"must be an open Connection, not grctl\.sync\.connection\.Connection"):
        grctl.Client(connection=memory.connection)


def test_wrong_connections():
    with pytest.raises(InvalidInputError, match="'memory://' has no option wokflows"):
        connect("memory://", wokflows=[])
    with pytest.raises(grctl.ConnectionFailedError):
        connect("nats://127.0.0.1:1", connect_timeout=0.5)
    assert not [thread for thread in threading.enumerate() if thread.name == "grctl-sync" and not _ends(thread)]


def _ends(thread: threading.Thread) -> bool:
    thread.join(20)
    return not thread.is_alive()


class Observer(Plugin):
    """Notes what it sees, and where."""

    name = "observer"

    def __init__(self):
        self.seen = []

    @hookimpl
    async def grctl_operation(self, call, proceed):
        self.seen.append((call.operation, request_id.get(), threading.current_thread().name))
        return await proceed(call)


request_id = contextvars.ContextVar("request_id", default="none")


def test_plugins_run_in_the_callers_context(client, unique_id):
    observer = Observer()
    observed = Client(connection=client.connection, plugins=[observer], request_timeout=20)
    assert "observer" in str(observed.plugins)
    token = request_id.set("request 7")
    handle = observed.start_workflow("WaitsForApproval", unique_id())
    handle.send("approve")
    request_id.reset(token)
    handle.result()
    assert observer.seen == [
        ("start", "request 7", "grctl-sync"),
        ("send", "request 7", "grctl-sync"),
        ("result", "none", "grctl-sync"),
    ]


def test_spans_have_their_parents(memory):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from grctl_tracing import TracingPlugin

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    client = Client(connection=memory.connection, plugins=[TracingPlugin(tracer_provider=provider)])
    with provider.get_tracer("test").start_as_current_span("POST /orders") as parent:
        client.run_workflow("ReturnsItsInput", "traced", 1)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert len(spans) > 1
    assert {span.context.trace_id for span in spans.values()} == {parent.get_span_context().trace_id}


def test_time_that_the_test_moves():
    clock = ManualClock()
    with connect("memory://", workflows=workflows, clock=clock) as connection:
        handle = Client(connection=connection).start_workflow("WaitsForApproval", "id", workflow_timeout=1_800)
        connection.run(clock.advance, minutes=29)
        assert handle.describe().status is RunStatus.RUNNING
        connection.run(clock.advance, minutes=1)
        assert handle.outcome(timeout=60).status is RunStatus.TIMED_OUT
        with pytest.raises(TypeError, match="unexpected keyword argument 'decades'"):
            connection.run(clock.advance, decades=1)


@pytest.mark.parametrize("running", [True, False], ids=["in a running loop", "refused by the server"])
def test_no_traceback_shows_what_was_passed(memory, running):
    """Here: none of our frames. What the asynchronous client's frames hold is its own affair."""
    handle = memory.start_workflow("WaitsForApproval", "id")
    calls = [
        lambda: memory.start_workflow("NoSuchType", "id-2", {"card": "4711"}, workflow_timeout=5),
        lambda: memory.run_workflow("NoSuchType", "id-2", workflow_input={"card": "4711"}),
        lambda: handle.send("no such event", {"card": "4711"}),
        lambda: handle.query("no such query", card="4711"),
    ]

    async def make(call):
        call()

    for call in calls:
        with pytest.raises(GrctlError) as caught:
            asyncio.run(make(call)) if running else call()
        frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
        ours = [frame for frame in frames if "grctl/sync" in frame.f_code.co_filename]
        assert ours
        assert "4711" not in str([frame.f_locals for frame in ours])


def test_a_listener_hears_of_the_end(memory):
    heard, removed = [], []
    memory.connection.add_listener(heard.append)
    remove = memory.connection.add_listener(removed.append)
    remove()
    memory.connection.close()
    remove()
    assert heard == [ConnectionEvent.CLOSED]
    assert removed == []


def test_log_context_is_of_the_calling_thread(memory):
    from grctl_logging import LoggingPlugin
    from grctl_logging.context import _current

    client = Client(connection=memory.connection, plugins=[LoggingPlugin()])
    handle = client.start_workflow("WaitsForApproval", "logged")
    with handle.log_context():
        assert _current.get() == handle.run_info.ref
    assert _current.get() is None


def test_they_say_what_they_are(memory):
    handle = memory.start_workflow("WaitsForApproval", "named")
    assert repr(handle).startswith("<grctl.sync.Handle of <WorkflowHandle WaitsForApproval 'named'")
    assert repr(memory).startswith("<grctl.sync.Client over <grctl.sync.Connection of <MemoryConnection")
    assert isinstance(memory.connection, Connection)
