"""``watch``: on a terminal, in a pipe, as JSON. The command itself is tried in tests/cli."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
from datetime import UTC, datetime, timedelta

import pytest
from histories import MADE, run_info

import grctl
from grctl.cli.event_lines import EventLines
from grctl.cli.exits import ReaderGoneError
from grctl.cli.output import Output
from grctl.cli.text import json_text
from grctl.cli.timeline import show_timeline, write_svg
from grctl.cli.watching import watch
from grctl.models.common import ErrorDetails
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


@pytest.fixture
def piped(monkeypatch):
    """Make an output that leads into a pipe."""

    def make(screen: io.StringIO, *, as_json: bool = False) -> Output:
        monkeypatch.setattr(sys, "stdout", screen)
        return Output(as_json=as_json)

    return make


@pytest.fixture
def terminal(monkeypatch):
    """Make an output to a terminal of 80 columns and 24 lines."""

    def make(screen: io.StringIO, *, as_json: bool = False) -> Output:
        for name, value in {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}.items():
            monkeypatch.setenv(name, value)
        screen.isatty = lambda: True
        monkeypatch.setattr(sys, "stdout", screen)
        return Output(as_json=as_json)

    return make


@pytest.fixture(params=["terminal", "piped"])
def make(request):
    return request.getfixturevalue(request.param)


async def test_a_pipe_gets_a_line_for_each_event(client, piped):
    handle = await client.start_workflow("Approval", "a-1")
    screen = Screen()
    watching = asyncio.create_task(watch(handle, piped(screen)))
    await screen.shows("wait.started")
    assert not watching.done()
    await handle.send("approve", {"by": "Mia"})
    outcome = await watching
    assert outcome.result == {"by": "Mia"}
    rows = [line.split("\t") for line in screen.getvalue().splitlines()]
    assert [(int(row[0]), row[2]) for row in rows] == [(event.seq, event.kind) async for event in handle.history()]
    assert json.loads(rows[-1][3])["result"] == {"by": "Mia"}
    assert "\x1b" not in screen.getvalue()


async def test_json_lines_are_events_and_then_the_outcome(client, terminal):
    handle = await client.start_workflow("Approval", "a-1")
    screen = Screen()
    watching = asyncio.create_task(watch(handle, terminal(screen, as_json=True)))
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


async def test_a_terminal_shows_the_timeline_as_it_grows_and_at_the_end(client, terminal):
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
    assert "no [bold]budget\\x1b[0m" in plain
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h")  # the cursor is back


async def test_bars_grow_while_nothing_happens(client, terminal, monkeypatch):
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


async def test_a_run_that_has_ended_is_shown_at_once(client, make):
    handle = await client.start_workflow("Approval", "a-1")
    await handle.send("approve", {"by": "Mia"})
    await handle.result(30)
    screen = Screen()
    assert (await watch(handle, make(screen))).completed
    assert '"by": "Mia"' in screen.getvalue().splitlines()[-2 if screen.isatty() else -1]


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


@pytest.mark.parametrize("as_json", [False, True])
async def test_an_error_of_the_history_is_the_one_that_is_raised(make, as_json):
    screen = Screen()
    with pytest.raises(WorkflowNotFoundError, match="gone"):
        await watch(Broken(), make(screen, as_json=as_json))
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h")


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_reader_who_goes_away_closes_the_history(piped, as_json):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    broken = Broken()
    with pytest.raises(ReaderGoneError):
        await watch(broken, piped(Closed(), as_json=as_json))
    assert broken.closed


HOSTILE = "\x1b]0;title\x07[red]"


@pytest.mark.parametrize("as_json", [False, True])
def test_lines_of_events_hold_nothing_to_act_on(make, as_json):
    body = {"step_name": HOSTILE, "error": {"type": HOSTILE, "message": HOSTILE}, "attempt": 1, 1: b"\xff"}
    event = HistoryEvent(
        seq=1,
        kind=f"step.failed{HOSTILE}",
        timestamp=datetime(2026, 11, 2, 9, tzinfo=UTC),
        wf_id="w",
        run_id="r",
        encoded=encode("body", body),
        extra={"new": HOSTILE},
    )
    screen = Screen()
    EventLines(make(screen, as_json=as_json)).write(event)
    colours = r"\x1b\[[\d;]*m"
    shown = re.sub(colours, "", screen.getvalue())
    assert not [c for c in shown if not c.isprintable() and c not in "\n\t"]
    assert "[red]" in shown
    if as_json:
        written = json.loads(shown)
        assert (written["new"], written["data"]["step_name"]) == (HOSTILE, HOSTILE)
        assert written["timestamp"] == "2026-11-02T09:00:00Z"


@pytest.mark.parametrize(
    "value", [{None: 1, 2.5: [{b"k": 2}]}, float("nan"), 2**64 - 1, "\U000e0001", {"t": datetime.now(UTC)}]
)
def test_any_value_is_one_line_of_json(value):
    written = json_text(value)
    assert written.isprintable()
    json.loads(written)
    if isinstance(value, str):
        assert json.loads(written) == value


def test_an_event_that_holds_no_map_is_told_as_it_is(make):
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    event = HistoryEvent(seq=1, kind="step.started", timestamp=naive, wf_id="w", run_id="r", encoded=b"\xc1")
    screen = Screen()
    EventLines(make(screen)).write(event)
    assert "step.started" in screen.getvalue()
    screen = Screen()
    EventLines(make(screen, as_json=True)).write(event)
    written = json.loads(screen.getvalue())
    assert written["timestamp"] == "2026-01-01T00:00:00Z"
    assert written["data"]["encoded"] == "wQ=="


def test_show_timeline_draws(make):
    screen = Screen()
    show_timeline(MADE["order"](), run_info(), make(screen))
    assert "ProcessOrder order-1042" in re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue())
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
