"""What pytest shows of a test that failed, and what the plugin costs those who do not use it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from project import run_pytest

ROOT = Path(__file__).parents[2]

TESTS = """\
from grctl_engine.engine import Engine


def test_fails(grctl_engine):
    async def scenario():
        await grctl_engine.start("Order", "other")
        run = await grctl_engine.start("Order", "order-1", {"total": -1.0})
        assert await run.completed() == "shipped"

    asyncio.run(scenario())


def test_passes(grctl_engine):
    asyncio.run(grctl_engine.start("Order", "passes"))


@pytest.mark.xfail(strict=True)
def test_fails_as_expected(grctl_engine):
    asyncio.run(grctl_engine.start("Order", "expected"))
    raise AssertionError


def test_a_server(grctl_dev_server):
    async def scenario():
        async with await grctl.connect(grctl_dev_server.url) as connection:
            await grctl.Client(connection=connection).start_workflow("Order", "order-2")
            raise AssertionError("of a test")

    asyncio.run(scenario())


@pytest.fixture
def started(grctl_engine):
    asyncio.run(grctl_engine.start("Order", "order-3"))
    raise AssertionError("of a fixture")


def test_a_fixture_that_fails(started): ...


def test_a_report_that_fails(grctl_engine, monkeypatch):
    monkeypatch.setattr(Engine, "runs", lambda engine: 1 / 0)
    raise AssertionError("of another test")


def test_a_server_is_missing(missing, grctl_dev_server): ...


@pytest.fixture
def missing(monkeypatch):
    monkeypatch.setattr("grctl.dev_server.broker.shutil.which", lambda *args, **options: None)
"""

SAID = """\
test_order.py::test_fails FAILED
test_order.py::test_passes PASSED
test_order.py::test_fails_as_expected XFAIL
test_order.py::test_a_server FAILED
test_order.py::test_a_fixture_that_fails ERROR
test_order.py::test_a_report_that_fails FAILED
test_order.py::test_a_server_is_missing ERROR
AssertionError: Order 'order-1' was to complete, but failed after 0 s: ValueError: a negative total
Order order-1  failed after 0 s
ValueError: a negative total
    raise ValueError("a negative total")
Order other  running for 0 s
Order order-2  running for
Order order-3  running for 0 s
they cannot be drawn: ZeroDivisionError
the development server needs nats-server, which is not installed: pip install "grctl-client[dev-server]"
"""


def test_a_report_has_the_timelines_of_its_runs(tmp_path):
    said = run_pytest(tmp_path, f"import grctl\n{TESTS}", "-v", "-p", "no:asyncio", "-p", "no:anyio")
    missing = [line for line in SAID.splitlines() if line not in said]
    assert not missing, f"{missing} is not in: {said}"
    assert "Order passes" not in said
    assert "Order expected" not in said
    assert said.endswith("exit code 1"), said


PACKAGES = sorted(path.parent.name for path in ROOT.glob("**/grctl*/__init__.py") if ".venv" not in path.parts)


@pytest.mark.parametrize("name", [name for name in PACKAGES if name not in {"grctl_pytest", "grctl_audit"}])
def test_a_package_that_was_imported_before_pytest_is_no_warning(name):
    """As by opentelemetry-instrument: pytest wants to rewrite each of a distribution that has a plugin."""
    assert "PYTEST_DONT_REWRITE" in (importlib.import_module(name).__doc__ or "")
