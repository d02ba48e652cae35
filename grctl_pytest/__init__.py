"""The pytest plugin: fixtures for tests of workflows, and of code that starts them. pytest finds it by its entry point.

=====================  ==========================================================================
``grctl_workflows``    the workflows of the tests: override it, in a test module or a conftest.py
``grctl_engine``       an embedded engine that hosts them, whose time the test moves
``grctl_client``       a client on it
``grctl_dev_server``   a development server that hosts them, on a broker of its own
=====================  ==========================================================================

None of them is asynchronous, and each belongs to the event loop that it is first used in: so they work with
pytest-asyncio in both modes, with anyio's plugin (on asyncio), and with none of them.

Where a test fails its report has the timelines of its runs.

pytest imports this module in every run of every project that has this library installed, so it imports nothing but
pytest. It stands beside package ``grctl``, as that would be imported with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from grctl.testing import DevServerThread, ManualEngine
    from grctl.workflow import Workflow
    from grctl_core.client import WorkflowClient

__all__ = ["grctl_client", "grctl_dev_server", "grctl_engine", "grctl_workflows", "pytest_runtest_makereport"]

_NARROWEST, _WIDEST = 60, 120

_reported: pytest.StashKey[list[ManualEngine | DevServerThread]] = pytest.StashKey()
"""What the report of a failed test shows the runs of."""


@pytest.fixture
def grctl_workflows() -> Iterable[Workflow]:
    """The workflows that ``grctl_engine`` and ``grctl_dev_server`` host: none, until you override it."""
    return ()


@pytest.fixture
def grctl_engine(request: pytest.FixtureRequest, grctl_workflows: Iterable[Workflow]) -> Iterator[ManualEngine]:
    """An embedded engine, a :class:`grctl.testing.ManualEngine`: time stands still until the test moves it."""
    from grctl.testing import ManualEngine

    engine = ManualEngine(grctl_workflows)
    request.node.stash.setdefault(_reported, []).append(engine)
    yield engine
    engine.close_in_its_loop()


@pytest.fixture
def grctl_client(grctl_engine: ManualEngine) -> WorkflowClient:
    """A client on ``grctl_engine``."""
    return grctl_engine.client


@pytest.fixture
def grctl_dev_server(request: pytest.FixtureRequest, grctl_workflows: Iterable[Workflow]) -> Iterator[DevServerThread]:
    """A development server, a :class:`grctl.testing.DevServerThread`: connect to its ``url``, which starts it."""
    from grctl.dev_server.broker import find_executable
    from grctl.testing import DevServerError, DevServerThread

    missing = ""
    try:
        find_executable()
    except DevServerError as error:
        missing = str(error)
    if missing:  # outside of the handler, or the report would show its error too
        pytest.fail(missing, pytrace=False)
    server = DevServerThread(grctl_workflows)
    request.node.stash.setdefault(_reported, []).append(server)
    yield server
    server.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the runs of a test that failed."""
    report = yield
    if report.failed and report.when != "teardown":
        width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns))
        for engine in item.stash.get(_reported, ()):
            try:
                text = engine.report(width)
            except Exception as error:  # noqa: BLE001 - a report that fails must not hide why the test did
                text = f"they cannot be drawn: {error!r}\n"
            if text:
                report.sections.append(("grctl runs", text))
    return report
