"""A user's project: a test module, run by pytest in a process of its own, as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["FLOWS", "run_pytest"]

EDITABLE = "ignore:Module already imported so cannot be rewritten; _editable_impl_grctl_client"
"""Of an editable install alone, see pyproject.toml; .ci/run does without."""

OTHERS = ("xdist", "hypothesispytest", "timeout")
"""Plugins that are there and have no part in it: a process without them starts sooner."""

FLOWS = """\
import asyncio
from datetime import timedelta

import pytest

from grctl.worker import Context
from grctl.workflow import Directive, Workflow

order = Workflow(workflow_type="Order")
ended = []


@order.start()
async def start(ctx: Context, total: float = 1.0) -> Directive:
    if total < 0:
        raise ValueError("a negative total")
    if total == 0:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(ctx.run.wf_id)
    return ctx.next.wait(timeout=timedelta(days=30), on_timeout=give_up)


@order.event()
async def paid(ctx: Context) -> Directive:
    return ctx.next.complete("shipped")


@order.step()
async def give_up(ctx: Context) -> Directive:
    return ctx.next.complete("given up")


@pytest.fixture
def grctl_workflows():
    return [order]
"""


CONFTEST = """\
import sys

# Whoever uses pytest for something else gets nothing of ours but the plugin.
assert {name.partition(".")[0] for name in sys.modules if name.startswith("grctl")} <= {"grctl_pytest"}
"""


def run_pytest(folder: Path, tests: str, *options: str, without: tuple[str, ...] = (), **environment: str) -> str:
    """Run ``FLOWS`` and these tests, with each warning an error; return what pytest says, ending in its exit code."""
    (folder / "test_order.py").write_text(f"{FLOWS}\n\n{tests}", encoding="utf-8")
    (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    plugins = [option for name in (*OTHERS, *without) for option in ("-p", f"no:{name}")]
    config = ["-c", os.devnull, "--rootdir", str(folder)]
    command = [sys.executable, "-m", "pytest", *config, "-W", "error", "-W", EDITABLE, *plugins, *options, "."]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return f"{done.stdout}{done.stderr}\nexit code {done.returncode}"
