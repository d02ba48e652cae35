"""Repeating: a case that a live server hangs by a known defect is run once more, with fresh ids, and counted.

Only for a live server, and for nothing else than what :mod:`hangs` recognises: a case that fails otherwise fails.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from _pytest.runner import runtestprotocol  # what pytest's own plugins that repeat tests are built on

import grctl
from grctl import Client, GrctlError, RunInfo, WorkflowHandle

from .hangs import Hang, find_hang

__all__ = ["WORKFLOW_IDS", "Repeater"]

WORKFLOW_IDS = pytest.StashKey[list[str]]()
"""Of a case: the workflow ids that it was given."""

_PROPERTY = "repeated on a live server"
_STANDS_STILL = 2.0
"""Seconds in which the history of a run that hangs does not grow."""

_LOOK_WITHIN = 20.0
"""Seconds for looking at all runs of one case."""


class Repeater:
    """A plugin of pytest. The count stands in the reports themselves, so that it comes through from other processes."""

    def __init__(self, url: str) -> None:
        """Repeat cases that ran against this server."""
        self._url = url

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a case; once more if the server has hung it."""
        if item.path.parent.name != "contract":
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        hang = self._find(item, reports)
        if hang is not None:
            item.stash[WORKFLOW_IDS] = []
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
            for report in reports:
                if report.when == "call":
                    report.user_properties.append((_PROPERTY, hang.value))
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say which cases were repeated, for what, and how often each of the defects struck."""
        repeated = [
            (report.nodeid, value, outcome)
            for outcome in ("passed", "failed", "skipped", "xfailed", "xpassed")
            for report in terminalreporter.stats.get(outcome, ())
            for key, value in report.user_properties
            if key == _PROPERTY
        ]
        terminalreporter.section(f"live server: {len(repeated)} repeated", sep="=")
        for hang, count in sorted(Counter(value for _, value, _ in repeated).items()):
            terminalreporter.line(f"hung {count} by {hang}")
        for nodeid, value, outcome in repeated:
            terminalreporter.line(f"repeated, {outcome}: {nodeid} (hung by {value.partition(':')[0]})")

    def _find(self, item: pytest.Item, reports: list[pytest.TestReport]) -> Hang | None:
        failed = [report.when for report in reports if report.failed]
        ids = item.stash.get(WORKFLOW_IDS, [])
        if failed != ["call"] or not ids:
            return None
        try:
            return asyncio.run(asyncio.wait_for(self._look(ids), _LOOK_WITHIN))
        except (GrctlError, OSError, TimeoutError):
            return None  # the case has failed, and nothing excuses it

    async def _look(self, ids: list[str]) -> Hang | None:
        """Return how a run of these ids, or of its children, hangs; end it, as nobody else will."""
        async with await grctl.connect(self._url) as connection:
            client = Client(connection=connection)
            for wf_id in ids:
                async for run in client.list_workflows(workflow_id_prefix=wf_id):
                    if run.wf_id != wf_id and not run.wf_id.startswith(f"{wf_id}-"):
                        continue
                    hang = await _look_at(client, run)
                    if hang is not None:
                        return hang
        return None


async def _look_at(client: Client, run: RunInfo) -> Hang | None:
    known = await client.connection.find_type(run.wf_type)
    if known is None:
        return None
    names = {known.start_step, *known.steps, *known.events}
    handle = await client.get_handle(run.wf_id, run.id)
    seen = [event async for event in handle.history()]
    hang = find_hang(seen, names)
    if hang is None or not await _stands_still(handle, len(seen)):
        return None
    if not (await handle.describe()).is_finished:
        await handle.terminate("hung")
    return hang


async def _stands_still(handle: WorkflowHandle[Any], count: int) -> bool:
    """Whether no further event comes for a while, or none can come, as the run has ended."""
    try:
        async with asyncio.timeout(_STANDS_STILL):
            async for _ in handle.history(follow=True):
                count -= 1
                if count < 0:
                    return False
    except TimeoutError:
        pass
    return count == 0
