"""What others have written is shown, never acted on: by a terminal, by rich, by a browser, by who reads the log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from cli.conftest import Cli
from cli.test_terminal import Terminal
from fake_server import FakeServer, new_run

from grctl import Client
from grctl.cli.text import moment
from grctl.timeline import Timeline, render_svg
from grctl_core.commands import Reply, ReplyError
from grctl_core.history import HistoryEvent
from grctl_core.run import RunInfo, RunStatus
from grctl_logging import LoggingPlugin
from grctl_nats import NatsConnection, subjects, wire

EVIL = (
    (
        "\x1b[2J\x1b]0;title\x07\x9b31m \u202eevil\u2066 [bold red]loud[/] [link=http://x]y[/link] {0} %s $(id) `id` "
        "<script>alert(1)</script> </text><image href='http://x'/> \" ' & ]]> \r\nINJECTED: line\x00\ud83d\udca5\tend"
    )
    .encode("utf-16", "surrogatepass")
    .decode("utf-16")
)
ID = "evil-\u202e[bold]<script&amp;\"'\u200b"
"""What an id may hold on the wire; ours may not."""
OURS = "evil-[bold]<script&amp;\"'{0}%s$(id)"
"""What ours may hold."""
TIMES = {
    "now": datetime.now(UTC),
    "the end of time": datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    "the beginning of time": datetime(1, 1, 1, tzinfo=UTC),
}
PLACES = [("Asia/Tokyo", "the end of time"), ("America/Los_Angeles", "the beginning of time"), ("UTC", "now")]
"""Where the time of the place is beyond what a date can be; and the usual."""


def evil_run(when: datetime, wf_id: str = OURS) -> RunInfo:
    """Make a run of which every text is evil."""
    text = dict.fromkeys(("worker_name", "parent_wf_id", "parent_wf_type", "parent_run_id"), EVIL)
    return new_run(wf_id, f"Type{ID}", created_at=when, started_at=when, parent_callback_step=EVIL, **text)


KINDS: dict[str, dict[str, Any]] = {
    "run.scheduled": {},
    "run.started": {"input": {EVIL: EVIL}},
    "step.started": {"step_name": EVIL, "worker_id": EVIL},
    "task.started": {"task_id": EVIL, "task_name": EVIL, "args": [EVIL], "step_name": EVIL},
    "task.attempt_failed": {
        "task_id": EVIL,
        "task_name": EVIL,
        "step_name": EVIL,
        "error": {"type": EVIL, "message": EVIL, "stack_trace": EVIL},
        "attempt": EVIL,
        "next_retry_delay_ms": float("nan"),
    },
    "task.failed": {"task_id": EVIL, "task_name": EVIL, "step_name": EVIL, "error": EVIL, "duration_ms": float("inf")},
    "event.received": {"event_name": EVIL, "payload": EVIL},
    "wait.started": {"directive_id": EVIL, "timeout_ms": float("-inf"), "timeout_step_name": EVIL},
    "child.started": {"run_id": EVIL, "wf_type": EVIL, "wf_id": EVIL, "input": EVIL},
    "parent.event_sent": {"event_name": EVIL, "payload": EVIL, "parent_wf_type": EVIL, "parent_wf_id": EVIL},
    "timestamp.recorded": {"value": EVIL},
    "sleep.recorded": {"duration_ms": "long"},
    "step.completed": {"step_name": EVIL, "duration_ms": float("nan")},
    "step.failed": {
        "step_name": EVIL,
        "duration_ms": -5,
        "error": {"type": EVIL, "message": EVIL, "stack_trace": EVIL},
    },
    EVIL: {EVIL: EVIL},
    "run.failed": {"error": {"type": EVIL, "message": EVIL, "stack_trace": EVIL}, "duration_ms": 2**62},
}


async def put_history(server: FakeServer, run: RunInfo, when: datetime) -> None:
    await server.put_many(
        [
            (
                subjects.history(run.ref),
                wire.encode_event(
                    HistoryEvent(
                        seq=0,
                        kind=kind,
                        timestamp=when,
                        wf_id=run.wf_id,
                        run_id=run.id,
                        worker_id=EVIL,
                        operation_id=EVIL,
                        encoded=msgspec.msgpack.encode(data),
                    )
                ),
            )
            for kind, data in KINDS.items()
        ]
    )


def assert_harmless(text: str) -> None:
    """Nothing is left but what is shown as it is, and line breaks; in a pipe tabs between fields."""
    bad = {character for character in text if not character.isprintable() and character not in "\n\t"}
    assert not bad, f"{bad!r} in {text!r}"
    assert not [character for character in text if unicodedata.bidirectional(character) in {"RLO", "LRI", "PDF"}]
    assert "\nINJECTED" not in text


@pytest.fixture
def cli(tmp_path: Path, server: FakeServer) -> Cli:
    return Cli(tmp_path, server.url)


@pytest.fixture
def in_zone() -> Iterator[Callable[[str], None]]:
    """Give a function that goes to another time zone."""
    with pytest.MonkeyPatch.context() as patch:

        def go(zone: str) -> None:
            patch.setenv("TZ", zone)
            time.tzset()

        yield go
    time.tzset()


ALL = {
    "list": ["workflow", "list", "--all"],
    "list as JSON": ["workflow", "list", "--json"],
    "describe": ["workflow", "describe", "-i", OURS],
    "describe as JSON": ["workflow", "describe", "-i", OURS, "--json"],
    "history": ["workflow", "history", "-i", OURS],
    "history as JSON": ["workflow", "history", "-i", OURS, "--json"],
    "timeline": ["workflow", "history", "-i", OURS, "--timeline"],
    "watch": ["workflow", "watch", "-i", OURS],
    "result": ["workflow", "result", "-i", OURS],
    "result as JSON": ["workflow", "result", "-i", OURS, "--json"],
}


@pytest.mark.parametrize(("zone", "when"), PLACES)
async def test_every_command_that_shows_a_run(
    server: FakeServer, cli: Cli, in_zone: Callable[[str], None], zone: str, when: str
) -> None:
    in_zone(zone)
    await server.put_run(evil_run(TIMES[when], ID))
    run = evil_run(TIMES[when])
    ended = msgspec.structs.replace(run, status=RunStatus.FAILED, completed_at=TIMES[when])
    await server.put_run(ended)
    await put_history(server, run, TIMES[when])
    await server.put_state(run.ref, "fail")
    for name, arguments in ALL.items():
        replaced = [*arguments]
        if "-i" in replaced:
            replaced[replaced.index("-i") + 1 :] = [
                *replaced[replaced.index("-i") + 1 :],
                "--run-id",
                run.id,
            ]
        done = await cli(*replaced)
        assert_harmless(done.out)
        assert_harmless(done.err)
        assert done.code in (0, 1), done.err  # the run has failed
        assert "Traceback" not in done.err
        assert run.id in done.out or "history" in name or name in ("timeline", "watch", "result"), done
        if name.endswith("JSON") and done.code == 0:
            for line in done.out.splitlines():
                json.loads(line)


@pytest.mark.parametrize(("zone", "when"), PLACES[1:2])
async def test_on_a_terminal(server: FakeServer, cli: Cli, zone: str, when: str) -> None:
    """With colours, and in the time of the place."""
    run = evil_run(TIMES[when])
    await server.put_run(msgspec.structs.replace(run, status=RunStatus.FAILED, completed_at=TIMES[when]))
    await put_history(server, run, TIMES[when])
    cli.env["TZ"] = zone
    for name in ("list", "describe", "history", "timeline"):
        arguments = ALL[name] if name == "list" else [*ALL[name], "--run-id", run.id]
        terminal = Terminal(120)
        code = await terminal.run(cli, *arguments)
        shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", terminal.shown)
        assert code == 0, shown
        assert_harmless(shown.replace("\r", ""))
        assert "\x1b[2J" not in terminal.shown
        assert "\x1b]8" not in terminal.shown  # a link


@pytest.mark.parametrize("name", ["send", "cancel", "terminate", "start", "run", "describe"])
async def test_every_refusal(server: FakeServer, cli: Cli, name: str) -> None:
    await server.put_run(new_run("w"))
    options = {"send": ["-e", "note", "--no-check-event"], "start": ["-t", "W"], "run": ["-t", "W"]}.get(name, [])
    for code in (0, 4000, 4001, 4002, 4003, 4004, 4005, 5000, 2**40):
        server.answer = lambda command, code=code: Reply(success=False, error=ReplyError(code, EVIL, EVIL))
        done = await cli("--request-timeout", "2s", "workflow", name, "-i", "w", *options)
        assert_harmless(done.out)
        assert_harmless(done.err)
        assert "Traceback" not in done.err
        assert done.code


async def test_the_doctor(server: FakeServer, cli: Cli) -> None:
    run = msgspec.structs.replace(evil_run(TIMES["now"]), started_at=None)
    await server.put_run(run)
    await server.put(f"grctl_run.Type.{'w'}.{run.id}.info", EVIL.encode("utf-8", "surrogatepass"))
    await server.put_type({"type": "W", "events": [{"name": EVIL}], "worker_id": EVIL, "steps": [EVIL]})
    server.answer = lambda command: Reply(success=False, error=ReplyError(5000, EVIL, EVIL))
    for arguments in (["doctor"], ["doctor", "--json"], ["doctor", "--type", "W"]):
        done = await cli("--request-timeout", "2s", *arguments)
        assert_harmless(done.out)
        assert_harmless(done.err)
        assert "Traceback" not in done.err


@pytest.mark.parametrize("when", TIMES)
async def test_a_picture(server: FakeServer, cli: Cli, when: str) -> None:
    run = evil_run(TIMES[when])
    await server.put_run(msgspec.structs.replace(run, status=RunStatus.FAILED, completed_at=TIMES[when]))
    await put_history(server, run, TIMES[when])
    async with await NatsConnection.open(server.url) as connection:
        events = [event async for event in connection.history(run.ref, follow=False)]
    assert_picture(render_svg(Timeline.from_history(run, events)))


ELEMENTS = {
    "svg",
    "g",
    "rect",
    "line",
    "path",
    "circle",
    "polygon",
    "polyline",
    "text",
    "tspan",
    "title",
    "desc",
    "style",
    "defs",
    "pattern",
    "clipPath",
}


def assert_picture(picture: str) -> None:
    """It is well-formed XML of shapes and text alone: no script, no link, nothing that is fetched or runs."""
    tree = ET.fromstring(picture)
    for element in tree.iter():
        assert element.tag.removeprefix("{http://www.w3.org/2000/svg}") in ELEMENTS
        for attribute, value in element.attrib.items():
            assert not attribute.lower().startswith("on")
            assert "href" not in attribute.lower()
            assert "javascript:" not in value.lower()
            assert "url(" not in value.lower().replace("url(#", "")  # of itself
    text = "".join(tree.itertext())
    assert not [character for character in text if not character.isprintable() and character != "\n"]


@pytest.mark.parametrize(("zone", "when"), PLACES)
def test_a_time_that_the_place_does_not_have(in_zone: Callable[[str], None], zone: str, when: str) -> None:
    in_zone(zone)
    assert moment(TIMES[when])


async def test_the_logging_plugin(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    """Each record is one line, and holds no text of an error or a reason at all."""
    caplog.set_level(logging.DEBUG)
    run = evil_run(TIMES["now"])
    await server.put_run(run)
    await server.put_state(run.ref, "wait")
    async with await NatsConnection.open(server.url) as connection:
        client = Client(connection=connection, plugins=[LoggingPlugin()], request_timeout=20)
        infos = [info async for info in client.list_workflows()]
        assert [info.id for info in infos] == [run.id]
        server.answer = lambda command: Reply(success=False, error=ReplyError(5000, EVIL, EVIL))
        for call in (client.start_workflow("W", "x"), client.get_handle("x")):
            with pytest.raises(Exception):  # noqa: B017
                await call
        server.answer = lambda command: Reply(success=True, run=msgspec.structs.replace(run, wf_id="w"))
        handle = await client.get_handle("w")
        with handle.log_context():
            await handle.send("note \x1b[2J\r\nINJECTED", check_event=False)
    assert len(caplog.records) >= 4
    for record in caplog.records:
        assert record.getMessage().isprintable(), record.getMessage()


async def test_our_own_log(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    """What the library logs of its own accord of a broker's words."""
    caplog.set_level(logging.DEBUG, "grctl")
    async with await NatsConnection.open(server.url) as connection:
        link = connection._uplink.link
        link.denied(f'permissions violation for subscription to "{EVIL}"')
        link.lose(EVIL)
        async with asyncio.timeout(20):
            while connection._uplink._link is link:
                await asyncio.sleep(0.01)
    for record in caplog.records:
        assert record.getMessage().isprintable(), record.getMessage()
