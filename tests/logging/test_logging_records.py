"""grctl_logging: what is logged, how loud, and what never is."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from core.scripted import NEVER, ScriptedConnection, lost, refused, run_info, settle

from grctl_core.client import WorkflowClient
from grctl_core.commands import ErrorCode, Reply
from grctl_core.errors import (
    AccessDeniedError,
    ConnectionClosedError,
    DeliveryUnknownError,
    GrctlError,
    InvalidInputError,
    NotDeliveredError,
    NotSentError,
    PluginError,
    UnsupportedOperationError,
)
from grctl_core.hooks import Plugin
from grctl_core.protocols import ConnectionEvent
from grctl_logging import LoggingPlugin

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


class Listened(ScriptedConnection):
    """A connection that tells its listeners what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners: list[Any] = []

    def add_listener(self, listener: Any) -> Any:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)


class RetryOnce(Plugin):
    """Tries again once, at once."""

    name = "retry"

    async def grctl_retry(self, call, proceed):
        try:
            return await proceed(call)
        except (NotSentError, DeliveryUnknownError) as error:
            proceed.announce(error, 0.25)
            return await proceed(call)


@pytest.fixture
def connection() -> Listened:
    return Listened()


@pytest.fixture
def client(connection: Listened, caplog: pytest.LogCaptureFixture) -> WorkflowClient:
    caplog.set_level(DEBUG, "grctl")
    return WorkflowClient(connection=connection, plugins=[LoggingPlugin(), RetryOnce()])


def records(caplog: pytest.LogCaptureFixture, event: str = "grctl.operation") -> list[Any]:
    return [record for record in caplog.records if record.name == "grctl" and record.msg == f"{event} %s"]


async def test_a_start_has_one_record_with_everything(client, caplog) -> None:
    handle = await client.start_workflow("Order", "order-7", {"item": "tea"})
    (record,) = records(caplog)
    assert record.levelno == INFO
    assert record.getMessage() == (
        f"grctl.operation operation=start result=ok workflow_id=order-7 run_id={handle.run_info.id} "
        f"workflow_type=Order attempts=1 duration={record.duration:.6f}"
    )
    assert record.run_id == handle.run_info.id
    assert (record.operation, record.result, record.attempts) == ("start", "ok", 1)
    assert 0 <= record.duration < 60


async def test_each_operation_has_one_record(client, connection, caplog) -> None:
    handle = await client.start_workflow("Order", "order-7")
    connection.script("run.query", Reply(success=True))
    await handle.send("approve")
    await handle.query("price")
    await handle.describe()
    await handle.cancel("changed my mind")
    connection.end(handle.run_info.id, "cancelled")
    await handle.outcome()
    connection.record(run_info("R2", "order-8", wf_type="Order", status="running"))
    other = await client.get_handle("order-8")
    await other.terminate()
    seen = [(record.operation, record.result, record.levelno, record.workflow_id) for record in records(caplog)]
    assert seen == [
        ("start", "ok", INFO, "order-7"),
        ("send", "ok", INFO, "order-7"),
        ("query", "ok", DEBUG, "order-7"),
        ("describe", "ok", DEBUG, "order-7"),
        ("cancel", "ok", INFO, "order-7"),
        ("result", "ok", DEBUG, "order-7"),
        ("describe", "ok", DEBUG, "order-8"),
        ("terminate", "ok", INFO, "order-8"),
    ]
    by_operation = {record.operation: record for record in records(caplog)}
    assert by_operation["send"].event_name == "approve"
    assert by_operation["result"].status == "cancelled"
    assert not hasattr(by_operation["result"], "attempts")
    assert by_operation["describe"].run_id == "R2"  # the one that was found: get_handle did not know it
    assert by_operation["cancel"].attempts == 2  # a look, and the cancel


async def test_a_start_that_attaches_names_the_run_that_it_came_to(client, connection, caplog) -> None:
    active = connection.record(run_info("A" * 26, "order-7", wf_type="Order", status="running"))
    connection.script("run.start", refused(ErrorCode.ALREADY_RUNNING, detail=f"active run {active.id}"))
    handle = await client.start_workflow("Order", "order-7", on_conflict="attach")
    (record,) = records(caplog)
    assert record.run_id == handle.run_info.id == active.id
    assert record.attempts == 2


@pytest.mark.parametrize(
    ("answer", "level", "written"),
    [
        (refused(ErrorCode.ALREADY_RUNNING), INFO, "result=WorkflowAlreadyRunningError code=4001 workflow_id="),
        (refused(ErrorCode.NOT_FOUND), INFO, "result=WorkflowNotFoundError code=4002 workflow_id="),
        (refused(ErrorCode.TYPE_NOT_REGISTERED), ERROR, "result=WorkflowTypeNotRegisteredError code=4004 workflow_id="),
        (refused(ErrorCode.BAD_MESSAGE), ERROR, "result=ServerError code=4005 workflow_id="),
        (NotDeliveredError("nobody listens"), ERROR, "result=NotDeliveredError workflow_id="),
        (AccessDeniedError("no"), ERROR, "result=AccessDeniedError workflow_id="),
        (UnsupportedOperationError("cannot"), ERROR, "result=UnsupportedOperationError workflow_id="),
        (InvalidInputError("too large"), WARNING, "result=InvalidInputError workflow_id="),
        (ValueError("a transport's mistake"), ERROR, "result=ValueError workflow_id="),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
async def test_levels_of_errors(connection, caplog, answer, level, written) -> None:
    caplog.set_level(DEBUG, "grctl")
    connection.script("run.start", answer)
    with pytest.raises((GrctlError, ValueError)):
        await WorkflowClient(connection=connection, plugins=["logging"]).start_workflow("Order", "order-7")
    (record,) = records(caplog)
    assert record.levelno == level
    assert f" {written}" in record.getMessage()


async def test_a_doubt_is_an_error_with_all_its_attempts(client, connection, caplog) -> None:
    handle = await client.start_workflow("Order", "order-7")
    caplog.clear()
    connection.script("run.event", lost())
    with pytest.raises(DeliveryUnknownError):
        await handle.send("approve")
    (record,) = records(caplog)
    assert (record.levelno, record.result, record.event_name) == (ERROR, "DeliveryUnknownError", "approve")


async def test_a_change_that_the_caller_gave_up_is_warned_of(client, connection, caplog) -> None:
    connection.script("run.start", NEVER)
    task = asyncio.create_task(client.start_workflow("Order", "order-7"))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (record,) = records(caplog)
    assert (record.levelno, record.result) == (WARNING, "CancelledError")


async def test_a_wait_that_the_caller_gave_up_is_nothing(client, caplog) -> None:
    handle = await client.start_workflow("Order", "order-7")
    caplog.clear()
    with pytest.raises(TimeoutError):
        await handle.result(timeout=0.001)
    (record,) = records(caplog)
    assert (record.levelno, record.operation, record.result) == (DEBUG, "result", "CancelledError")


async def test_a_wait_that_closing_the_connection_ends_is_nothing(client, connection, caplog) -> None:
    handle = await client.start_workflow("Order", "order-7")
    waiting = asyncio.create_task(handle.outcome())
    await settle()
    caplog.clear()
    connection.fail_watches(ConnectionClosedError("the connection was closed"))
    with pytest.raises(ConnectionClosedError):
        await waiting
    (record,) = records(caplog)
    assert (record.levelno, record.operation, record.result) == (DEBUG, "result", "ConnectionClosedError")


async def test_a_retry_has_a_record_of_its_own(client, connection, caplog) -> None:
    connection.script("run.start", NotSentError("secret address"))
    handle = await client.start_workflow("Order", "order-7")
    (retry,) = records(caplog, "grctl.retry")
    assert retry.levelno == WARNING
    assert retry.getMessage() == (
        f"grctl.retry operation=start error=NotSentError workflow_id=order-7 run_id={handle.run_info.id} "
        "workflow_type=Order attempt=2 delay=0.250000"
    )
    (operation,) = records(caplog)
    assert (operation.levelno, operation.attempts) == (INFO, 2)


@pytest.mark.parametrize(
    ("status", "level"),
    [
        ("completed", INFO),
        ("cancelled", INFO),
        ("terminated", INFO),
        ("failed", WARNING),
        ("timed_out", WARNING),
    ],
)
async def test_ends_of_runs(client, connection, caplog, status, level) -> None:
    handle = await client.start_workflow("Order", "order-7")
    future = handle.future
    connection.end(handle.run_info.id, status)
    await asyncio.wait([future])
    (record,) = records(caplog, "grctl.run_ended")
    assert record.levelno == level
    assert (record.status, record.workflow_id, record.run_id) == (status, "order-7", handle.run_info.id)
    assert record.waited >= 0
    assert f"status={status} workflow_id=order-7 " in record.getMessage()


async def test_changes_of_the_connection(client, connection, caplog) -> None:
    for event in ConnectionEvent:
        for listener in connection.listeners:
            listener(event)
    seen = [(record.state, record.levelno, record.getMessage()) for record in records(caplog, "grctl.connection")]
    assert seen == [
        ("connected", INFO, "grctl.connection state=connected"),
        ("disconnected", WARNING, "grctl.connection state=disconnected"),
        ("closed", INFO, "grctl.connection state=closed"),
    ]


async def test_never_a_value_a_reason_or_a_text(client, connection, caplog) -> None:
    handle = await client.start_workflow("Order", "order-7", {"pin": "SECRET"})
    await handle.send("approve", {"pin": "SECRET"})
    connection.script("run.event", ValueError("SECRET"), NotSentError("SECRET"))
    connection.script("run.query", Reply(success=True, payload=b"\xa6SECRET"), refused(5000, "SECRET", "SECRET"))
    with pytest.raises(ValueError, match="SECRET"):
        await handle.send("approve")
    await handle.send("approve", "SECRET")
    assert await handle.query("price", pin="SECRET") == "SECRET"
    with pytest.raises(Exception, match="SECRET"):
        await handle.query("price")
    await handle.cancel("SECRET")
    connection.end(handle.run_info.id, "completed", "SECRET", reason="SECRET")
    assert await handle.result() == "SECRET"
    assert len(records(caplog)) == 8
    assert len(records(caplog, "grctl.retry")) == 1
    assert len(records(caplog, "grctl.run_ended")) == 1
    for record in caplog.records:
        assert "SECRET" not in record.getMessage() + repr(vars(record))


@pytest.mark.parametrize(
    ("event_name", "written"),
    [
        ("approve", "approve"),
        ("größe", "größe"),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"', '"say \\"x\\""'),
        ("line\nfeed", '"line\\nfeed"'),
        ("escape\x1b[31m", '"escape\\u001b[31m"'),
        ("paragraph\u2029", '"paragraph\\u2029"'),
    ],
)
async def test_a_record_is_one_line_and_each_value_has_an_end(client, caplog, event_name, written) -> None:
    handle = await client.start_workflow("Order", "order-7")
    caplog.clear()
    await handle.send(event_name, check_event=False)
    (record,) = records(caplog)
    assert f" event_name={written} attempts=" in record.getMessage()
    assert record.getMessage().isprintable()
    assert record.event_name == event_name


async def test_another_logger_and_other_levels(connection, caplog) -> None:
    caplog.set_level(DEBUG)
    plugin = LoggingPlugin(logger="shop.grctl", levels={"change": "debug", "retry": logging.INFO, "look": "ERROR"})
    client = WorkflowClient(connection=connection, plugins=[plugin, RetryOnce()])
    connection.script("run.start", NotSentError("no connection"))
    handle = await client.start_workflow("Order", "order-7")
    await handle.describe()
    seen = [(record.msg, record.levelno) for record in caplog.records if record.name == "shop.grctl"]
    assert seen == [("grctl.retry %s", INFO), ("grctl.operation %s", DEBUG), ("grctl.operation %s", ERROR)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"levels": {"retries": "info"}}, "levels has no 'retries': there are change, look"),
        ({"levels": {"retry": "loud"}}, r"levels\['retry'\] is no level: 'loud'. There are debug, info"),
        ({"levels": {"retry": 17}}, "is no level: 17"),
        ({"levels": {"retry": True}}, "is no level: True"),
        ({"levels": {"retry": None}}, "is no level: None"),
        ({"logger": ""}, "logger must be the name of a logger"),
        ({"logger": logging.getLogger("x")}, "logger must be the name of a logger"),
    ],
)
def test_bad_options_are_refused(options, said) -> None:
    with pytest.raises(InvalidInputError, match=said):
        LoggingPlugin(**options)


async def test_an_answer_without_proceeding_and_a_broken_plugin(connection, caplog) -> None:
    class Cache(Plugin):
        name = "cache"

        async def grctl_start(self, call, proceed):
            if call.workflow_id == "broken":
                return None
            return run_info("R9", call.workflow_id, wf_type="Order")

    caplog.set_level(DEBUG, "grctl")
    client = WorkflowClient(connection=connection, plugins=["logging", Cache()])
    await client.start_workflow("Order", "order-7")
    with pytest.raises(PluginError):
        await client.start_workflow("Order", "broken")
    fine, broken = records(caplog)
    assert (fine.run_id, fine.attempts, fine.levelno) == ("R9", 0, INFO)
    assert (broken.result, broken.levelno) == ("PluginError", ERROR)
    assert connection.commands == []
