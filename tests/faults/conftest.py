"""What the suite of faults shares: the seed, the form that it runs in, and the matrix that pytest shows at the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "nats"))  # where the tests' broker is

from .form import FULL, SEED
from .tally import CELL, Tally


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "faults: real processes and connections that fail; scripts/test-faults runs all")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.faults)
            if FULL:
                item.add_marker(pytest.mark.timeout(1_800))


def pytest_report_header() -> str:
    return f"faults: seed {SEED}, {'full' if FULL else 'short'} form"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for key in ("passed", "failed") for report in terminalreporter.stats.get(key, ())]
    told = [value for report in reports for name, value in report.user_properties if name == CELL]
    if told and FULL:
        terminalreporter.section(f"the fault matrix, seed {SEED}")
        terminalreporter.write(Tally(told).text())
