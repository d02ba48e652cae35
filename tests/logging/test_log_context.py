"""grctl_logging: the caller's own records name the run inside ``with handle.log_context():``."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import logging.config
from typing import Any

import pytest
import structlog
from core.scripted import ScriptedConnection
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from structlog.testing import LogCapture

from grctl_core.client import WorkflowClient
from grctl_core.errors import NotSentError
from grctl_core.hooks import Plugin
from grctl_logging import RunContextFilter

log = logging.getLogger("shop")


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def seen(self) -> list[tuple[str, str]]:
        return [(record.getMessage(), record.workflow_id) for record in self.records if record.name == "shop"]


@pytest.fixture
def connection() -> ScriptedConnection:
    return ScriptedConnection()


@pytest.fixture
def client(connection: ScriptedConnection) -> WorkflowClient:
    return WorkflowClient(connection=connection, plugins=["logging"])


@pytest.fixture
def kept():
    """A handler as an application has one: on the root logger, with the filter."""
    handler = Kept()
    handler.addFilter(RunContextFilter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def captured():
    capture = LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    yield capture.entries
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


async def test_records_of_the_block_name_the_run(client, kept) -> None:
    handle = await client.start_workflow("Order", "order-7")
    log.info("before")
    with handle.log_context():
        log.info("inside")
    log.info("after")
    assert kept.seen == [("before", "-"), ("inside", "order-7"), ("after", "-")]
    inside = kept.records[-2]
    assert (inside.run_id, inside.workflow_type) == (handle.run_info.id, "Order")


async def test_blocks_nest(client, kept) -> None:
    one, two = [await client.start_workflow("Order", f"order-{number}") for number in (1, 2)]
    with one.log_context():
        with two.log_context():
            log.info("two")
        log.info("one")
        with pytest.raises(ValueError, match="x"), two.log_context():
            raise ValueError("x")
        log.info("one again")
    assert kept.seen == [("two", "order-2"), ("one", "order-1"), ("one again", "order-1")]


async def test_tasks_begun_in_the_block_name_the_run_also_after_it(client, kept) -> None:
    handle = await client.start_workflow("Order", "order-7")
    go_on = asyncio.Event()

    async def work() -> None:
        await go_on.wait()
        log.info("in a task")
        await asyncio.to_thread(log.info, "in a thread")

    with handle.log_context():
        task = asyncio.create_task(work())
    go_on.set()
    log.info("outside")
    await task
    assert kept.seen == [("outside", "-"), ("in a task", "order-7"), ("in a thread", "order-7")]


async def test_concurrent_blocks_do_not_mix(client, kept) -> None:
    handles = [await client.start_workflow("Order", f"order-{number}") for number in range(5)]
    all_inside = asyncio.Barrier(len(handles))

    async def work(handle: Any) -> None:
        with handle.log_context():
            await all_inside.wait()
            log.info(handle.run_info.wf_id)
            await all_inside.wait()
        log.info("-")

    await asyncio.gather(*map(work, handles))
    assert len(kept.seen) == 10
    assert all(message == workflow_id for message, workflow_id in kept.seen)


async def test_a_block_that_is_left_in_another_context_breaks_nothing(client, kept) -> None:
    handle = await client.start_workflow("Order", "order-7")
    block = handle.log_context()
    contextvars.copy_context().run(block.__enter__)  # as a fixture or an async generator may do
    block.__exit__(None, None, None)
    log.info("outside")
    assert kept.seen == [("outside", "-")]


async def test_the_plugins_own_records_keep_their_run(client, kept) -> None:
    one = await client.start_workflow("Order", "order-1")
    with one.log_context():
        await client.start_workflow("Order", "order-2")
    ours = [record.workflow_id for record in kept.records if record.name == "grctl"]
    assert ours == ["order-1", "order-2"]


async def test_the_filter_in_a_dict_config_with_a_format(client, capsys) -> None:
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"run": {"()": "grctl_logging.RunContextFilter", "outside": "none"}},
        "formatters": {"line": {"format": "%(message)s %(workflow_id)s %(workflow_type)s"}},
        "handlers": {
            "out": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "filters": ["run"],
                "formatter": "line",
            }
        },
        "loggers": {"shop.web": {"handlers": ["out"], "level": "INFO", "propagate": False}},
    }
    logging.config.dictConfig(config)
    try:
        handle = await client.start_workflow("Order", "order-7")
        with handle.log_context():
            logging.getLogger("shop.web").info("inside")
        logging.getLogger("shop.web").info("outside")
    finally:
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "loggers": {"shop.web": {}}})
        logging.getLogger("shop.web").propagate = True
    assert capsys.readouterr().out == "inside order-7 Order\noutside none none\n"


async def test_structlog_names_the_run(client, captured) -> None:
    handle = await client.start_workflow("Order", "order-7")
    other = await client.start_workflow("Order", "order-8")
    captured.clear()
    shop = structlog.get_logger()
    structlog.contextvars.bind_contextvars(workflow_id="theirs", request_id="r-1")

    async def work() -> None:
        shop.info("task")

    with handle.log_context():
        shop.info("inside")
        with other.log_context():
            task = asyncio.create_task(work())
        shop.info("inside again")
        await task
    shop.info("after")
    seen = [(record["event"], record["workflow_id"], record.get("run_id")) for record in captured]
    assert seen == [
        ("inside", "order-7", handle.run_info.id),
        ("inside again", "order-7", handle.run_info.id),
        ("task", "order-8", other.run_info.id),
        ("after", "theirs", None),
    ]
    assert {record["request_id"] for record in captured} == {"r-1"}


async def test_without_the_plugin_the_block_does_nothing(connection, kept) -> None:
    handle = await WorkflowClient(connection=connection, plugins=[]).start_workflow("Order", "order-7")
    with handle.log_context():
        log.info("inside")
    assert kept.seen == [("inside", "-")]


# Trace ids come from the application's own processors: records must be made while the operation's span is current.


class Spans(Plugin):
    """A span around each operation and each attempt, as a tracing plugin has them."""

    name = "tracing"

    def __init__(self) -> None:
        self.tracer = TracerProvider().get_tracer("test")
        self.operations: list[int] = []

    async def grctl_operation(self, call, proceed):
        with self.tracer.start_as_current_span(call.operation) as span:
            self.operations.append(span.get_span_context().span_id)
            return await proceed(call)

    async def grctl_attempt(self, attempt, proceed):
        with self.tracer.start_as_current_span(attempt.kind):
            return await proceed(attempt)


class RetryOnce(Plugin):
    name = "retry"

    async def grctl_retry(self, call, proceed):
        try:
            return await proceed(call)
        except NotSentError as error:
            proceed.announce(error, 0.0)
            return await proceed(call)


async def test_records_are_made_inside_the_operations_span(connection, captured) -> None:
    def add_span(logger: object, method: str, record: dict[str, Any]) -> dict[str, Any]:
        record["span_id"] = trace.get_current_span().get_span_context().span_id
        return record

    structlog.configure(processors=[add_span, *structlog.get_config()["processors"]])
    spans = Spans()
    client = WorkflowClient(connection=connection, plugins=[spans, "logging", RetryOnce()])
    connection.script("run.start", NotSentError("no connection"))
    handle = await client.start_workflow("Order", "order-7")
    connection.script("run.event", NotSentError("no connection"), NotSentError("no connection"))
    with pytest.raises(NotSentError):
        await handle.send("approve")
    assert [(record["event"], record["operation"]) for record in captured] == [
        ("grctl.retry", "start"),
        ("grctl.operation", "start"),
        ("grctl.retry", "send"),
        ("grctl.operation", "send"),
    ]
    start, send = spans.operations
    assert [record["span_id"] for record in captured] == [start, start, send, send]


def test_logging_outside_tracing_is_warned_of(connection) -> None:
    with pytest.warns(UserWarning, match="plugin 'logging' is listed before 'tracing'"):
        WorkflowClient(connection=connection, plugins=["logging", Spans()])
