"""``grctl-client dev``, as its users run it: in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from grctl.cli.app import app
from grctl_core.run import RunStatus

from .raw import Raw

ROOT = Path(__file__).parents[2]
PROGRAM = """
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

hello = Workflow(workflow_type="Hello")
workflows = [hello]
nothing = 7


@hello.start()
async def start(ctx: Context, name: str) -> Directive:
    if not name:
        raise ValueError("no name")
    return ctx.next.complete(f"Hello, {name}!")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(PROGRAM)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "needy.py").write_text("import no_such_thing")
    (tmp_path / "empty.py").write_text("")
    return tmp_path


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Be in the folder, for a command that runs inside this process; undo what it does to imports and to the log."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    root = logging.getLogger()
    handlers, level, modules = [*root.handlers], root.level, {*sys.modules}
    yield folder
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in {"shop", "broken", "needy", "empty"} - modules:
        sys.modules.pop(name, None)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "grctl", *arguments]


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command("dev", *arguments), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 20)).rstrip()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
async def test_it_serves_and_stops_cleanly(
    folder: Path, connect: Callable[..., Awaitable[Raw]], number: signal.Signals, code: int
) -> None:
    with running(folder, "shop:workflows", "--port", "0") as process:
        first = await line(process)
        found = re.search(r"listening on (nats://127\.0\.0\.1:(\d+))$", first)
        assert found, first
        assert await line(process) == "  hosts Hello"
        assert "Ctrl-C" in await line(process)
        raw = await connect(found[1])
        run = await raw.start("Hello", "greeting", {"name": "Ada"})
        assert (await raw.end(run)).status is RunStatus.COMPLETED
        assert re.search(rf"completed +Hello greeting \({run.run_id}\) 0\.\d\d s$", await line(process))
        await raw.end(await raw.start("Hello", "nobody", {"name": ""}))
        assert re.search(r"failed +Hello nobody .* ValueError: no name$", await line(process))
        await raw.client.close()
        process.send_signal(number)
        assert await asyncio.to_thread(process.wait, 20) == code
        assert process.stdout is not None
        assert process.stdout.read().splitlines()[-1] == "stopped"
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(found[2]))) != 0


async def test_its_broker_is_killed(folder: Path, connect: Callable[..., Awaitable[Raw]]) -> None:
    with running(folder, "shop:workflows", "--port", "0", "--store-dir", "store") as process:
        url = (await line(process)).rpartition(" ")[2]
        for _ in range(3):
            last = await line(process)
        assert "Ctrl-C" in last
        (ports,) = (folder / "store").glob("*.ports")
        os.kill(int(ports.stem.rpartition("_")[2]), signal.SIGKILL)
        said = ""
        while "connected to the broker again" not in said:
            said += await line(process) + "\n"
        assert said.count("nats-server has died: starting it again on the same store") == 1
        raw = await connect(url)
        assert (await raw.end(await raw.start("Hello", "greeting", {"name": "Ada"}))).status is RunStatus.COMPLETED
        await raw.client.close()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no_such:workflows"], "there is no module 'no_such'"),
        (["shop.nothing:workflows"], "there is no module 'shop.nothing'"),
        (["shop:other"], "module 'shop' has no 'other'; it has hello, workflows"),
        (["shop:nothing"], "shop:nothing is neither a Workflow nor a list of them, but int: 7"),
        (["empty"], "module 'empty' has no Workflow in it"),
        (["broken:workflows"], "ZeroDivisionError"),
        (["needy:workflows"], "module 'needy' needs 'no_such_thing', which is not installed"),
        ([":workflows"], "write MODULE:OBJECT"),
        (["shop:workflows", "--port", "4", "--nats-url", "nats://x"], "--nats-url is for one that runs already"),
        (["--nats-url", "nats://127.0.0.1:9"], "no connection to nats://127.0.0.1:9"),
    ],
)
def test_what_is_wrong_is_said_in_words(here: Path, arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["dev", *arguments], prog_name="grctl-client")
    assert isinstance(done.exception, SystemExit)
    assert done.exit_code in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr or arguments[0].startswith("broken")


def test_a_port_that_is_taken(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            command("dev", "--port", str(port)), cwd=folder, capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 1
    assert f"port {port} is taken" in done.stderr


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra(folder: Path, missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None\nfrom grctl.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, "dev"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert done.stderr.strip() == f'grctl-client: {missing} is not installed: pip install "grctl-client[dev-server]"'
