"""Passwords, tokens, seeds and what is sent: they stand in nothing that is raised, logged or printed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import nkeys
import pydantic
import pytest
from broker import Broker
from fake_server import FakeServer, new_run

import grctl
from grctl import Client
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_core.commands import Reply, ReplyError
from grctl_core.run import RunStatus
from grctl_nats import NatsConnection

from .revealing import places_in

SECRET = "s3cr3t-Pa55w0rd"
OTHER = "an0ther-s3cr3t"


def seed() -> str:
    return bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)).decode()


async def caught(awaitable: Awaitable[Any]) -> BaseException:
    """Return what it raises."""
    try:
        async with asyncio.timeout(30):
            result = await awaitable
    except BaseException as error:
        return error
    raise AssertionError(f"it did not fail: {result!r}")


# Connecting


WRONG_ARGUMENTS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "no port": lambda: (f"nats://me:{SECRET}@localhost:port", {}),
    "a port of the password": lambda: (f"nats://me:{SECRET}/x@localhost:4222", {}),
    "white space": lambda: (f"nats://me:{SECRET} x@localhost:4222", {}),
    "another scheme": lambda: (f"http://me:{SECRET}@localhost:4222", {}),
    "no scheme": lambda: (f"me:{SECRET}@localhost:4222", {"name": 5}),
    "a path": lambda: (f"nats://me:{SECRET}@localhost:4222/x", {}),
    "no host": lambda: (f"nats://me:{SECRET}@:4222", {}),
    "one of a list": lambda: ([f"nats://me:{SECRET}@localhost:4222", 5], {}),
    "two logins": lambda: ("nats://localhost", {"user": "me", "password": SECRET, "token": OTHER}),
    "a password alone": lambda: ("nats://localhost", {"password": SECRET}),
    "an option that is none": lambda: ("nats://localhost", {"passwort": SECRET}),
    "a wrong type": lambda: ("nats://localhost", {"token": SECRET.encode()}),
    "a seed with a letter too many": lambda: ("nats://localhost", {"nkey": f"SU{SECRET.upper()}" + "A" * 50}),
    "a seed for a path": lambda: ("nats://localhost", {"credentials": f"SU{'A' * 40}{SECRET}"}),
    "no duration": lambda: (f"nats://me:{SECRET}@localhost", {"connect_timeout": -1}),
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
@pytest.mark.parametrize("open_it", [NatsConnection.open, NatsConnection.connect, grctl.connect])
async def test_wrong_arguments(name: str, open_it: Callable[..., Awaitable[Any]]) -> None:
    servers, options = WRONG_ARGUMENTS[name]()
    error = await caught(open_it(servers, **options))
    assert isinstance(error, grctl.InvalidInputError)
    assert places_in(error, [SECRET, SECRET.upper(), OTHER]) == []


@contextlib.asynccontextmanager
async def broker_with(authorization: dict[str, Any], **more: Any) -> AsyncIterator[Broker]:
    async with Broker({"authorization": authorization, **more}) as broker:
        yield broker


LOGINS: dict[str, tuple[dict[str, Any], Callable[[str, Path], tuple[str, dict[str, Any]]]]] = {
    "password in the URL": (
        {"user": "me", "password": OTHER},
        lambda url, _: (url.replace("//", f"//me:{SECRET}@"), {}),
    ),
    "password": ({"user": "me", "password": OTHER}, lambda url, _: (url, {"user": "me", "password": SECRET})),
    "token": ({"token": OTHER}, lambda url, _: (url, {"token": SECRET})),
    "token in the URL": ({"token": OTHER}, lambda url, _: (url.replace("//", f"//{SECRET}@"), {})),
    "password, TLS asked for": (
        {"user": "me", "password": SECRET},
        lambda url, _: (url.replace("nats://", f"tls://me:{SECRET}@"), {}),
    ),
    "password, nobody listens": (
        {},
        lambda url, _: (f"nats://me:{SECRET}@127.0.0.1:1", {"connect_timeout": 0.2}),
    ),
    "password, two brokers": (
        {"user": "me", "password": OTHER},
        lambda url, _: (f"nats://me:{SECRET}@127.0.0.1:1,{url.replace('//', f'//me:{SECRET}@')}", {}),
    ),
}


@pytest.mark.parametrize("name", LOGINS)
async def test_a_login_that_is_refused(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    authorization, arguments = LOGINS[name]
    async with broker_with(authorization) as broker:
        servers, options = arguments(broker.url, tmp_path)
        for open_it in (NatsConnection.open, NatsConnection.connect, grctl.connect):
            if open_it is grctl.connect and "," in servers:
                continue
            error = await caught(open_it(servers, **options))
            assert isinstance(error, grctl.GrctlError)
            assert places_in(error, [SECRET, OTHER]) == []
    assert SECRET not in caplog.text


async def test_a_seed_that_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    mine, known = seed(), nkeys.from_seed(bytearray(seed().encode()))
    (tmp_path / "seed").write_text(mine)
    credentials = tmp_path / "user.creds"
    credentials.write_text(
        f"-----BEGIN NATS USER JWT-----\n{SECRET}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{mine}\n------END USER NKEY SEED------\n"
    )
    async with broker_with({"users": [{"nkey": known.public_key.decode()}]}) as broker:
        for options in ({"nkey": mine}, {"nkey": tmp_path / "seed"}, {"credentials": credentials}):
            error = await caught(NatsConnection.open(broker.url, **options))
            assert isinstance(error, grctl.AccessDeniedError)
            assert places_in(error, [mine, SECRET]) == []
    assert mine not in caplog.text
    assert SECRET not in caplog.text


async def test_a_password_that_is_right(caplog: pytest.LogCaptureFixture) -> None:
    """Connected, it stands in no repr, nor in what is logged when the connection is lost and refused."""
    caplog.set_level("DEBUG")
    async with broker_with({"user": "me", "password": SECRET}) as broker:
        url = broker.url.replace("//", f"//me:{SECRET}@")
        async with FakeServer(url) as server, await NatsConnection.open(url) as connection:
            client = Client(connection=connection, plugins=[])
            run = new_run()
            await server.put_run(run)
            handle = await client.get_handle("w")
            for thing in (connection, client, handle, connection._settings, connection._uplink.link, handle.future):
                assert SECRET not in repr(thing)
                assert SECRET not in str(thing)
            broker.kill()
            error = await caught(handle.describe())
            assert places_in(error, [SECRET]) == []
            error = await caught(NatsConnection.connect(url.replace(SECRET, OTHER), connect_timeout=0.2))
            assert places_in(error, [SECRET, OTHER]) == []
    assert SECRET not in caplog.text
    assert OTHER not in caplog.text


# What is sent


@dataclasses.dataclass
class Unsendable:
    word: str = SECRET


class Colour(enum.Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    word: int


class Odd:
    def __repr__(self) -> str:
        return SECRET


@dataclasses.dataclass
class Typed:
    word: int


class Strict(msgspec.Struct):
    colour: Colour


UNSENDABLE: dict[str, Callable[[], Any]] = {
    "an object": lambda: {"word": SECRET, "odd": Odd()},
    "an object alone": Odd,
    "in a list": lambda: [SECRET, [SECRET, Odd()]],
    "a surrogate": lambda: {"word": f"{SECRET}\ud800"},
    "a surrogate in a set": lambda: {f"{SECRET}\ud800"},
    "no time zone": lambda: {"word": SECRET, "when": datetime(2026, 1, 2)},  # noqa: DTZ001
    "too deep": lambda: deep(SECRET),
    "a large number": lambda: {"word": SECRET, "number": 2**70},
}


def deep(value: Any) -> Any:
    for _ in range(20_000):
        value = [value]
    return value


wf = Workflow(workflow_type="W")


@wf.start()
async def start(ctx: Context, word: Any = None, fail: bool = False, **more: Any) -> Directive:
    return ctx.next.complete(word) if word else ctx.next.wait()


@wf.event()
async def note(ctx: Context, word: Any = None) -> Directive:
    return ctx.next.wait()


@wf.query()
async def echo(ctx: Context, word: Any) -> Any:
    raise ValueError("no")


@pytest.fixture(params=["memory", "nats"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    if request.param == "memory":
        async with await grctl.connect("memory://", workflows=[wf]) as connection:
            yield Client(connection=connection, plugins=[], request_timeout=20)
        return
    async with (
        Broker() as broker,
        FakeServer(broker.url) as server,
        await NatsConnection.open(broker.url) as connection,
    ):
        client = Client(connection=connection, plugins=[], request_timeout=20)
        client.server = server  # type: ignore[attr-defined]
        await server.put_run(new_run("there"))
        yield client


async def a_handle(client: Client, wf_id: str) -> Any:
    return await client.start_workflow("W", wf_id)


@pytest.mark.parametrize("name", UNSENDABLE)
async def test_what_cannot_be_sent(client: Client, name: str) -> None:
    handle = await a_handle(client, "w")
    value = UNSENDABLE[name]()
    calls = [client.start_workflow("W", "x", value), client.run_workflow("W", "x", value)]
    calls += [handle.send("note", value, check_event=False)]
    if client.connection.capabilities.queries:
        calls.append(handle.query("echo", word=value))
    for call in calls:
        error = await caught(call)
        assert isinstance(error, grctl.InvalidInputError)
        assert places_in(error, [SECRET]) == []


@pytest.mark.parametrize(
    "arguments",
    [("a.b", "x"), ("W", "a b"), ("W", "x", {}, -5), ("W", 5)],
    ids=["a type", "an id", "a timeout", "a number"],
)
async def test_other_arguments_that_are_wrong(client: Client, arguments: tuple[Any, ...]) -> None:
    given = [*arguments]
    given[2:3] = [{"word": SECRET}]
    for call in (client.start_workflow, client.run_workflow):
        error = await caught(call(*given))
        assert isinstance(error, grctl.InvalidInputError)
        assert places_in(error, [SECRET]) == []
    handle = await a_handle(client, "w")
    for error in (
        await caught(handle.send(5, SECRET)),
        await caught(handle.send("note", SECRET, request_timeout=-1)),
        await caught(handle.query("", word=SECRET)),
    ):
        assert isinstance(error, grctl.InvalidInputError)
        assert places_in(error, [SECRET]) == []


async def test_what_is_refused_on_the_embedded_engine() -> None:
    async with await grctl.connect("memory://", workflows=[wf]) as connection:
        client = Client(connection=connection, plugins=[])
        handle = await client.start_workflow("W", "w")
        errors = [
            await caught(client.start_workflow("W", "w", {"word": SECRET})),
            await caught(client.start_workflow("Unknown", "x", {"word": SECRET})),
            await caught(handle.send("unknown", {"word": SECRET})),
            await caught(handle.query("echo", word=SECRET)),
        ]
        await handle.terminate()
        errors += [await caught(handle.send("note", {"word": SECRET}))]
    errors += [await caught(client.start_workflow("W", "y", {"word": SECRET}))]
    for error in errors:
        assert isinstance(error, grctl.GrctlError)
        assert places_in(error, [SECRET]) == []


ANSWERS: dict[str, Any] = {
    "refused": Reply(success=False, error=ReplyError(4004, "no", "no")),
    "running": Reply(success=False, error=ReplyError(4001, "no", f"active run: {'1' * 26}")),
    "failed": Reply(success=False, error=ReplyError(5000, "boom", "boom")),
    "lost": None,
    "garbage": b"\xc1",
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_is_refused_or_lost(server: FakeServer, connection: NatsConnection, name: str) -> None:
    await server.put_run(new_run())
    client = Client(connection=connection, plugins=[], request_timeout=0.3 if ANSWERS[name] is None else 20)
    handle = await client.get_handle("w")
    server.answer = lambda command: ANSWERS[name]
    for call in (
        client.start_workflow("W", "x", {"word": SECRET}),
        handle.send("note", {"word": SECRET}, check_event=False),
    ):
        error = await caught(call)
        assert isinstance(error, grctl.GrctlError)
        assert places_in(error, [SECRET]) == []
    calling = asyncio.ensure_future(client.start_workflow("W", "x", {"word": SECRET}))
    await asyncio.sleep(0.01)
    calling.cancel()
    error = await caught(calling)
    assert places_in(error, [SECRET]) == []
    too_large = client.start_workflow("W", "x", {"word": SECRET, "more": "x" * 2_000_000})
    assert places_in(await caught(too_large), [SECRET]) == []
    await connection.close()
    assert places_in(await caught(client.start_workflow("W", "x", {"word": SECRET})), [SECRET]) == []


@pytest.mark.parametrize("result_type", [Typed, Model, list[int], Strict, Colour, int])
async def test_a_result_of_another_type(result_type: Any, server: FakeServer, connection: NatsConnection) -> None:
    client = Client(connection=connection, plugins=[], request_timeout=20)
    results = {Colour: SECRET, Strict: {"colour": SECRET}, list[int]: [1, SECRET], int: SECRET}
    result = results.get(result_type, {"word": SECRET})
    run = new_run()
    await server.put_run(run)
    handle = await client.get_handle("w", result_type=result_type)
    looked_at = handle.future
    await server.end(run, result=result)
    for error in (await caught(handle.result()), await caught(handle.outcome()), await caught(looked_at)):
        assert isinstance(error, grctl.DecodeError)
        assert places_in(error, [SECRET]) == []
    async with await grctl.connect("memory://", workflows=[wf]) as memory:
        error = await caught(
            Client(connection=memory).run_workflow("W", "w", {"word": result}, result_type=result_type)
        )
        assert isinstance(error, grctl.DecodeError)
        assert places_in(error, [SECRET]) == []


async def test_records_that_cannot_be_decoded(server: FakeServer, connection: NatsConnection) -> None:
    client = Client(connection=connection, plugins=[], request_timeout=20)
    run = new_run()
    await server.put_run(run)
    handle = await client.get_handle("w")
    body = msgspec.msgpack.encode({"w": "w", "r": run.id, "wo": "", "ts": 5, "k": "k", "m": SECRET.encode()})
    await server.put(f"grctl_history.w.{run.id}", body)

    async def read() -> None:
        async for _ in handle.history():
            pass

    error = await caught(read())
    assert isinstance(error, grctl.DecodeError)
    assert places_in(error, [SECRET]) == []
    ended = msgspec.structs.replace(run, status=RunStatus.COMPLETED)
    await server.put_run(ended)
    await server.put(f"grctl_history.w.{run.id}", body)
    error = await caught(handle.outcome())
    assert isinstance(error, grctl.DecodeError)
    assert places_in(error, [SECRET]) == []


async def test_what_the_library_s_own_objects_show(server: FakeServer, connection: NatsConnection) -> None:
    """Those that a plugin or a caller meets, and may log."""
    seen: list[Any] = []

    class Sees(grctl.Plugin):
        name = "sees"

        async def grctl_operation(self, call: Any, proceed: Any) -> Any:
            seen.append(call)
            return await proceed(call)

        async def grctl_attempt(self, attempt: Any, proceed: Any) -> Any:
            seen.append(attempt)
            seen.append(attempt.command)
            reply = await proceed(attempt)
            seen.append(reply)
            return reply

    client = Client(connection=connection, plugins=[Sees()], request_timeout=20)
    handle = await client.start_workflow("W", "w", {"word": SECRET})
    await server.put_run(new_run(id=handle.run_info.id))
    await server.put_event(handle.run_info.ref, "event.received", event_name="note", payload=SECRET)
    await handle.send("note", {"word": SECRET}, check_event=False)
    seen += [event async for event in handle.history()]
    assert len(seen) >= 9
    for thing in seen:
        assert SECRET not in repr(thing)
        assert SECRET not in str(thing)
