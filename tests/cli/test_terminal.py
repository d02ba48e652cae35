"""What a person sees: on a pseudo-terminal of 80 and of 40 columns, with and without colours."""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import json
import os
import pty
import re
import signal
import struct
import termios

import pytest

from .conftest import PATIENCE, Cli
from .flows import EVIL

_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_CONTROL = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


class Terminal:
    """A terminal that a command runs in.

    Attributes:
        shown: all that was written to it, escapes included.
    """

    def __init__(self, columns: int) -> None:
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.columns = columns
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end in the middle of a character

    async def run(self, cli: Cli, *arguments: str) -> int:
        process = await self.start(cli, *arguments)
        return await self.end(process)

    async def start(self, cli: Cli, *arguments: str) -> asyncio.subprocess.Process:
        cli.env["TERM"] = "xterm-256color"
        process = await cli.start(*arguments, stdin=self._slave, stdout=self._slave, stderr=self._slave)
        os.close(self._slave)
        return process

    async def end(self, process: asyncio.subprocess.Process) -> int:
        async with asyncio.timeout(PATIENCE):
            while await self.read():
                pass
            code = await process.wait()
        os.close(self._master)
        return code

    async def read(self) -> bool:
        try:
            part = await asyncio.to_thread(os.read, self._master, 65_536)
        except OSError:  # nobody has the other end any more
            part = b""
        self.shown += self._decoder.decode(part)
        return bool(part)

    @property
    def lines(self) -> list[str]:
        """The lines that stay: without colours, and without those that were taken away again."""
        found: list[str] = []
        for line in self.shown.replace("\r\n", "\n").split("\n"):
            last = re.split(r"\r|\x1b\[2K", line)[-1]
            if "\x1b[1A" in line and found:
                found.pop()  # the spinner goes
            found.append(_CONTROL.sub("", last).rstrip())
        return [line for line in found if line]


async def seen(cli: Cli, *arguments: str, columns: int = 80, code: int = 0) -> Terminal:
    terminal = Terminal(columns)
    assert await terminal.run(cli, *arguments) == code, terminal.shown
    assert "Traceback (most recent call last)" not in terminal.shown.replace("\\n", "") or "describe" in arguments
    # Nothing but colours and what moves the spinner; no escape of anybody's data.
    rest = _CONTROL.sub("", terminal.shown)
    assert not [character for character in rest if not character.isprintable() and character not in "\r\n"]
    assert not re.search(r"\x1b\[31mred|\x1b\[2J", terminal.shown)
    return terminal


@pytest.fixture
async def runs(cli):
    """One run that completed, one that failed with what a terminal would act on, one that waits."""
    await cli("workflow", "run", "-t", "Greeting", "-i", "greeting-1", "-I", '{"name": "Ada"}')
    await cli("workflow", "run", "-t", "Evil", "-i", "evil-1")
    await cli("workflow", "start", "-t", "Order", "-i", "order-of-a-rather-long-name-that-does-not-fit")


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.usefixtures("runs")
async def test_tables_fit_the_terminal(cli, columns):
    for arguments in (
        ["workflow", "list"],
        ["workflow", "describe", "-i", "greeting-1"],
        ["workflow", "describe", "-i", "evil-1"],
        ["workflow", "history", "-i", "evil-1"],
        ["workflow", "history", "-i", "evil-1", "--timeline"],
        ["doctor"],
    ):
        terminal = await seen(cli, *arguments, columns=columns)
        assert max(map(len, terminal.lines)) <= columns, terminal.lines


@pytest.mark.usefixtures("runs")
async def test_list_at_80_columns(cli):
    terminal = await seen(cli, "workflow", "list")
    assert re.split(r" {2,}", terminal.lines[0]) == ["workflow id", "type", "status", "created", "took"]
    text = "\n".join(terminal.lines)
    assert re.search(r"^greeting-1 +Greeting +completed +\d+ s ago +0\.\d\d s$", text, re.MULTILINE)
    assert re.search(r"^evil-1 +Evil +failed +\d+ s ago", text, re.MULTILINE)
    assert "\x1b[32m" in terminal.shown


@pytest.mark.usefixtures("runs")
async def test_describe_says_what_a_run_is_doing(cli):
    terminal = await seen(
        cli, "workflow", "describe", "-i", "order-of-a-rather-long-name-that-does-not-fit", columns=120
    )
    text = "\n".join(terminal.lines)
    assert re.search(r"^now +waiting for an event, 2 h at most, then it fails, since \d", text, re.MULTILINE)
    terminal = await seen(cli, "workflow", "describe", "-i", "evil-1", columns=120)
    text = "\n".join(terminal.lines)
    assert r"error        RuntimeError: \x1b[31mred\x1b[0m \x9b2J [bold]loud[/bold] [/] \u202etxt" in text


@pytest.mark.usefixtures("runs")
async def test_watch_ends_with_the_timeline_and_the_result(cli):
    terminal = await seen(cli, "workflow", "watch", "-i", "greeting-1")
    assert re.search(r"^Greeting greeting-1 +completed in ", "\n".join(terminal.lines), re.MULTILINE)
    assert terminal.lines[-1] == '"Hello, Ada!"'
    terminal = await seen(cli, "workflow", "watch", "-i", "evil-1", code=1)
    assert any(line.startswith("grctl-client: workflow 'evil-1'") for line in terminal.lines)


async def test_run_shows_a_spinner_and_then_the_result(cli, gate):
    terminal = Terminal(80)
    process = await terminal.start(cli, "workflow", "run", "-t", "Slow", "-i", "slow-1")
    async with asyncio.timeout(PATIENCE):
        while "waiting for slow-1 (Slow)" not in terminal.shown:
            assert await terminal.read()
    gate.set()
    assert await terminal.end(process) == 0
    assert terminal.lines[-1] == '"done"'
    assert not any("waiting for" in line for line in terminal.lines)


@pytest.mark.parametrize("command", [("run", "-t", "Slow"), ("result",)])
async def test_ctrl_c_says_that_the_workflow_goes_on(cli, gate, command):
    if command[0] == "result":
        await cli("workflow", "start", "-t", "Slow", "-i", "slow-1")
    terminal = Terminal(80)
    process = await terminal.start(cli, "workflow", *command, "-i", "slow-1")
    async with asyncio.timeout(PATIENCE):
        while "waiting for slow-1 (Slow)" not in terminal.shown:
            assert await terminal.read()
    process.send_signal(signal.SIGINT)
    assert await terminal.end(process) == 130
    text = "\n".join(terminal.lines)
    assert "interrupted: workflow 'slow-1' (run " in text
    assert "goes on. To wait for it again: grctl-client workflow result --id slow-1 --run-id " in text
    gate.set()
    assert (await cli("workflow", "result", "-i", "slow-1")).out == '"done"\n'
    assert "\x1b[?25h" in terminal.shown.rpartition("\x1b[?25l")[2], "the cursor is back"


async def test_ctrl_c_ends_the_watching_and_not_the_workflow(cli, gate):
    await cli("workflow", "start", "-t", "Slow", "-i", "slow-1")
    terminal = Terminal(80)
    process = await terminal.start(cli, "workflow", "watch", "-i", "slow-1")
    async with asyncio.timeout(PATIENCE):
        while "goes on" not in terminal.shown:
            assert await terminal.read()
    process.send_signal(signal.SIGINT)
    assert await terminal.end(process) == 130
    assert "interrupted: workflow 'slow-1' (run " in "\n".join(terminal.lines)
    assert "Traceback" not in terminal.shown
    assert "\x1b[?25h" in terminal.shown.rpartition("\x1b[?25l")[2], "the cursor is back"
    gate.set()
    assert (await cli("workflow", "result", "-i", "slow-1")).out == '"done"\n'


@pytest.mark.usefixtures("runs")
async def test_no_color(cli):
    cli.env["NO_COLOR"] = "1"
    for arguments in (["workflow", "list"], ["workflow", "history", "-i", "evil-1"], ["doctor"]):
        terminal = await seen(cli, *arguments)
        colours = {number for found in _COLOUR.findall(terminal.shown) for number in re.findall(r"\d+", found)}
        assert not colours & {str(number) for number in [*range(30, 50), *range(90, 108)]}, arguments


@pytest.mark.usefixtures("runs")
async def test_force_color_brings_no_table_into_a_pipe(cli):
    cli.env["FORCE_COLOR"] = "1"
    done = await cli.process("workflow", "list")
    assert "\x1b" not in done.out + done.err
    assert len(done.out.splitlines()[0].split("\t")) == 5


@pytest.mark.usefixtures("runs")
async def test_json_stays_json_on_a_terminal(cli):
    terminal = await seen(cli, "workflow", "describe", "-i", "evil-1", "--json", columns=4_000)
    found = [json.loads(line) for line in terminal.lines if line.startswith("{")]
    assert [run["error"]["message"] for run in found] == [EVIL]


async def test_a_list_of_nothing_says_so(cli):
    assert (await seen(cli, "workflow", "list")).lines == ["no such runs"]
