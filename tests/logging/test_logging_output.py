"""grctl_logging: where records go, and that a broken logging set-up breaks no call."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import structlog
from core.scripted import ScriptedConnection
from structlog.testing import LogCapture

from grctl_core.client import WorkflowClient
from grctl_core.errors import NotDeliveredError
from grctl_logging import LoggingPlugin
from grctl_logging.output import Output


@pytest.fixture
def connection() -> ScriptedConnection:
    return ScriptedConnection()


@pytest.fixture
def client(connection: ScriptedConnection) -> WorkflowClient:
    return WorkflowClient(connection=connection, plugins=[LoggingPlugin()])


@pytest.fixture
def captured():
    """structlog as an application configures it, with records in a list; unconfigured again afterwards."""
    capture = LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    yield capture.entries
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
async def complaints():
    """What the event loop's exception handler is told."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


@pytest.fixture
def logger():
    """The standard library's logger, as a test may change it."""
    logger = logging.getLogger("grctl")
    before = logger.handlers[:], logger.filters[:], logger.level, logging.getLogRecordFactory()
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.handlers[:], logger.filters[:] = before[0], before[1]
    logger.setLevel(before[2])
    logging.setLogRecordFactory(before[3])


PROGRAM = """
    import asyncio, sys
    {before}
    import grctl
    from grctl_core.errors import WorkflowTypeNotRegisteredError

    async def main():
        async with await grctl.connect("memory://") as connection:
            client = grctl.Client(connection=connection, plugins=["logging"])
            try:
                await client.start_workflow("Nobody", "order-7")  # its record is an error
            except WorkflowTypeNotRegisteredError:
                done.append(True)

    done = []
    asyncio.run(main())
    {after}
    sys.exit(0 if done else 3)
"""


ON_TOP = """import structlog; structlog.configure(processors=[structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "assert 'structlog' not in sys.modules"),
        ("import structlog", ""),
        (ON_TOP, ""),
    ],
    ids=["nothing", "structlog imported", "structlog on top of unconfigured logging"],
)
def test_an_application_that_configured_no_output_prints_nothing(before, after) -> None:
    program = textwrap.dedent(PROGRAM).format(before=before, after=after)
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_same_program_prints_where_logging_is_configured() -> None:
    program = textwrap.dedent(PROGRAM).format(before="import logging; logging.basicConfig()", after="")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert done.stderr.startswith(
        b"ERROR:grctl:grctl.operation operation=start result=WorkflowTypeNotRegisteredError code=4004 "
    )


async def test_structlog_gets_an_event_with_fields(client, captured, caplog) -> None:
    handle = await client.start_workflow("Order", "order-7")
    (record,) = captured
    assert record.pop("duration") >= 0
    assert record == {
        "event": "grctl.operation",
        "log_level": "info",
        "operation": "start",
        "result": "ok",
        "workflow_id": "order-7",
        "run_id": handle.run_info.id,
        "workflow_type": "Order",
        "attempts": 1,
    }
    assert not [record for record in caplog.records if record.name == "grctl"]


def test_seconds_are_written_without_an_exponent(logger, caplog) -> None:
    output = Output("grctl")
    output.write(logging.INFO, "grctl.run_ended", {"waited": 9.8e-05, "delay": 0.25, "attempts": 2})
    assert caplog.messages == ["grctl.run_ended waited=0.000098 delay=0.250000 attempts=2"]


async def test_it_is_decided_at_the_first_record(client, caplog) -> None:
    # `client` is there already; structlog is configured only now.
    capture = LogCapture()
    structlog.configure(processors=[capture])
    try:
        await client.start_workflow("Order", "order-7")
        assert len(capture.entries) == 1
        again = LogCapture()
        structlog.configure(processors=[again])  # configured once more: followed
        await client.start_workflow("Order", "order-8")
        assert (len(capture.entries), len(again.entries)) == (1, 1)
    finally:
        structlog.reset_defaults()


async def test_structlogs_filter_by_level_is_followed(client, captured) -> None:
    ids = iter(range(100))

    async def records_of_a_start() -> int:
        captured.clear()
        await client.start_workflow("Order", f"order-{next(ids)}")
        return len(captured)

    assert await records_of_a_start() == 1
    structlog.configure(**{**structlog.get_config(), "wrapper_class": structlog.make_filtering_bound_logger(30)})
    assert await records_of_a_start() == 0
    structlog.configure(**{**structlog.get_config(), "wrapper_class": structlog.make_filtering_bound_logger(20)})
    assert await records_of_a_start() == 1
    structlog.configure(**{**structlog.get_config(), "wrapper_class": structlog.BoundLogger})
    assert await records_of_a_start() == 1


async def test_what_was_decided_stays(client, caplog) -> None:
    caplog.set_level(logging.INFO, "grctl")
    await client.start_workflow("Order", "order-7")
    capture = LogCapture()
    structlog.configure(processors=[capture])
    try:
        await client.start_workflow("Order", "order-8")
    finally:
        structlog.reset_defaults()
    assert capture.entries == []
    assert [record.workflow_id for record in caplog.records if record.name == "grctl"] == ["order-7", "order-8"]


async def test_keys_of_the_application_do_not_get_in_the_way(client, captured) -> None:
    structlog.contextvars.bind_contextvars(event="theirs", level="theirs", result="theirs", request_id="r-1")
    handle = await client.start_workflow("Order", "order-7")
    await handle.send("approve")
    assert [(record["event"], record["result"], record["request_id"]) for record in captured] == [
        ("grctl.operation", "ok", "r-1")
    ] * 2


async def test_a_logger_factory_without_arguments(client, captured, complaints) -> None:
    structlog.configure(logger_factory=lambda: structlog.PrintLogger())  # noqa: PLW0108 - takes no name
    await client.start_workflow("Order", "order-7")
    assert len(captured) == 1
    assert not complaints


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_async_bound_logger(client, captured, complaints) -> None:
    structlog.configure(
        wrapper_class=structlog.stdlib.AsyncBoundLogger, logger_factory=structlog.stdlib.LoggerFactory()
    )
    await client.start_workflow("Order", "order-7")
    assert len(captured) == 1
    assert not complaints


class OnlyAsync(structlog.BoundLoggerBase):
    async def info(self, event: str, **fields: object) -> None:
        raise AssertionError


def raising(*args: object, **kwargs: object) -> Any:
    raise OSError("the disk is full")


@pytest.mark.parametrize(
    "configuration",
    [
        {"processors": [raising]},
        {"wrapper_class": OnlyAsync},
        {"logger_factory": raising},
        {"processors": [], "logger_factory": object},
    ],
    ids=["processor", "only coroutines", "factory", "logger without methods"],
)
async def test_a_broken_structlog_breaks_no_call(client, connection, captured, complaints, configuration) -> None:
    structlog.configure(**configuration)
    handle = await client.start_workflow("Order", "order-7")
    with handle.log_context():
        await handle.send("approve")
    connection.script("run.event", NotDeliveredError("nobody listens"))
    with pytest.raises(NotDeliveredError):  # the error itself, with nothing of the logging's around it
        await handle.send("approve")
    (complaint,) = complaints  # said once
    assert complaint["message"].startswith("grctl's records are lost: the application's logging raised")
    assert captured == []


class Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("the disk is full")


def record_factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)
    record.workflow_id = "theirs"  # the standard library raises KeyError when `extra` has the same name
    return record


@pytest.mark.parametrize(
    "spoil",
    [
        lambda logger: logger.addHandler(Raising()),
        lambda logger: logger.addFilter(raising),
        lambda _: logging.setLogRecordFactory(raising),
    ],
    ids=["handler", "filter", "record factory"],
)
async def test_a_broken_standard_library_breaks_no_call(client, connection, logger, complaints, spoil) -> None:
    spoil(logger)
    handle = await client.start_workflow("Order", "order-7")
    await handle.send("approve")
    connection.script("run.event", NotDeliveredError("nobody listens"))
    with pytest.raises(NotDeliveredError):
        await handle.send("approve")
    (complaint,) = complaints
    assert complaint["message"] == "grctl's records are lost: the application's logging raised OSError"


async def test_a_record_factory_with_a_field_of_the_same_name_keeps_it(client, logger, caplog, complaints) -> None:
    logging.setLogRecordFactory(record_factory)
    await client.start_workflow("Order", "order-7")
    (record,) = [record for record in caplog.records if record.name == "grctl"]
    assert record.workflow_id == "theirs"
    assert " workflow_id=order-7 " in record.getMessage()
    assert not complaints


async def test_structlog_that_another_thread_is_just_importing(client, caplog, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "structlog", type(sys)("structlog"))
    caplog.set_level(logging.INFO, "grctl")
    await client.start_workflow("Order", "order-7")
    assert [record.operation for record in caplog.records if record.name == "grctl"] == ["start"]


async def test_many_plugins_add_one_null_handler(connection, logger) -> None:
    for number in range(3):
        await WorkflowClient(connection=connection, plugins=["logging"]).start_workflow("Order", f"order-{number}")
    assert sum(isinstance(handler, logging.NullHandler) for handler in logger.handlers) == 1


def test_the_package_imports_alone() -> None:
    program = """
        import sys
        sys.modules |= dict.fromkeys(["structlog", "opentelemetry", "nats", "grctl", "grctl_engine"])
        import grctl_logging
        from grctl_core.plugins import plugins_of
        plugins = plugins_of(["logging"])
        assert isinstance(plugins[0], grctl_logging.LoggingPlugin)
        plugins[0]._output.write(30, "grctl.operation", {})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
