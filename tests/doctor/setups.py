"""Broken set-ups, with real brokers: each is an async context manager that yields how to examine it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import nats
import trustme
from dev_server.raw import Raw
from nats.aio.client import Client
from nats.aio.msg import Msg

from grctl.doctor import Examination
from grctl.testing import DevServer, Fault, Faults, What
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_core.commands import ErrorCode, Reply, ReplyError
from grctl_core.history import HistoryEvent
from grctl_core.ids import new_ulid
from grctl_core.run import RunInfo, RunStatus
from grctl_nats import subjects, wire

_path = Path(__file__).parents[1] / "nats" / "broker.py"
_spec = importlib.util.spec_from_file_location("doctor_broker", _path)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
Broker: Any = _module.Broker

PASSWORD = "s3cr3t-Pa55"
ADMIN = {"user": "admin", "password": PASSWORD}

greeting = Workflow(workflow_type="Greeting")


@greeting.start()
async def start(ctx: Context, name: str) -> Directive:
    return ctx.next.complete(f"Hello, {name}!")


def url_of(broker: Any, *, user: str = "admin", password: str = PASSWORD) -> str:
    return f"nats://{user}:{password}@127.0.0.1:{broker.port}"


@contextlib.asynccontextmanager
async def raw_client(url: str) -> AsyncIterator[Client]:
    client = await nats.connect(url, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0.01)
    try:
        yield client
    finally:
        await client.close()


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """A port that nobody listens on, and nobody else takes meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextlib.asynccontextmanager
async def listener(greeting: bytes) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def nobody_listens(folder: Path) -> AsyncIterator[Examination]:
    with free_port() as port:
        yield Examination(f"nats://127.0.0.1:{port}")


@contextlib.asynccontextmanager
async def unknown_host(folder: Path) -> AsyncIterator[Examination]:
    yield Examination("nats://no-such-host.invalid:4225")


@contextlib.asynccontextmanager
async def no_address(folder: Path) -> AsyncIterator[Examination]:
    yield Examination("http://127.0.0.1:4225")


@contextlib.asynccontextmanager
async def something_else(folder: Path) -> AsyncIterator[Examination]:
    async with listener(b"SSH-2.0-\x1b[31mOpenSSH\r\n") as port:
        yield Examination(f"nats://127.0.0.1:{port}")


@contextlib.asynccontextmanager
async def something_silent(folder: Path) -> AsyncIterator[Examination]:
    async with listener(b"") as port:
        yield Examination(f"nats://127.0.0.1:{port}")


@contextlib.asynccontextmanager
async def old_broker(folder: Path) -> AsyncIterator[Examination]:
    """One that introduces itself, hears the login, and refuses."""
    info = {"server_id": "x", "version": "2.9.1", "max_payload": 1_048_576, "proto": 1, "headers": True}
    async with listener(f"INFO {json.dumps(info)}\r\n-ERR 'Authorization Violation'\r\n".encode()) as port:
        yield Examination(f"nats://127.0.0.1:{port}")


@contextlib.asynccontextmanager
async def wrong_password(folder: Path) -> AsyncIterator[Examination]:
    async with Broker({"authorization": ADMIN}) as broker:
        yield Examination(url_of(broker, password="wrong"))


@contextlib.asynccontextmanager
async def no_login(folder: Path) -> AsyncIterator[Examination]:
    async with Broker({"authorization": ADMIN}) as broker:
        yield Examination(broker.url)


def certificate(folder: Path) -> dict[str, Any]:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    (folder / "server.pem").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(folder / "server-key.pem"))
    return {"tls": {"cert_file": str(folder / "server.pem"), "key_file": str(folder / "server-key.pem")}}


@contextlib.asynccontextmanager
async def untrusted_certificate(folder: Path) -> AsyncIterator[Examination]:
    async with Broker(certificate(folder), tls=True) as broker:
        yield Examination(broker.url)


@contextlib.asynccontextmanager
async def no_tls(folder: Path) -> AsyncIterator[Examination]:
    async with Broker() as broker:
        yield Examination(f"tls://127.0.0.1:{broker.port}")


@contextlib.asynccontextmanager
async def no_jetstream(folder: Path) -> AsyncIterator[Examination]:
    async with Broker(jetstream=False) as broker:
        yield Examination(broker.url)


@contextlib.asynccontextmanager
async def no_stream(folder: Path) -> AsyncIterator[Examination]:
    async with Broker() as broker:
        yield Examination(broker.url)


@contextlib.asynccontextmanager
async def no_server(folder: Path) -> AsyncIterator[Examination]:
    async with Broker() as broker:
        async with DevServer([greeting], nats_url=broker.url):
            pass  # it has made the stream
        yield Examination(broker.url)


@contextlib.asynccontextmanager
async def server_that_hangs(folder: Path) -> AsyncIterator[Examination]:
    async def ignore(_: Msg) -> None: ...

    async with no_server(folder) as examination, raw_client(str(examination.server_url)) as client:
        await client.subscribe("grctl_api.>", cb=ignore)
        await client.flush()
        yield examination


@contextlib.asynccontextmanager
async def two_servers(folder: Path) -> AsyncIterator[Examination]:
    async with DevServer([greeting]) as server, raw_client(server.url) as client:

        async def answer(message: Msg) -> None:
            reply = Reply(success=False, error=ReplyError(ErrorCode.NOT_FOUND, "not found"))
            await message.respond(wire.encode_reply(reply))

        await client.subscribe("grctl_api.>", cb=answer)
        await client.flush()
        yield Examination(server.url)


def restricted(**permissions: Any) -> dict[str, Any]:
    shop = {"user": "shop", "password": PASSWORD, "permissions": permissions}
    return {"authorization": {"users": [ADMIN, shop]}}


@contextlib.asynccontextmanager
async def missing_permissions(folder: Path) -> AsyncIterator[Examination]:
    config = restricted(
        publish={"deny": ["grctl_api.>", "$JS.API.CONSUMER.CREATE.>"]}, subscribe={"deny": ["grctl_run.>"]}
    )
    async with Broker(config) as broker, DevServer([greeting], nats_url=url_of(broker)):
        yield Examination(url_of(broker, user="shop"))


@contextlib.asynccontextmanager
async def no_answers(folder: Path) -> AsyncIterator[Examination]:
    async with (
        Broker(restricted(subscribe={"deny": ["_INBOX.>"]})) as broker,
        DevServer([greeting], nats_url=url_of(broker)),
    ):
        yield Examination(url_of(broker, user="shop"))


@contextlib.asynccontextmanager
async def type_not_registered(folder: Path) -> AsyncIterator[Examination]:
    async with DevServer([greeting]) as server:
        yield Examination(server.url, workflow_type="Greting")


async def put(client: Client, subject: str, body: bytes) -> None:
    answer = json.loads((await client.request(subject, body, timeout=20)).data)
    assert "error" not in answer, answer


def old_run(**fields: Any) -> RunInfo:
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    return RunInfo(**({"id": new_ulid(), "wf_id": "order-1", "wf_type": "Order", "created_at": long_ago} | fields))


@contextlib.asynccontextmanager
async def no_worker(folder: Path) -> AsyncIterator[Examination]:
    async with DevServer([greeting]) as server, raw_client(server.url) as client:
        run = old_run(status=RunStatus.RUNNING)
        state = wire.RunState(wf_id=run.wf_id, run_id=run.id, kind="start", entered_at=run.created_at)
        event = HistoryEvent(
            seq=0, kind="run.started", timestamp=run.created_at, wf_id=run.wf_id, run_id=run.id, encoded=b"\x80"
        )
        await put(client, subjects.run_info(run.ref), wire.encode_run_info(run))
        await put(client, subjects.run_state(run.ref), wire.encode_run_state(state))
        await put(client, subjects.history(run.ref), wire.encode_event(event))
        yield Examination(server.url)


@contextlib.asynccontextmanager
async def run_that_never_began(folder: Path) -> AsyncIterator[Examination]:
    async with DevServer([greeting]) as server, raw_client(server.url) as client:
        run = old_run()
        await put(client, subjects.run_info(run.ref), wire.encode_run_info(run))
        yield Examination(server.url)


@contextlib.asynccontextmanager
async def unreadable_record(folder: Path) -> AsyncIterator[Examination]:
    """And behind it a run that never began, which is found all the same."""
    async with run_that_never_began(folder) as examination, raw_client(str(examination.server_url)) as client:
        await put(client, "grctl_run.A-first.order-2.no-run.info", b"\xc1")
        yield examination


@contextlib.asynccontextmanager
async def contradicting_record(folder: Path) -> AsyncIterator[Examination]:
    """A late duplicate of a start comes after the run has ended (docs/protocol.md, section 8, 1)."""
    faults = Faults(Fault(what=What.OVERWRITE_FINISHED))
    async with DevServer([greeting], faults=faults) as server, raw_client(server.url) as client:
        raw = Raw(client)
        run = await raw.start("Greeting", "greeting-1", {"name": "Ada"})
        await raw.end(run)
        await raw.start("Greeting", "greeting-1", {"name": "Ada"}, run_id=run.run_id)
        await server.settled()
        assert faults.struck == [What.OVERWRITE_FINISHED]
        yield Examination(server.url)


@contextlib.asynccontextmanager
async def piled_up(folder: Path, *, pending: int = 10) -> AsyncIterator[Examination]:
    async with DevServer([greeting]) as server, raw_client(server.url) as client:
        stream = client.jetstream()
        for number in range(pending):
            await put(client, f"grctl_events.order-{number}", msgspec.msgpack.encode({}))
        config = nats.js.api.ConsumerConfig(max_ack_pending=10, ack_wait=600)
        pull = await stream.pull_subscribe("grctl_events.>", durable="directives", config=config)
        assert len(await pull.fetch(pending, timeout=20)) == pending
        yield Examination(server.url)


@contextlib.asynccontextmanager
async def piling_up(folder: Path) -> AsyncIterator[Examination]:
    async with piled_up(folder, pending=5) as examination:
        yield examination


@contextlib.asynccontextmanager
async def forgetful_stream(folder: Path) -> AsyncIterator[Examination]:
    """Kept in memory, for an hour."""

    async def answer(message: Msg) -> None:
        reply = Reply(success=False, error=ReplyError(ErrorCode.NOT_FOUND, "not found"))
        await message.respond(wire.encode_reply(reply))

    async with Broker() as broker, raw_client(broker.url) as client:
        config = nats.js.api.StreamConfig(
            name=subjects.STREAM, subjects=["grctl_run.>"], storage="memory", max_age=3600, allow_direct=True
        )
        await client.jetstream().add_stream(config)
        await client.subscribe("grctl_api.>", cb=answer)
        await client.flush()
        yield Examination(broker.url)
