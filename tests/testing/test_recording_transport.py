"""RecordingTransport: without a script a healthy server; with one, each fate that a command can have."""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import subprocess
import sys

import pytest

import grctl.testing.recording
from grctl import Client, RunStatus
from grctl.testing import (
    Answer,
    RecordingTransport,
    accept,
    answer,
    delay,
    duplicate,
    fail,
    hold,
    lose_reply,
    lose_request,
    refuse,
)
from grctl_core.commands import DescribeCommand, ErrorCode, EventCommand
from grctl_core.errors import (
    ConnectionClosedError,
    DeliveryUnknownError,
    EventLoopError,
    InvalidInputError,
    NotSentError,
    ServerError,
    UnsupportedOperationError,
    WorkflowAlreadyRunningError,
    WorkflowError,
    WorkflowFinishedError,
    WorkflowNotFoundError,
    WorkflowTypeNotRegisteredError,
)
from grctl_core.ids import new_ulid
from grctl_core.outcome import ErrorDetails
from grctl_core.protocols import ConnectionEvent
from grctl_core.run import RunRef
from grctl_core.workflow_type import TypeInfo

LONG = 1_000.0


@pytest.fixture
async def transport():
    async with RecordingTransport() as made:
        yield made
        assert made.remaining == {}
    assert made.live_watches == 0
    assert not made._link._in_flight


@pytest.fixture
def client(transport):
    return Client(connection=transport)


@pytest.fixture
async def handle(client):
    return await client.start_workflow("Order", "order-1", {"qty": 1})


def names(transport) -> list[str]:
    return [attempt.name for attempt in transport.attempts]


# --- without a script


async def test_a_run_from_its_start_to_its_end(transport, client, handle):
    assert (await handle.describe()).status is RunStatus.RUNNING
    await handle.send("approve", {"by": "me"})
    waiting = asyncio.ensure_future(handle.result())
    await asyncio.sleep(0)
    transport.end(handle.run_info, result={"shipped": True})
    assert await waiting == {"shipped": True}
    assert [event.kind async for event in handle.history(follow=True)] == [
        "run.started",
        "event.received",
        "run.completed",
    ]
    assert [run.wf_id async for run in client.list_workflows(status="completed")] == ["order-1"]
    assert [run.wf_id async for run in client.list_workflows(status="running")] == []
    assert names(transport) == ["start", "describe", "send"]
    assert transport.sent("send")[0].event_name == "approve"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"error": ErrorDetails("Oops", "no stock")}, RunStatus.FAILED),
        ({"error": KeyError("sku")}, RunStatus.FAILED),
        ({"status": "cancelled", "reason": "enough"}, RunStatus.CANCELLED),
        ({"status": RunStatus.TERMINATED}, RunStatus.TERMINATED),
        ({"status": "timed_out"}, RunStatus.TIMED_OUT),
        ({}, RunStatus.COMPLETED),
    ],
)
async def test_every_end(transport, handle, arguments, status):
    ended = transport.end("order-1", **arguments)
    outcome = await handle.outcome()
    assert outcome.status is ended.status is status
    assert outcome.reason == arguments.get("reason", "")
    if status is RunStatus.FAILED:
        with pytest.raises(WorkflowError, match=r"Oops: no stock|KeyError: 'sku'"):
            outcome.unwrap()


async def test_cancel_and_terminate_end_the_run(client, transport, handle):
    await handle.cancel("enough")
    assert (await handle.outcome()).status is RunStatus.CANCELLED
    other = await client.start_workflow("Order", "order-1")
    await other.terminate("now")
    outcome = await other.outcome()
    assert (outcome.status, outcome.reason) == (RunStatus.TERMINATED, "now")
    assert transport.run("order-1").id == other.run_info.id
    assert [run.id for run in transport.runs] == [handle.run_info.id, other.run_info.id]


async def test_what_a_healthy_server_refuses(transport, client, handle):
    with pytest.raises(WorkflowAlreadyRunningError) as refused:
        await client.start_workflow("Order", "order-1")
    assert refused.value.run_id == handle.run_info.id
    with pytest.raises(WorkflowNotFoundError):
        await client.get_handle("order-2")
    transport.end("order-1")
    with pytest.raises(WorkflowFinishedError):
        await handle.send("approve")


async def test_registered_types():
    async with RecordingTransport(types=[TypeInfo(name="Order", events=("approve",))]) as transport:
        client = Client(connection=transport)
        with pytest.raises(WorkflowTypeNotRegisteredError):
            await client.start_workflow("Odrer", "order-1")
        handle = await client.start_workflow("Order", "order-1")
        with pytest.raises(InvalidInputError, match="approve"):
            await handle.send("aprove")
        assert names(transport) == ["start", "start"]


async def test_replacing_a_run(client, transport, handle):
    other = await client.start_workflow("Order", "order-1", on_conflict="terminate")
    assert transport.run(handle.run_info).status is RunStatus.TERMINATED
    assert transport.run("order-1").id == other.run_info.id


async def test_runs_that_end_as_they_begin(transport, client):
    transport.end_on_start("Order", result=7)
    transport.end_on_start("Bad", error=ValueError("no"))
    assert await client.run_workflow("Order", "order-1") == 7
    with pytest.raises(WorkflowError, match="ValueError: no"):
        await client.run_workflow("Bad", "bad-1")


async def test_a_run_of_somebody_else(transport, client, handle):
    run = transport.add_run(
        type(handle.run_info)(id=new_ulid(), wf_id="x", wf_type="T", created_at=handle.run_info.created_at)
    )
    assert (await client.get_handle("x")).run_info.id == run.id


# --- with a script


async def test_a_reply_that_is_lost_after_the_start_was_carried_out(transport, client):
    transport.on("start", lose_reply())
    handle = await client.start_workflow("Order", "order-1")
    assert names(transport) == ["start", "describe"]  # the client looked, and found it
    assert [run.id for run in transport.runs] == [handle.run_info.id]
    lost, found = transport.attempts
    assert (type(lost.error), lost.error.link, lost.reply) == (DeliveryUnknownError, 1, None)
    assert (found.error, found.reply.run.id) == (None, handle.run_info.id)


async def test_a_request_that_is_lost(transport, client):
    transport.on("start", lose_request())
    handle = await client.start_workflow("Order", "order-1")
    assert names(transport) == ["start", "describe", "start"]
    assert {command.run.id for command in transport.sent("start")} == {handle.run_info.id}
    assert transport.attempts[1].reply.error.code == ErrorCode.NOT_FOUND


async def test_a_sequence_and_then_a_healthy_server(transport, handle):
    transport.on("send", refuse(ErrorCode.UNKNOWN_COMMAND, "what?"), accept())
    transport.on("send", lose_reply())
    with pytest.raises(ServerError, match=r"4000: refused \(what\?\)"):
        await handle.send("a")
    await handle.send("b")
    with pytest.raises(DeliveryUnknownError):
        await handle.send("c")
    await handle.send("d")
    received = [event.data["event_name"] async for event in handle.history() if event.kind == "event.received"]
    assert received == ["b", "c", "d"]


async def test_always(transport, handle):
    transport.on("describe", accept(), fail(NotSentError("no link")), always=True)
    await handle.describe()
    for _ in range(3):
        with pytest.raises(NotSentError, match="no link"):
            await handle.describe()


async def test_done_in_spite_of_the_error(transport, client):
    transport.on("start", refuse(ErrorCode.INTERNAL, carried_out=True))
    handle = await client.start_workflow("Order", "order-1")
    assert names(transport) == ["start", "describe"]
    assert transport.attempts[0].reply.error.code == ErrorCode.INTERNAL
    assert transport.run("order-1").id == handle.run_info.id


async def test_accepted_and_not_done(transport, handle):
    transport.on("cancel", accept(carried_out=False))
    await handle.cancel()
    assert transport.run("order-1").status is RunStatus.RUNNING


async def test_done_twice(transport, handle):
    transport.on("send", duplicate())
    await handle.send("a")
    assert [event.kind async for event in handle.history()] == ["run.started", "event.received", "event.received"]
    assert len(transport.sent("send")) == 1


async def test_an_answer_to_a_query(transport, handle):
    transport.on("query", answer({"step": 3}))
    assert await handle.query("status") == {"step": 3}
    assert await handle.query("status") is None


async def test_no_queries():
    async with RecordingTransport(queries=False) as transport:
        handle = await Client(connection=transport).start_workflow("Order", "order-1")
        with pytest.raises(UnsupportedOperationError):
            await handle.query("status")


async def test_a_function_of_the_command(transport, handle):
    transport.on("send", lambda command: refuse(4005) if command.event_name == "bad" else accept(), always=True)
    await handle.send("good")
    with pytest.raises(ServerError):
        await handle.send("bad")
    transport.on("send", lambda _: "yes")
    with pytest.raises(InvalidInputError, match="'yes' is no answer"):
        await handle.send("good")


async def test_a_reply_that_is_held(transport, client):
    held = transport.on("start", hold())
    starting = asyncio.ensure_future(client.start_workflow("Order", "order-1"))
    await held.reached()
    assert transport.run("order-1").status is RunStatus.RUNNING
    assert not starting.done()
    held.release()
    assert (await starting).run_info.wf_id == "order-1"


async def test_held_and_refused(transport, handle):
    held = transport.on("send", hold(refuse(4005)))
    sending = asyncio.ensure_future(handle.send("a"))
    await held.reached()
    held.release()
    with pytest.raises(ServerError):
        await sending


async def test_released_before_it_is_reached(transport, handle):
    transport.on("send", hold()).release()
    await handle.send("a")


async def test_the_timeout_of_an_attempt(transport, handle):
    transport.on("send", hold(), delay(LONG))
    for name in ("a", "b"):
        with pytest.raises(DeliveryUnknownError, match=r"no reply within 0\.01 s"):
            await handle.send(name, request_timeout=0.01)
    transport.on("send", delay(0.01))
    await handle.send("c")
    assert [attempt.timeout for attempt in transport.attempts[1:3]] == [0.01, 0.01]


async def test_cancelled_while_the_reply_is_held(transport, handle):
    held = transport.on("send", hold())
    sending = asyncio.ensure_future(handle.send("a"))
    await held.reached()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert isinstance(transport.attempts[-1].error, asyncio.CancelledError)


@pytest.mark.parametrize("name", ["find_run", "has_begun", "find_type", "ping"])
async def test_looks(transport, handle, name):
    looks = {
        "find_run": lambda: transport.find_run(handle.run_info.ref),
        "has_begun": lambda: transport.has_begun(handle.run_info.ref),
        "find_type": lambda: transport.find_type("Order"),
        "ping": lambda: transport.ping(timeout=60),
    }
    transport.looks.clear()
    attempts = len(transport.attempts)
    transport.on(name, fail(NotSentError("no link")), lose_reply(), accept())
    for error in (NotSentError, DeliveryUnknownError):
        with pytest.raises(error):
            await looks[name]()
    await looks[name]()
    assert transport.looks == [name] * 3
    assert len(transport.attempts) == attempts
    for wrong in (refuse(4002), answer(1), duplicate(), accept(carried_out=False)):
        with pytest.raises(InvalidInputError, match="is a look at the records"):
            transport.on(name, wrong)


async def test_records_of_what_is_not_there(transport, handle):
    missing = [RunRef("order-1", new_ulid()), RunRef("order-2", handle.run_info.id)]
    for run in missing:
        assert await transport.find_run(run) is None
        with pytest.raises(WorkflowNotFoundError):
            await transport.watch(run)
        with pytest.raises(WorkflowNotFoundError):
            await anext(aiter(transport.history(run, follow=True)))
    assert await transport.has_begun(handle.run_info.ref)
    assert not await transport.has_begun(missing[0])


# --- connections


async def test_a_connection_that_is_lost_and_made_anew(transport, handle):
    seen = []
    remove = transport.add_listener(seen.append)
    held = transport.on("send", hold())
    sending = asyncio.ensure_future(handle.send("a"))
    waiting = asyncio.ensure_future(handle.result())
    await held.reached()
    transport.disconnect()
    with pytest.raises(DeliveryUnknownError, match="was lost before the reply came") as lost:
        await sending
    transport.on("describe", refuse(4002))
    with pytest.raises(NotSentError):
        await handle.describe()
    assert transport.remaining == {"describe": 1}
    transport.disconnect()
    transport.reconnect()
    transport.reconnect()
    reply = await transport.request(DescribeCommand(wf_id="order-1"), timeout=LONG)
    assert (lost.value.link, reply.link, reply.error.code) == (1, 2, 4002)
    transport.end("order-1", result=1)
    assert await waiting == 1
    assert seen == [ConnectionEvent.DISCONNECTED, ConnectionEvent.CONNECTED]
    remove()
    remove()


async def test_a_listener_that_fails(transport, caplog):
    def broken(_: ConnectionEvent) -> None:
        raise RuntimeError("mine")

    seen = []
    transport.add_listener(broken)
    transport.add_listener(seen.append)
    transport.disconnect()
    assert seen == [ConnectionEvent.DISCONNECTED]
    assert "failed" in caplog.text


async def test_close():
    seen = []
    transport = RecordingTransport()
    transport.add_listener(seen.append)
    handle = await Client(connection=transport).start_workflow("Order", "order-1")
    held = transport.on("send", hold())
    sending = asyncio.ensure_future(handle.send("a"))
    waiting = transport.watch(handle.run_info.ref)
    followed = transport.history(handle.run_info.ref, follow=True)
    await anext(followed)
    following = asyncio.ensure_future(collect(followed))
    await held.reached()
    await transport.close()
    await transport.close()
    with pytest.raises(DeliveryUnknownError):
        await sending
    for ended in (waiting, following):
        with pytest.raises(ConnectionClosedError):
            await ended
    for refused in (
        lambda: transport.request(DescribeCommand(wf_id="x"), timeout=1),
        lambda: transport.find_run(handle.run_info.ref),
        lambda: collect(transport.list_runs(None)),
    ):
        with pytest.raises(ConnectionClosedError):
            await refused()
    with pytest.raises(ConnectionClosedError):
        transport.watch(handle.run_info.ref)
    assert seen == [ConnectionEvent.CLOSED]


async def collect(events) -> list:
    return [event async for event in events]


async def test_history_that_is_followed(transport, handle):
    following = asyncio.ensure_future(collect(handle.history(follow=True)))
    await asyncio.sleep(0)
    await handle.send("a")
    transport.end("order-1")
    assert [event.kind for event in await following] == ["run.started", "event.received", "run.completed"]


def test_another_event_loop():
    async def use() -> None:
        with contextlib.suppress(WorkflowNotFoundError):
            await Client(connection=transport).get_handle("x")

    transport = RecordingTransport()
    asyncio.run(use())
    with pytest.raises(EventLoopError, match="another event loop"):
        asyncio.run(use())


async def test_waiting_for_a_command(transport, handle):
    waiting = asyncio.ensure_future(transport.came("send", 2))
    await handle.send("a")
    await handle.send("b")
    assert [command.event_name for command in await waiting] == ["a", "b"]


async def test_headers_are_recorded(transport, handle):
    for headers in (None, {"traceparent": "00"}):
        await transport.request(EventCommand(wf_id="order-1", event_name="e", headers=headers), timeout=LONG)
    assert [attempt.headers for attempt in transport.attempts[-2:]] == [{}, {"traceparent": "00"}]


# --- bad input


async def test_scripts_that_make_no_sense(transport):
    with pytest.raises(InvalidInputError, match="nothing is called 'sned': there are start, send,"):
        transport.on("sned", accept())
    for maker in (lose_reply, accept, Answer):
        with pytest.raises(InvalidInputError, match=r"call it: on\('send', "):
            transport.on("send", maker)
    with pytest.raises(InvalidInputError, match="4002 is no answer"):
        transport.on("send", accept(), 4002)
    for error in ("no", NotSentError):
        with pytest.raises(InvalidInputError, match="takes an exception"):
            fail(error)
    with pytest.raises(InvalidInputError):
        delay(-1)


async def test_ends_that_make_no_sense(transport, handle):
    for arguments, said in [
        ({"status": "running"}, "'running' is no end"),
        ({"status": "failed", "result": 1}, "has no result"),
        ({"status": "completed", "error": ValueError()}, "has no error"),
    ]:
        with pytest.raises(InvalidInputError, match=said):
            transport.end("order-1", **arguments)
    for unknown in ("order-2", handle.run_info.ref.__class__("order-1", "x"), None):
        with pytest.raises(InvalidInputError, match="workflow ids that have one: order-1"):
            transport.end(unknown)
    transport.end("order-1")
    with pytest.raises(InvalidInputError, match="has ended already: completed"):
        transport.end("order-1")


async def test_answers_that_nothing_came_for():
    transport = RecordingTransport()
    transport.on("send", lose_reply(), accept())
    transport.on("start", accept())
    await Client(connection=transport).start_workflow("Order", "order-1")
    assert transport.remaining == {"send": 2}


# --- the package


def test_the_example_in_the_docstring():
    test = doctest.DocTestFinder(recurse=False).find(RecordingTransport, "RecordingTransport")[0]
    assert len(test.examples) > 3
    assert doctest.DocTestRunner().run(test).failed == 0


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() or done.stderr


HEAVY = ["nats", "grctl_nats", "grctl.dev_server", "pytest", "grctl_engine", "opentelemetry", "structlog"]


def test_importing_it_loads_no_transport_no_server_and_no_pytest():
    used = "grctl.testing; from grctl.testing import RecordingTransport, lose_reply"
    assert python(f"import sys, {used}; print(set({HEAVY!r}) & set(sys.modules))") == "set()"
    assert python("import sys; from grctl.testing import DevServer; print('nats' in sys.modules)") == "True"


def test_only_the_suite_needs_pytest():
    said = python(
        "import sys; sys.modules['pytest'] = None\n"
        "from grctl.testing import RecordingTransport\n"
        "try: from grctl.testing import TransportContract\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    assert said == "TransportContract is a suite for pytest: install pytest to use it"


def test_every_name_is_there():
    assert sorted(grctl.testing.__all__) == dir(grctl.testing)
    for name in grctl.testing.__all__:
        assert getattr(grctl.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Recorder'"):
        grctl.testing.Recorder  # noqa: B018
