"""A server, or who can write where it writes, says anything at all: each call ends in an error of ours or in a value,
and whoever waits for another run hears of nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from broker import Broker
from fake_server import FakeServer, new_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import grctl
from grctl import Client
from grctl_core import client as client_module
from grctl_core.commands import DescribeCommand, Reply, StartCommand
from grctl_core.doubt import DoubtBounds
from grctl_core.ids import new_ulid
from grctl_core.run import RunInfo, RunStatus
from grctl_nats import NatsConnection, subjects, wire
from grctl_nats.records import Records
from grctl_nats.safeguards import Safeguards

from .mutations import mutated

BARE = Safeguards(
    begun_before_cancel=False, settled_before_send=False, residue_before_start=False, second_reply_warning=False
)
"""They would look, and wait for what the garbage may say."""


@pytest.fixture
async def client(broker: Broker, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    bounds = DoubtBounds(reached_within=0, begun_within=0, quarantine=0)
    monkeypatch.setattr(client_module, "DoubtBounds", lambda: bounds)
    async with await NatsConnection.open(broker.url, safeguards=BARE) as connection:
        yield Client(connection=connection, plugins=[], request_timeout=20)


@pytest.fixture
async def victim(server: FakeServer, client: Client) -> AsyncIterator[RunInfo]:
    """A run that somebody waits for all the time: its own end comes, and nothing else."""
    run = new_run("victim")
    await server.put_run(run)
    await server.put_state(run.ref, "wait")
    watch = client.connection.watch(run.ref)
    yield run
    assert not watch.done()
    await server.end(run, result="its own")
    outcome = await asyncio.wait_for(watch, 20)
    assert (outcome.run.ref, outcome.result) == (run.ref, msgspec.msgpack.encode("its own"))
    link = client.connection._uplink.link
    async with asyncio.timeout(20):  # the watcher may be looking at something
        while len(link.replies):
            await asyncio.sleep(0.005)


async def ends_in_order(call: Awaitable[Any]) -> Any:
    try:
        async with asyncio.timeout(30):
            return await call
    except grctl.GrctlError as error:
        assert str(error).isprintable()  # noqa: PT017
        return error


async def test_replies(server, client, victim, examples):
    rng = Random("replies")
    run = new_run("w")
    await server.put_run(run)
    handle = await client.get_handle("w")
    good = wire.encode_reply(Reply(success=True, run=run))
    bodies = [good, wire.encode_reply(Reply(success=True)), *(wire.encode_reply(r) for r in refusals())]
    server.answer = lambda command: mutated(rng, rng.choice(bodies)) if rng.random() < 0.9 else mutated(rng)
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: client.start_workflow("W", new_ulid()),
        lambda: client.start_workflow("W", new_ulid(), on_conflict="attach"),
        lambda: client.get_handle("w"),
        handle.describe,
        lambda: handle.send("note", check_event=False),
        handle.cancel,
        handle.terminate,
    ]
    for _ in range(examples(12)):
        results = await asyncio.gather(*(ends_in_order(rng.choice(calls)()) for _ in range(25)))
        for result in results:
            if isinstance(result, grctl.WorkflowHandle):
                assert set("*> .\r\n") & set(result.run_info.id) == set()


def refusals() -> list[Reply]:
    from grctl_core.commands import ReplyError

    return [
        Reply(success=False, error=ReplyError(code, "message", f"detail {'1' * 26}"))
        for code in (0, 4000, 4001, 4002, 4003, 4004, 4005, 5000)
    ]


async def test_several_replies_of_different_lengths(server, client, victim):
    server.answer = lambda command: [b"", b"\x00" * 500_000, wire.encode_reply(Reply(success=True))]
    for _ in range(20):
        assert isinstance(await ends_in_order(client.get_handle("w")), grctl.GrctlError)


async def test_run_records(server, client, victim, examples):
    rng = Random("records")
    runs = [new_run(f"w{number}") for number in range(examples(150))]
    watches = [client.connection.watch(run.ref) for run in runs]
    messages = []
    for run in runs:
        record = mutated(rng, wire.encode_run_info(msgspec.structs.replace(run, status=RunStatus.COMPLETED)))
        messages.append((subjects.run_info(run.ref), record))
    await server.put_many(messages)
    done, pending = await asyncio.wait(watches, timeout=2)
    for run, watch in zip(runs, watches, strict=True):
        if watch in pending:
            watch.cancel()
        elif watch.exception() is None:
            assert watch.result().run.ref == run.ref
        else:
            assert isinstance(watch.exception(), grctl.GrctlError)
    assert done
    found = await asyncio.gather(*(ends_in_order(client.connection.find_run(run.ref)) for run in runs))
    assert all(
        result is None or isinstance(result, grctl.GrctlError) or result.ref in {run.ref for run in runs}
        for result in found
    )
    listed = []

    async def list_all() -> None:
        async for info in client.list_workflows():
            listed.append(info.ref)  # noqa: PERF401 - it ends in an error

    assert isinstance(await ends_in_order(list_all()), grctl.DecodeError)
    assert set(listed) <= {run.ref for run in runs} | {victim.ref}
    assert victim.ref in listed


async def test_histories(server, client, victim, examples):
    rng = Random("histories")
    from fake_server import event_body

    for _ in range(examples(15)):
        run = new_run(new_ulid())
        await server.put_run(run)
        bodies = [event_body(run.ref, kind, result=1) for kind in ("run.started", "step.started", "run.completed")]
        await server.put_many([(subjects.history(run.ref), mutated(rng, rng.choice(bodies))) for _ in range(8)])
        watch = client.connection.watch(run.ref)
        await server.end(run, result="its own")
        outcome = await ends_in_order(watch)
        assert isinstance(outcome, grctl.GrctlError) or outcome.run.ref == run.ref
        for follow in (False, True):
            await ends_in_order(read(client.connection.history(run.ref, follow=follow)))


async def read(events: AsyncIterator[Any]) -> list[Any]:
    found = []
    async for event in events:
        found.append(repr(event))
        await ends_in_order(look(event))
    return found


async def look(event: Any) -> Any:
    return event.data


async def test_states_and_types(server, client, victim, examples):
    rng = Random("states")
    run = new_run("w")
    await server.put_run(run)
    handle = await client.get_handle("w")
    state = wire.encode_run_state(wire.RunState("w", run.id, "wait", run.created_at))
    known = msgspec.msgpack.encode({"type": "W", "events": [{"name": "note"}]})
    for _ in range(examples(30)):
        await server.put(subjects.run_state(run.ref), mutated(rng, state))
        await server.put(subjects.registry("W"), mutated(rng, known))
        await ends_in_order(client.connection.has_begun(run.ref))
        await ends_in_order(client.connection.find_type("W"))
        await ends_in_order(handle.send("note"))


async def test_commands_reach_the_server_as_they_were_sent(server, client, victim):
    """Whatever came before."""
    server.answer = server.ok
    await client.start_workflow("W", "after", {"a": 1})
    assert isinstance(server.commands[-1], StartCommand)


# What the broker itself says, by which records are read.

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("2026-01-02T03:04:05Z")
names = st.sampled_from(["error", "code", "description", "created", "ts", "state", "last_seq"])


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=7)


words = plain | nested(plain | nested(plain))
bodies = words.map(lambda said: json.dumps(said).encode()) | st.binary(max_size=30) | st.just(b"[" * 5_000)
headers = st.none() | st.dictionaries(
    st.sampled_from(["Status", "Description", "Nats-Subject", "Nats-Sequence", "Nats-Num-Pending"]),
    st.text(max_size=10) | st.sampled_from(["404", "204", "503", "²", "9" * 5_000, "-1"]),
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine
@given(bodies, headers)
async def test_what_the_broker_says(body, header):
    async def answer(*_: Any) -> Any:
        return SimpleNamespace(data=body, headers=header)

    link = SimpleNamespace(request=answer, server="nats://x:1", max_payload=1_000_000, number=1)
    records = Records(lambda: link, 1.0)
    await ends_in_order(records.state())
    await ends_in_order(records.last("a.b"))
    await ends_in_order(records.exists())


async def test_a_describe_after_all_of_that(server, connection):
    assert not (await connection.request(DescribeCommand(wf_id="unknown"), timeout=20)).success
