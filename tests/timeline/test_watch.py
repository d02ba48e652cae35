"""``watch``: on a terminal, in a pipe, as JSON; and what Ctrl-C does not do."""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
import sys
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from histories import MADE, run_info
from rich.console import Console

import grctl
from grctl.cli.event_lines import event_json, event_line, json_line
from grctl.cli.timeline import show_timeline, write_svg
from grctl.cli.watch import watch as command
from grctl.cli.watching import watch
from grctl.models.common import ErrorDetails
from grctl.nats.connection import Connection
from grctl.testing import DevServer
from grctl.timeline import Timeline, render_svg
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_core.codec import encode
from grctl_core.errors import WorkflowNotFoundError
from grctl_core.history import HistoryEvent

approval = Workflow(workflow_type="Approval")


@approval.start()
async def start(ctx: Context) -> Directive:
    return ctx.next.wait()


@approval.event()
async def approve(ctx: Context, by: str) -> Directive:
    return ctx.next.complete({"by": by})


@approval.event()
async def reject(ctx: Context) -> Directive:
    return ctx.next.fail(ErrorDetails("Rejected", "no [bold]budget\x1b[0m"))


@pytest.fixture
async def client():
    async with await grctl.connect("memory://", workflows=[approval]) as connection:
        yield grctl.Client(connection=connection)


class Screen(io.StringIO):
    """What was written, and a way to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._written = asyncio.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        self._written.set()
        return count

    async def shows(self, pattern: str) -> None:
        async with asyncio.timeout(30):
            while not re.search(pattern, self.getvalue(), re.DOTALL):
                self._written.clear()
                await self._written.wait()


def piped(screen: Screen, width: int = 80) -> Console:
    return Console(file=screen, width=width)


def terminal(screen: Screen) -> Console:
    return Console(file=screen, force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"})


async def test_a_pipe_gets_a_line_for_each_event_and_one_for_the_end(client):
    handle = await client.start_workflow("Approval", "a-1")
    screen = Screen()
    watching = asyncio.create_task(watch(handle, piped(screen, 40)))
    await screen.shows("wait.started")
    assert not watching.done()
    await handle.send("approve", {"by": "Mia"})
    outcome = await watching
    assert outcome.result == {"by": "Mia"}
    lines = screen.getvalue().splitlines()
    kinds = [event.kind async for event in handle.history()]
    assert [line.split()[3] for line in lines[:-1]] == kinds
    assert len(lines) == len(kinds) + 1
    assert not [line for line in lines if line != line.rstrip()]
    assert lines[-1] == 'completed: {"by":"Mia"}'
    assert "\x1b" not in screen.getvalue()


async def test_json_lines_are_events_and_then_the_outcome(client):
    handle = await client.start_workflow("Approval", "a-1")
    screen = Screen()
    watching = asyncio.create_task(watch(handle, terminal(screen), json_lines=True))
    await screen.shows("wait.started")
    await handle.send("reject")
    await watching
    assert "\x1b" not in screen.getvalue()
    *events, end = map(json.loads, screen.getvalue().splitlines())
    assert [event["kind"] for event in events] == [event.kind async for event in handle.history()]
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    assert end["status"] == "failed"
    assert end["error"] == {"type": "Rejected", "message": "no [bold]budget\x1b[0m", "stack_trace": ""}
    assert (end["workflow_id"], end["run_id"]) == ("a-1", handle.run_info.id)


async def test_a_terminal_shows_the_timeline_as_it_grows_and_at_the_end(client):
    handle = await client.start_workflow("Approval", "a-1")
    screen = Screen()
    watching = asyncio.create_task(watch(handle, terminal(screen)))
    await screen.shows("running for.*waiting.*goes on")
    await handle.send("reject")
    outcome = await watching
    assert outcome.error.type == "Rejected"
    last = screen.getvalue().rpartition("Approval")[2]
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", last)
    assert "failed after" in plain
    assert "goes on" not in plain
    assert plain.endswith("failed: Rejected: no [bold]budget\\x1b[0m\n")
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h")  # the cursor is back


async def test_bars_grow_while_nothing_happens(client, monkeypatch):
    monkeypatch.setattr("grctl.cli.watching._REDRAW_EVERY", 0.01)
    now = datetime.now(UTC)
    handle = await client.start_workflow("Approval", "a-1")
    screen = Screen()
    hours = iter(range(1, 10_000))
    clock = lambda: now + timedelta(hours=next(hours))  # noqa: E731
    watching = asyncio.create_task(watch(handle, terminal(screen), clock=clock))
    await screen.shows(r"running.*for [1-9] h.*running.*for 1[0-9] h")
    await handle.send("approve", {"by": "Mia"})
    await watching


@pytest.mark.parametrize("make", [terminal, piped])
async def test_when_watching_is_cancelled_the_run_goes_on_and_the_cursor_comes_back(client, make):
    handle = await client.start_workflow("Approval", "a-1")
    screen = Screen()
    watching = asyncio.create_task(watch(handle, make(screen)))
    await screen.shows("wait")
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h")
    assert not (await handle.describe()).is_finished
    await handle.send("approve", {"by": "Mia"})
    assert await handle.result(30) == {"by": "Mia"}


@pytest.mark.parametrize("make", [terminal, piped])
async def test_a_run_that_has_ended_is_shown_at_once(client, make):
    handle = await client.start_workflow("Approval", "a-1")
    await handle.send("approve", {"by": "Mia"})
    await handle.result(30)
    screen = Screen()
    await watch(handle, make(screen))
    assert screen.getvalue().endswith('completed: {"by":"Mia"}\n')


class Broken:
    """A run whose history ends in an error."""

    run_info = run_info()

    def __init__(self) -> None:
        self.closed = False

    async def history(self, *, follow=False):
        try:
            yield MADE["order"]()[0]
            raise WorkflowNotFoundError("its records are gone")
        finally:
            self.closed = True

    async def outcome(self):
        raise AssertionError


@pytest.mark.parametrize("make", [terminal, piped])
@pytest.mark.parametrize("as_json", [False, True])
async def test_an_error_of_the_history_is_the_one_that_is_raised(make, as_json):
    screen = Screen()
    with pytest.raises(WorkflowNotFoundError, match="gone"):
        await watch(Broken(), make(screen), json_lines=as_json)
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h")


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_reader_who_goes_away_closes_the_history(as_json):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    broken = Broken()
    with pytest.raises((BrokenPipeError, SystemExit)):
        await watch(broken, Console(file=Closed(), width=80), json_lines=as_json)
    assert broken.closed


def test_lines_of_events_hold_nothing_to_act_on():
    hostile = "\x1b]0;title\x07[red]"
    body = {"step_name": hostile, "error": {"type": hostile, "message": hostile}, "attempt": 1, 1: b"\xff"}
    event = HistoryEvent(
        seq=1,
        kind=f"step.failed{hostile}",
        timestamp=datetime(2026, 11, 2, 9, tzinfo=UTC),
        wf_id="w",
        run_id="r",
        encoded=encode("body", body),
        extra={"new": hostile},
    )
    line = event_line(event, event.timestamp).plain
    assert line.startswith("09:00:00.000 ")
    assert line.isprintable()
    assert "[red]" in line
    written = event_json(event)
    assert written.isprintable()
    assert json.loads(written)["new"] == hostile
    assert json.loads(written)["data"]["step_name"] == hostile


@pytest.mark.parametrize(
    "value", [{None: 1, 2.5: [{b"k": 2}]}, float("nan"), 2**64 - 1, "\U000e0001", {"t": datetime.now(UTC)}]
)
def test_any_value_is_one_line_of_json(value):
    written = json_line(value)
    assert written.isprintable()
    json.loads(written)
    if isinstance(value, str):
        assert json.loads(written) == value


def test_an_event_that_holds_no_map_is_told_as_it_is():
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    event = HistoryEvent(seq=1, kind="step.started", timestamp=naive, wf_id="w", run_id="r", encoded=b"\xc1")
    assert json.loads(event_json(event))["data"] == {"undecodable": "wQ=="}
    assert "step.started" in event_line(event, datetime(2026, 1, 1, tzinfo=UTC)).plain


def test_show_timeline_draws_to_the_console():
    screen = io.StringIO()
    show_timeline(MADE["order"](), run_info(), Console(file=screen, width=60))
    assert "ProcessOrder order-1042" in screen.getvalue()
    assert "charge_card" in screen.getvalue()


def test_write_svg_replaces_the_file(tmp_path):
    target = tmp_path / "run.svg"
    target.write_text("before")
    target.chmod(0o640)
    write_svg(target, MADE["order"](), run_info())
    assert target.read_text(encoding="utf-8") == render_svg(Timeline.from_history(run_info(), MADE["order"]()))
    assert target.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in tmp_path.iterdir()] == ["run.svg"]


@pytest.mark.parametrize("name", ["missing/run.svg", "folder"])
def test_a_file_that_cannot_be_written(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(Exception, match=r"(?i)no such file|is a directory") as caught:
        write_svg(tmp_path / name, MADE["order"](), run_info())
    assert caught.type.__name__ == "FileError"
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_the_command_refuses_what_is_no_id():
    result = CliRunner().invoke(command, ["--server-url", "nats://127.0.0.1:1"])
    assert result.exit_code == 2
    assert "--id" in result.output


MAIN = "from grctl.cli.watch import watch; watch(prog_name='watch')"


async def test_the_command_against_a_server():
    async with DevServer([approval]) as server, await Connection.open(server.url) as connection:
        client = grctl.Client(connection=connection)
        handle = await client.start_workflow("Approval", "a-1")

        async def run(*arguments, until=""):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", MAIN, "--server-url", server.url, *arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            lines = b""
            while until and until.encode() not in lines:
                lines += await process.stdout.readline()
            return process

        process = await run("--id", "a-1", until="wait.started")
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
        assert (process.returncode, said) == (130, b"no longer watched: workflow 'a-1' goes on\n")
        assert not (await handle.describe()).is_finished

        process = await run("--id", "a-1", "--json", until="wait.started")
        await handle.send("reject")
        out, said = await process.communicate()
        assert (process.returncode, said) == (1, b"")
        assert json.loads(out.splitlines()[-1])["status"] == "failed"

        process = await run("--id", "nobody")
        _, said = await process.communicate()
        assert process.returncode == 3
        assert said.startswith(b"Error: ")

    process = await run("--id", "a-1")  # nothing listens any more
    _, said = await process.communicate()
    assert process.returncode == 5
    assert said.startswith(b"Error: ")
