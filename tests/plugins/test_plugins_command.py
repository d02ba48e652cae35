"""``grctl-client plugins list``."""

from __future__ import annotations

import json
import sys

import pytest
from click.testing import CliRunner

from grctl.cli.app import app

MODULE = """
import grctl

class Audit(grctl.Plugin):
    name = "audit"

    async def grctl_start(self, call, proceed):
        return await proceed(call)

    def grctl_run_ended(self, run):
        pass

class Colourful(Audit):
    name = "\\x1b[31mred[bold]"

class Misspelt(grctl.Plugin):
    name = "misspelt"

    async def grctl_strat(self, call, proceed):
        return await proceed(call)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a package whose entry points are these."""

    def install(entries, package="others", module=MODULE):
        (tmp_path / f"{package}_plugins.py").write_text(module, encoding="utf-8")
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n", encoding="utf-8")
        lines = [f"{name} = {package}_plugins{value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[grctl.plugins]", *lines, ""]), encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)

    monkeypatch.delenv("GRCTL_PLUGINS", raising=False)
    return install


def run(*arguments, code=0):
    done = CliRunner().invoke(app, ["plugins", "list", *arguments], prog_name="grctl-client")
    assert done.exit_code == code, done.output
    return done


def as_json(*arguments, code=0):
    return json.loads(run("--json", *arguments, code=code).stdout.splitlines()[0])


def test_what_is_installed(installed):
    installed({"audit": ":Audit"})
    shown = run().stdout
    assert [line.split()[0] for line in shown.splitlines()] == ["logging", "retry", "tracing", "audit"]
    assert "others 1.2" in shown
    found = as_json()
    assert found["installed"][-1] == {
        "name": "audit",
        "package": "others",
        "version": "1.2",
        "made_by": "others_plugins:Audit",
        "problem": None,
    }
    assert [each["problem"] for each in found["installed"]] == [None] * 4
    assert (found["listed"], found["layers"], found["problem"]) == ([], {}, None)


def test_broken_ones_are_named_and_harm_nobody(installed):
    installed({"audit": ":Audit", "gone": ":Gone", "misspelt": ":Misspelt", "logging": ":Audit"})
    installed({"fails": ":x"}, "failing", "print('noise')\nraise RuntimeError('at import')")
    installed({"quits": ":x"}, "quitting", "raise SystemExit(3)")
    installed({"audit": ":Audit"}, "rivals")
    found = {(each["name"], each["package"]): each["problem"] for each in as_json()["installed"]}
    assert found["logging", "grctl-client"] is None
    assert "one of ours" in found["logging", "others"]
    assert "has no attribute 'Gone'" in found["gone", "others"]
    assert "did you mean grctl_start?" in found["misspelt", "others"]
    assert "RuntimeError: at import" in found["fails", "failing"]
    assert "SystemExit: 3" in found["quits", "quitting"]
    assert "two packages claim" in found["audit", "others"]
    assert found["audit", "others"] == found["audit", "rivals"]
    assert run().stdout.count("cannot be used") == 7
    assert as_json("--plugins", "retry")["listed"] == ["retry"]


def test_what_runs_around_each_operation(installed, monkeypatch):
    installed({"audit": ":Audit"})
    expected = {
        "start": ["logging.grctl_operation", "audit.grctl_start"],
        "retry": ["retry.grctl_retry"],
    }
    found = as_json("--plugins", "retry, logging,audit")
    assert found["listed"] == ["retry", "logging", "audit"]
    assert expected.items() <= found["layers"].items()
    assert found["layers"]["run_ended"][-1] == "audit.grctl_run_ended"
    shown = run("--plugins", "retry,logging,audit").stdout
    assert "start               logging.grctl_operation > audit.grctl_start\n" in shown
    monkeypatch.setenv("GRCTL_PLUGINS", "audit")
    assert as_json()["layers"] == {"start": ["audit.grctl_start"], "run_ended": ["audit.grctl_run_ended"]}
    assert as_json("--plugins", "")["layers"] == {}
    assert "no plugins" in run("--plugins", "").stdout


@pytest.mark.parametrize("names", ["nobody", "retry,retry", "audit,\x1b[31m"])
def test_a_list_that_cannot_be(installed, names):
    installed({"audit": ":Audit"})
    done = run("--plugins", names, code=2)
    assert "audit" in done.stdout
    assert "Error: " in done.stderr
    assert "\x1b" not in done.output
    assert as_json("--plugins", names, code=2)["problem"]


def test_a_warning_is_one_clean_line(installed):
    module = MODULE + "\nimport warnings\nwarnings.warn('made with \x1b[31m an old\\nlibrary', UserWarning)\n"
    installed({"audit": ":Audit"}, module=module)
    for arguments in (("--plugins", "logging,tracing,audit"), ("--plugins", "logging,tracing,audit", "--json")):
        sys.modules.pop("others_plugins", None)
        done = run(*arguments)
        of_the_list, of_the_module = sorted(done.stderr.splitlines(), reverse=True)
        assert of_the_list.startswith("Warning: plugin 'logging' is listed before 'tracing', and should stand after it")
        assert of_the_module == r"Warning: made with \x1b[31m an old\nlibrary"
        assert "Warning" not in done.stdout
    assert run("--plugins", "tracing,logging").stderr == ""


def test_names_of_others_do_nothing_to_a_terminal(installed):
    installed({"red\x1b[31m[bold]": ":Colourful", "fails": ":x\x1b[2J"})
    for arguments in ((), ("--plugins", "red\x1b[31m[bold]"), ("--json",)):
        done = run(*arguments)
        assert "\x1b" not in done.output
        assert "[bold]" in done.output
    assert "\\x1b[31mred[bold].grctl_start" in run("--plugins", "red\x1b[31m[bold]").stdout
