"""A whole run with secrets, everything turned up: what is printed, logged and exported holds none of them."""

from __future__ import annotations

import asyncio
import io
import logging
import ssl
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from broker import Broker
from cli.conftest import Cli
from fake_server import FakeServer
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

import grctl
from grctl import Client
from grctl_core.commands import Reply, ReplyError
from grctl_core.outcome import ErrorDetails
from grctl_core.run import RunInfo
from grctl_logging import LoggingPlugin
from grctl_nats import NatsConnection
from grctl_retry import Retry, RetryPlugin
from grctl_tracing import TracingPlugin

PASSWORD = "Pa55-w0rd-s3cr3t"
WRONG = "wr0ng-Pa55-s3cr3t"
TOKEN = "t0ken-s3cr3t"
PAYLOAD = "payl0ad-s3cr3t"
QUICKLY = Retry(attempts=3, first_delay=0.01)
SECRETS = (PASSWORD, WRONG, TOKEN, PAYLOAD)


@pytest.fixture
def everything() -> Iterator[io.StringIO]:
    """All that is logged, by whomever, at whatever level, with tracebacks."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield written
    root.removeHandler(handler)
    root.setLevel(level)


async def fails(written: io.StringIO, call: Any) -> None:
    """Have it fail, and report that as a careful program would."""
    try:
        async with asyncio.timeout(30):
            await call
    except (Exception, asyncio.CancelledError) as error:
        logging.getLogger("app").exception("it failed")
        written.write("".join(traceback.format_exception(error)))
        written.write(repr(vars(error)))
    else:
        raise AssertionError("it did not fail")


async def test_nothing_is_told(
    everything: io.StringIO, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.get_running_loop().set_debug(True)
    exported = io.StringIO()
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=exported)))
    reader = InMemoryMetricReader()
    tracing = TracingPlugin(
        tracer_provider=tracer_provider, meter_provider=MeterProvider([reader], shutdown_on_exit=False)
    )
    plugins = [tracing, LoggingPlugin(), RetryPlugin()]
    async with Broker({"authorization": {"user": "me", "password": PASSWORD}}) as broker:
        url = broker.url.replace("//", f"//me:{PASSWORD}@")
        async with FakeServer(url) as server, await grctl.connect(url) as connection:
            client = Client(connection=connection, plugins=plugins, request_timeout=20)
            await run_some(server, client, everything)
            await from_the_command_line(tmp_path, url, broker.url, everything)
        await fails(everything, grctl.connect(broker.url.replace("//", f"//me:{WRONG}@")))
        await fails(everything, NatsConnection.open(broker.url, user="me", password=WRONG))
        await fails(everything, NatsConnection.open(broker.url, token=TOKEN))
        await fails(everything, NatsConnection.open(url.replace("nats://", "tls://")))
        await fails(everything, grctl.connect(f"nats://me:{PASSWORD}@127.0.0.1:1", connect_timeout=0.2))
    await untrusted(tmp_path, everything)
    out, err = capfd.readouterr()
    metrics = reader.get_metrics_data()
    told = {
        "logged": everything.getvalue(),
        "exported": exported.getvalue(),
        "measured": "" if metrics is None else metrics.to_json(),
        "printed": out + err,
    }
    assert "refuses the login" in told["logged"]
    assert "grctl.operation" in told["logged"]
    assert "grctl/start" in told["exported"]
    assert "grctl.client" in told["measured"]
    for where, text in told.items():
        for secret in SECRETS:
            assert secret not in text, f"{where}: {text[max(0, text.find(secret) - 300) : text.find(secret) + 50]}"


async def run_some(server: FakeServer, client: Client, everything: io.StringIO) -> None:
    """Start, send, complete, fail, be refused, and be left without an answer."""
    handles = []
    for number in range(2):
        handle = await client.start_workflow("W", f"w{number}", {"word": PAYLOAD}, 3_600)
        run = handle.run_info
        await server.put_run(run)
        await server.put_state(run.ref, "wait")
        with handle.log_context():
            await handle.send("note", {"word": PAYLOAD}, check_event=False)
            logging.getLogger("app").info("with %r", handle)
        handles.append((handle, run))
    await end_both(server, handles, everything)
    server.answer = lambda command: Reply(success=False, error=ReplyError(5000, "boom", "boom"))
    await fails(everything, client.start_workflow("W", "x", {"word": PAYLOAD}, retry=None))
    server.answer = lambda command: b"\xc1"
    await fails(everything, client.start_workflow("W", "x", {"word": PAYLOAD}, retry=QUICKLY))
    server.answer = lambda command: None
    await fails(everything, client.start_workflow("W", "x", {"word": PAYLOAD}, request_timeout=0.1, retry=None))
    await fails(everything, client.start_workflow("W", "x", {"word": PAYLOAD, "bad": object()}))
    server.answer = server.ok
    call = asyncio.ensure_future(client.run_workflow("W", "z", {"word": PAYLOAD}))
    await asyncio.sleep(0.05)
    call.cancel()
    await fails(everything, call)


async def end_both(server: FakeServer, handles: list[tuple[Any, RunInfo]], everything: io.StringIO) -> None:
    (completes, first), (breaks, second) = handles
    await server.end(first, result={"word": PAYLOAD})
    assert await completes.result() == {"word": PAYLOAD}
    await server.end(second, grctl.RunStatus.FAILED, error=ErrorDetails("ValueError", "no stock", "at line 1"))
    await fails(everything, breaks.result())


async def from_the_command_line(tmp_path: Path, url: str, bare_url: str, everything: io.StringIO) -> None:
    """With its log turned up: the address in the environment, and as an argument, right and wrong."""
    for address in (url, url.replace(PASSWORD, WRONG), url.replace("nats://", "tls://"), bare_url):
        cli = Cli(tmp_path, address)
        for arguments in (["doctor"], ["doctor", "--json"], ["workflow", "list"], ["workflow", "describe", "-i", "w1"]):
            done = await cli("--log-level", "debug", "--request-timeout", "2s", *arguments)
            everything.write(done.out + done.err)
        done = await Cli(tmp_path, None)("-s", address, "-l", "debug", "--request-timeout", "2s", "workflow", "list")
        everything.write(done.out + done.err)
        assert (done.code == 0) is (address == url), done
    broken = url.replace("@", f"{WRONG}/@")
    done = await Cli(tmp_path, None)("-s", broken, "-l", "debug", "workflow", "list")
    everything.write(done.out + done.err)
    assert done.code == 2


async def untrusted(tmp_path: Path, everything: io.StringIO) -> None:
    """A broker whose certificate nobody trusts."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    config = {
        "authorization": {"user": "me", "password": PASSWORD},
        "tls": {"cert_file": str(tmp_path / "cert.pem"), "key_file": str(tmp_path / "key.pem")},
    }
    async with Broker(config, tls=True) as broker:
        url = broker.url.replace("//", f"//me:{PASSWORD}@")
        await fails(everything, NatsConnection.open(url))
        context = ssl.create_default_context()
        authority.configure_trust(context)
        await fails(everything, NatsConnection.open(url.replace(PASSWORD, WRONG), tls=context))
        done = await Cli(tmp_path, url)("-l", "debug", "--request-timeout", "2s", "doctor")
        everything.write(done.out + done.err)
        assert "is not trusted" in done.out
