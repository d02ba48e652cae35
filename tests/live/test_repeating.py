"""Cases of the contract suite against a live server that hangs them: repeated once, and counted."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grctl
from grctl import Client, RunInfo, RunStatus

ROOT = Path(__file__).parents[2]
SUITE = "tests/contract"
STUCK = f"{SUITE}/test_send.py::test_events_during_a_step_wait_in_the_inbox[live]"
DROPPED = f"{SUITE}/test_start.py::test_steps_follow_each_other_and_share_the_store[live]"
FAILED = f"{SUITE}/test_timeouts.py::test_an_event_in_time_ends_the_wait_and_its_timer[live]"

DEADLINE = "3"
"""Seconds; the cases here take milliseconds, and one 1.3 s."""

PATIENCE = 120


@contextmanager
def faulty_server(*rules: str) -> Iterator[str]:
    """Run one in a process of its own; its URL."""
    command = [sys.executable, "-m", "live.faulty_server", *rules]
    with subprocess.Popen(
        command, cwd=ROOT / "tests", env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("nats://"), "the server does not start"
            yield url
        finally:
            process.kill()


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *filter(None, sys.path)])
    return {**os.environ, "PYTHONPATH": path, **more}


def suite(url: str, *cases: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "live.unguarded", "-p", "no:cacheprovider", "--tb=line", *cases],
        cwd=ROOT,
        env=environment(GRCTL_TEST_URL=url, GRCTL_TEST_DEADLINE=DEADLINE),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def runs_of(url: str, *types: str) -> list[list[RunInfo]]:
    async def look() -> list[list[RunInfo]]:
        async with await grctl.connect(url) as connection:
            client = Client(connection=connection)
            return [[run async for run in client.list_workflows(workflow_type=each)] for each in types]

    return asyncio.run(look())


def test_a_case_that_the_server_hangs_is_repeated_once_and_counted() -> None:
    """6 strikes once; 8 strikes the case and its repetition; what fails otherwise is not repeated."""
    with faulty_server("EVENT_STUCK=1", "STEP_DROPPED=1,2", "WAIT_TIMER_SURVIVES") as url:
        one, other = suite(url, STUCK, FAILED), suite(url, DROPPED)  # at a time: they wait
        said, said_other = one.communicate(timeout=PATIENCE)[0], other.communicate(timeout=PATIENCE)[0]
        stuck, failed, dropped = runs_of(url, "CollectsEvents", "EventInTime", "ThreeSteps")

    assert "live server: 1 repeated" in said, said
    assert "hung 1 by 6: an event is in the inbox" in said
    assert f"repeated, passed: {STUCK} (hung by 6)" in said
    assert f"FAILED {FAILED}" in said
    assert "1 failed, 1 passed" in said
    assert [run.status for run in failed] == [RunStatus.FAILED]
    assert {run.status for run in stuck} == {RunStatus.TERMINATED, RunStatus.COMPLETED}
    assert len(stuck) == len({run.wf_id for run in stuck}) == 2

    assert "live server: 1 repeated" in said_other, said_other
    assert "hung 1 by 8: a step that came right after another" in said_other
    assert f"repeated, failed: {DROPPED} (hung by 8)" in said_other
    assert "1 failed in" in said_other
    assert "has not ended within 3.0 s" in said_other
    assert len(dropped) == len({run.wf_id for run in dropped}) == 2
