"""Text that means more than itself somewhere is refused before anything is sent, or arrives as it is; and no other
subject, file or line is touched by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import nats
import pytest
from broker import Broker, sync
from cli.conftest import Cli
from fake_server import FakeServer, new_run

import grctl
from grctl import Client, InvalidInputError
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_core.commands import CancelCommand, DescribeCommand, EventCommand, StartCommand, TerminateCommand
from grctl_core.run import RunFilter, RunRef
from grctl_nats import NatsConnection
from grctl_nats.settings import read_settings

from .corpus import CARRIED_IDS, CONTEXTS, LARGE, REFUSED_IDS, REFUSED_TEXTS, TEXTS, URLS


async def collected(iterator: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in iterator]


wf = Workflow(workflow_type="W")


@wf.start()
async def start(ctx: Context) -> Directive:
    return ctx.next.wait()


LISTENED_TO = (
    "grctl_api.>",
    "grctl_run.>",
    "grctl_history.>",
    "grctl_registry.>",
    "grctl_state.>",
    "a",
    "a.>",
    "x",
    "b",
)
"""Not all there is: where somebody listens to everything nobody hears that nobody listens."""


@pytest.fixture
async def heard(broker: Broker, server: FakeServer) -> AsyncIterator[list[str]]:
    """The subjects of what goes through the broker."""
    client = await nats.connect(broker.url)
    subjects: list[str] = []

    async def hear(message: Any) -> None:
        subjects.append(message.subject)

    for subject in LISTENED_TO:
        await client.subscribe(subject, cb=hear)
    await sync(client)
    subjects.clear()
    yield subjects
    await client.close()


async def assert_refused(client: Client) -> None:
    for text in REFUSED_IDS.values():
        calls: list[Callable[[], Any]] = [
            lambda text=text: client.start_workflow(text, "w"),
            lambda text=text: client.start_workflow("W", text),
            lambda text=text: client.run_workflow("W", text),
            lambda text=text: client.run_workflow(text, "w"),
            lambda text=text: client.get_handle(text),
            lambda text=text: client.get_handle("w", run_id=text),
            lambda text=text: collected(client.list_workflows(workflow_type=text)),
            lambda text=text: collected(client.list_workflows(workflow_id_prefix=text)),
        ]
        for call in calls:
            with pytest.raises(InvalidInputError) as caught:
                await call()
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 500


async def test_ids_that_are_refused(connection: NatsConnection, server: FakeServer, heard: list[str]) -> None:
    await assert_refused(Client(connection=connection, plugins=[], request_timeout=20))
    await sync(server.client)
    assert heard == []


async def test_ids_that_are_refused_on_the_embedded_engine() -> None:
    async with await grctl.connect("memory://", workflows=[wf]) as connection:
        await assert_refused(Client(connection=connection, plugins=[]))


async def test_ids_that_are_refused_by_the_connection_itself(
    connection: NatsConnection, server: FakeServer, heard: list[str]
) -> None:
    """What the client checks is checked here once more, for who uses a connection without one."""
    for text in REFUSED_IDS.values():
        if len(text) > 500:
            continue  # they are too long, and lead nowhere else
        ref = RunRef(text, "1" * 26, "W")
        calls: list[Callable[[], Any]] = [
            lambda text=text: connection.request(DescribeCommand(wf_id=text), timeout=20),
            lambda text=text: connection.request(EventCommand(wf_id=text, event_name="e"), timeout=20),
            lambda text=text: connection.request(CancelCommand(wf_id=text), timeout=20),
            lambda text=text: connection.request(TerminateCommand(wf_id=text), timeout=20),
            lambda text=text: connection.request(StartCommand(wf_id=text, run=new_run(text)), timeout=20),
            lambda ref=ref: connection.watch(ref),
            lambda ref=ref: connection.find_run(ref),
            lambda ref=ref: connection.has_begun(ref),
            lambda text=text: connection.find_run(RunRef("w", text)),
            lambda text=text: connection.find_run(RunRef("w", "1" * 26, text)),
            lambda text=text: connection.find_type(text),
            lambda ref=ref: collected(connection.history(ref, follow=False)),
            lambda text=text: collected(connection.list_runs(RunFilter(workflow_type=text))),
        ]
        for call in calls:
            if text in ("a\u200bb", "a\u202eb", "\ufeffa"):
                continue  # they lead nowhere else: only who looks at them is deceived
            with pytest.raises(InvalidInputError):
                await call()
    await sync(server.client)
    assert heard == []


async def test_ids_that_are_carried(connection: NatsConnection, server: FakeServer, heard: list[str]) -> None:
    client = Client(connection=connection, plugins=[], request_timeout=20)
    for text in CARRIED_IDS.values():
        server.commands.clear()
        server.messages.clear()
        handle = await client.start_workflow(text, text)
        run = new_run(text, text, id=handle.run_info.id)
        await server.put_run(run)
        await server.put_state(run.ref, "wait")
        heard.clear()
        await handle.send("e", check_event=False)
        await handle.describe()
        await handle.cancel()
        await handle.terminate()
        found = await client.get_handle(text, run_id=run.id)
        assert (found.run_info.wf_id, found.run_info.wf_type) == (text, text)
        assert [info.wf_id for info in await collected(client.list_workflows(workflow_type=text))] == [text]
        watch = connection.watch(run.ref)
        await server.end(run, result=1)
        assert (await asyncio.wait_for(watch, 20)).run.wf_id == text
        assert {command.wf_id for command in server.commands} == {text}
        assert {message.subject for message in server.messages} == {f"grctl_api.workflow.{text}"}
        commands = {subject for subject in heard if subject.startswith("grctl_api.")}
        assert commands == {f"grctl_api.workflow.{text}"}


async def test_ids_that_are_carried_on_the_embedded_engine() -> None:
    definitions = [Workflow(workflow_type=text) for text in CARRIED_IDS.values()]
    for definition in definitions:
        definition.start()(start)
    async with await grctl.connect("memory://", workflows=definitions) as connection:
        client = Client(connection=connection, plugins=[])
        for text in CARRIED_IDS.values():
            await client.start_workflow(text, text)
        for text in CARRIED_IDS.values():
            assert (await client.get_handle(text)).run_info.wf_id == text
        assert {info.wf_id for info in await collected(client.list_workflows())} == set(CARRIED_IDS.values())


async def test_event_names(connection: NatsConnection, server: FakeServer, heard: list[str]) -> None:
    client = Client(connection=connection, plugins=[], request_timeout=20)
    run = new_run("w")
    await server.put_run(run)
    await server.put_state(run.ref, "wait")
    handle = await client.get_handle("w")
    heard.clear()
    for text in TEXTS.values():
        await handle.send(text, {text: text}, check_event=False)
    for text in REFUSED_TEXTS.values():
        with pytest.raises(InvalidInputError):
            await handle.send(text, check_event=False)
        with pytest.raises((InvalidInputError, grctl.UnsupportedOperationError)):
            await handle.query(text)
    events = [command for command in server.commands if isinstance(command, EventCommand)]
    assert [command.event_name for command in events] == list(TEXTS.values())
    await handle.cancel("\x1b[2J\r\nPUB a 0\r\n\0")
    assert server.commands[-1].reason == "\x1b[2J\r\nPUB a 0\r\n\0"
    with pytest.raises(InvalidInputError):
        await handle.terminate("\ud800")
    with pytest.raises(InvalidInputError):
        await handle.terminate(LARGE)
    assert {subject for subject in heard if subject.startswith("grctl_")} == {"grctl_api.workflow.w"}


# Addresses, contexts, options, the environment


@pytest.mark.parametrize("position", range(len(URLS)))
async def test_addresses(position: int, monkeypatch: pytest.MonkeyPatch) -> None:
    url = URLS[position]
    is_refused = False
    for give in (lambda: read_settings(url), lambda: read_settings([url])):
        try:
            settings = give()
        except InvalidInputError as error:
            is_refused = True
            assert str(error).isprintable()  # noqa: PT017
            assert len(str(error)) < 1_000  # noqa: PT017
        else:  # a name of a host, of which the resolver has its own opinion
            assert all(server.host.isprintable() for server in settings.servers)
    if "\0" not in url and "\ud800" not in url and len(url) < 10_000 and url.strip():
        monkeypatch.setenv("GRCTL_NATS_SERVERS", url)
        try:
            read_settings()
        except InvalidInputError as error:
            assert str(error).isprintable()  # noqa: PT017
    if not is_refused:
        return  # nobody is asked for the address of such a host here
    with pytest.raises(InvalidInputError) as caught:
        await asyncio.wait_for(grctl.connect(url), 20)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("position", range(len(CONTEXTS)))
def test_contexts(position: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is opened for a name that is a path."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "nats" / "context").mkdir(parents=True)
    (tmp_path / "config" / "nats" / "x.json").write_text(json.dumps({"url": "nats://evil"}))
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("a file was read"))
    with pytest.raises(InvalidInputError) as caught:
        read_settings("nats://h", context=CONTEXTS[position])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_context_that_holds_what_it_should_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "nats" / "context"
    folder.mkdir(parents=True)
    for held in (
        [],
        "x",
        5,
        {"url": 5},
        {"user": {"a": 1}},
        {"creds": ["x"]},
        {"nkey": True},
        {"url": "nats://h\r\nx"},
        {"ca": "\0"},
        {"inbox_prefix": "a.*"},
        {"token": 5},
    ):
        (folder / "c.json").write_text(json.dumps(held))
        with pytest.raises(InvalidInputError) as caught:
            read_settings(context="c")
        assert str(caught.value).isprintable()
    (folder / "c.json").write_text("[" * 100_000)
    with pytest.raises(InvalidInputError):
        read_settings(context="c")
    (folder / "c.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInputError):
        read_settings(context="c")


OPTIONS: list[dict[str, str]] = [
    {"name": "a\r\nPUB x 0\r\n\r\n"},
    {"name": "\ud800"},
    {"name": "a\0\x1b[2J"},
    {"user": "a\r\nPUB x 0\r\n", "password": "b\r\n\0"},
    {"token": "\ud800\r\n"},
    {"inbox_prefix": "a..b"},
    {"inbox_prefix": "a.*"},
    {"inbox_prefix": "a b"},
    {"inbox_prefix": "a\r\nPING"},
    {"inbox_prefix": LARGE},
    {"name": LARGE},
    {"user": "u", "password": LARGE},
    {"token": LARGE},
    {"credentials": LARGE},
    {"credentials": "a\0b"},
    {"nkey": LARGE},
    {"nkey": "a\0b"},
    {"tls_ca": "a\0b"},
    {"tls_ca": LARGE},
]


async def test_options(broker: Broker, server: FakeServer, heard: list[str]) -> None:
    """They are refused, or arrive at the broker as what they are."""
    for options in OPTIONS:
        try:
            connection = await asyncio.wait_for(NatsConnection.open(broker.url, connect_timeout=0.5, **options), 20)
        except grctl.GrctlError as error:
            assert str(error).isprintable()  # noqa: PT017
            assert len(str(error)) < 2_000  # noqa: PT017
        else:
            assert not (await connection.request(DescribeCommand(wf_id="w"), timeout=20)).success
            await connection.close()
    assert {subject for subject in heard if not subject.startswith("grctl_api.")} == set()


@pytest.mark.parametrize(
    "names", ["../evil", "os:system", "a\nb", "tracing;rm", "\x1b[2J", "x" * 100_000, "..", "/etc/passwd", "__init__"]
)
def test_names_of_plugins(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRCTL_PLUGINS", names)

    async def make() -> None:
        async with await grctl.connect("memory://") as connection:
            Client(connection=connection)

    with pytest.raises(InvalidInputError) as caught:
        asyncio.run(make())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2_000


# The command line


@pytest.fixture
def cli(tmp_path: Path, server: FakeServer) -> Cli:
    return Cli(tmp_path, server.url)


async def test_the_command_line(server: FakeServer, cli: Cli, heard: list[str]) -> None:
    for name, text in REFUSED_IDS.items():
        if "\0" in text or "\ud800" in text or len(text) > 100_000:
            continue  # no system passes that as an argument
        for arguments in (
            ["start", "-t", "W", "-i", text],
            ["start", "-t", text, "-i", "w"],
            ["describe", "-i", text],
            ["describe", "-i", "w", "--run-id", text],
            ["send", "-i", text, "-e", "e"],
            ["cancel", "-i", text],
            ["history", "-i", text],
            ["list", "--type", text],
            ["list", "--id-prefix", text],
        ):
            done = await cli("workflow", *arguments)
            assert done.code == 2, (name, arguments, done)
            assert_plain(done.out + done.err)
            assert len(done.err) < 1_000
    assert [subject for subject in heard if subject.startswith("grctl_")] == []


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a": NaN}',
        '{"a": 1, "a": 2}',
        "{",
        '"\\ud800"',
        "1e999",
        "\x1b[2J",
        '{"\\u0000": "\\u001b[2J"}',
        "@/etc/passwd",
    ],
    ids=range(9),
)
async def test_what_is_passed_as_input(server: FakeServer, cli: Cli, text: str) -> None:
    done = await cli("workflow", "start", "-t", "W", "-i", "w", "-I", text)
    assert_plain(done.out + done.err)
    assert "Traceback" not in done.err
    assert done.code in (0, 2), done
    assert len(done.err) < 2_000


@pytest.mark.parametrize(
    "name", [name for name in CONTEXTS if len(name) < 1_000 and "\0" not in name and "\ud800" not in name]
)
async def test_contexts_of_the_command_line(cli: Cli, name: str) -> None:
    done = await cli("--context", name, "workflow", "list")
    assert_plain(done.out + done.err)
    assert done.code == 2, done


async def test_addresses_of_the_command_line(cli: Cli) -> None:
    for url in URLS:
        if len(url) > 1_000 or "\0" in url or "\ud800" in url:
            continue
        try:
            read_settings(url or "-")
        except InvalidInputError:
            done = await cli("--server-url", url, "workflow", "list")
            assert_plain(done.out + done.err)
            assert done.code == 2 or not url.strip(), done


def assert_plain(text: str) -> None:
    assert all(character.isprintable() or character in "\n\t" for character in text), ascii(text[:2_000])
