"""The command line as a whole: help, version, completion, usage, and what it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from grctl.cli.app import app
from grctl_core import __version__


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, prog_name="grctl-client")


COMMANDS = {
    *("start", "run", "send", "query", "result", "describe", "cancel", "terminate", "list", "history", "watch"),
}


def test_version():
    done = run("--version")
    assert (done.exit_code, done.stdout) == (0, f"grctl-client {__version__}\n")


def test_help_names_every_command_and_the_exit_codes():
    assert set(run("--help").stdout.split()) >= {"workflow", "doctor", "dev", "completion", "130"}
    assert set(run("workflow", "--help").stdout.split()) >= COMMANDS
    for command in COMMANDS:
        done = run("workflow", command, "--help")
        assert done.exit_code == 0
        assert "--server-url" in done.stdout
        assert "--log-level" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["workflw"], "No such command 'workflw'"),
        (["workflow", "strat"], "No such command 'strat'"),
        (["workflow", "start"], "Missing option '--type'"),
        (["workflow", "start", "--tpye", "x"], "--tpye"),
        (["workflow", "start", "--\x1b[31m"], "No such option"),
        (["workflow", "\x1b[31m[bold]"], "No such command '\\x1b[31m[bold]'"),
        (["workflow", "run", "-t", "x", "--timeout", "soon"], "'soon' is no duration"),
        (["workflow", "list", "--status", "lost"], "'lost' is not one of"),
        (["workflow", "list", "--created-after", "whenever"], "'whenever' is no time"),
        (["workflow", "list", "--limit", "0"], "0 is not in the range"),
        (["workflow", "start", "-t", "x", "-I", "{"], "^"),
        (["-l", "loud", "workflow", "list"], "'loud' is not one of"),
        (["workflow", "history", "-i", "x", "--timeline", "--follow"], "workflow watch"),
        (["workflow", "history", "-i", "x", "--svg", "x.svg", "-f"], "workflow watch"),
        (["workflow", "history", "-i", "x", "--timeline", "--json"], "take one of them"),
        (["workflow", "history", "-i", "x", "--svg", "x.svg", "--json"], "take one of them"),
        (["workflow", "history", "-i", "x", "--timeout", "1s"], "--follow"),
        (["workflow", "watch"], "Missing option '--id'"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
    ],
)
def test_usage(arguments, said):
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        *[
            [command, "--id", "a b.*\x1b[31m"]
            for command in ("result", "describe", "history", "watch", "cancel", "terminate")
        ],
        ["result", "--id", "a", "--run-id", "*"],
        ["send", "--id", "*", "-e", "approve"],
        ["query", "--id", "*", "-q", "progress"],
        ["start", "-t", "Order", "--id", ""],
        ["run", "-t", "a.b"],
        ["list", "-t", "*"],
        ["list", "--id-prefix", "a b"],
    ],
    ids=lambda arguments: " ".join(arguments[:3]).encode("unicode_escape").decode(),
)
def test_what_can_be_no_id_is_refused_before_anybody_is_asked(arguments):
    done = run("-s", "nats://127.0.0.1:1", "workflow", *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "'-' or '_'" in done.stderr or "is empty" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("arguments", [[], ["workflow"]])
def test_a_group_alone_shows_its_help(arguments):
    done = run(*arguments)
    assert done.exit_code == 2
    assert "Commands:" in done.output


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --no-files")]
)
def test_completion_scripts(shell, word):
    done = run("completion", shell)
    assert done.exit_code == 0
    assert word in done.stdout
    assert "_GRCTL_CLIENT_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("grctl-client work", "workflow"),
        ("grctl-client workflow st", "start"),
        ("grctl-client workflow list --st", "--status"),
    ],
)
def test_completion_completes(words, found, monkeypatch):
    environment = {
        "_GRCTL_CLIENT_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = CliRunner().invoke(app, [], prog_name="grctl-client", env=environment)
    assert f"plain,{found}" in done.stdout.splitlines()


def loaded(*arguments: str) -> set[str]:
    program = (
        "import sys\nfrom grctl.cli import main\nsys.argv[1:] = " + repr(list(arguments)) + "\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nprint()\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_and_version_load_neither_driver_nor_engine_nor_rich():
    heavy = {"nats", "asyncio", "rich", "grctl_engine", "grctl.dev_server", "importlib.metadata"}
    assert not heavy & loaded("--version")
    assert not heavy & loaded("--help")


def test_a_command_loads_no_other():
    modules = loaded("workflow", "list", "--help")
    assert not {"grctl_engine", "grctl.dev_server", "grctl.doctor", "rich"} & modules


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [("click", "dev", "dev-server"), ("rich", "dev", "dev-server"), ("click", "doctor", "cli"), ("click", "-h", "cli")],
)
def test_without_the_extra(missing, command, extra):
    program = f"import sys; sys.modules[{missing!r}] = None\nfrom grctl.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, command, "--help"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f'grctl-client: {missing} is not installed: pip install "grctl-client[{extra}]"\n'
