"""Histories to draw: those recorded from the real server, and made ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from grctl_core.codec import encode
from grctl_core.history import HistoryEvent
from grctl_core.run import RunInfo, RunStatus
from grctl_nats import wire

WIRE = Path(__file__).parent.parent / "fixtures" / "wire"
START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
RUN_ID = "01M82F6TV6SPHAHG7X6781R7CZ"


def recorded() -> Iterator[tuple[str, RunInfo, list[HistoryEvent]]]:
    """Yield each run of each recorded scenario: a name, its last record, its history."""
    for path in sorted(WIRE.glob("*.json")):
        for index, run in enumerate(json.loads(path.read_text(encoding="utf-8")).get("runs", [])):
            events = [wire.decode_event(bytes.fromhex(event["body"]), event["seq"]) for event in run["history"]]
            (record,) = (value for key, value in run["records"].items() if key.endswith(".info"))
            yield f"{path.stem}-{index}", wire.decode_run_info(bytes.fromhex(record["body"])), events


def run_info(wf_type: str = "ProcessOrder", wf_id: str = "order-1042", status: RunStatus | None = None) -> RunInfo:
    return RunInfo(id=RUN_ID, wf_id=wf_id, wf_type=wf_type, created_at=START, started_at=START, status=status)


class Recorder:
    """Writes a history, with a clock of its own."""

    def __init__(self) -> None:
        self.at = START
        self.events: list[HistoryEvent] = []
        self._task = 0

    def __call__(self, kind: str, after: float = 0.0, **data: Any) -> None:
        """Add an event, so many seconds after the one before."""
        self.at += timedelta(seconds=after)
        self.events.append(
            HistoryEvent(
                seq=len(self.events) + 1,
                kind=kind,
                timestamp=self.at,
                wf_id="order-1042",
                run_id=RUN_ID,
                encoded=encode("data", data),
            )
        )

    def step(self, name: str, takes: float, after: float = 0.002) -> None:
        self("step.started", after, step_name=name)
        self("step.completed", takes, step_name=name, duration_ms=int(takes * 1000))

    def task(self, name: str, step: str, *attempts: float, pause: float = 0.1, most: int = 5, fails: bool = False):
        """A task: all attempts but the last fail, and the last one too where it is said."""
        self._task += 1
        ids = {"task_id": f"{name}:{self._task:016x}", "task_name": name, "step_name": step}
        self("task.started", 0.001, **ids, args={})
        for number, takes in enumerate(attempts[:-1], 1):
            error = {"type": "ConnectionError", "message": f"bank.example refused (try {number})", "stack_trace": ""}
            retry = {"attempt": number, "max_attempts": most, "next_retry_delay_ms": int(pause * 1000)}
            self("task.attempt_failed", takes, **ids, error=error, duration_ms=int(takes * 1000), **retry)
            self.at += timedelta(seconds=pause)
            pause *= 2
        if fails:
            error = {"type": "ConnectionError", "message": "bank.example refused", "stack_trace": ""}
            self("task.failed", attempts[-1], **ids, error=error, duration_ms=int(attempts[-1] * 1000))
        else:
            self("task.completed", attempts[-1], **ids, output={"result": None}, duration_ms=1)

    def wait(self, timeout_ms: int = 0, then: str = "") -> None:
        self("wait.started", 0.001, directive_id="d", timeout_ms=timeout_ms, timeout_step_name=then)


def order() -> list[HistoryEvent]:
    """An order of about a second, with an approval in between."""
    run = Recorder()
    run("run.started", input=None)
    run("step.started", 0.004, step_name="start")
    run.task("reserve_stock", "start", 0.12)
    run("step.completed", 0.003, step_name="start", duration_ms=130)
    run.wait(7_200_000, "nobody_approved")
    run("event.received", 0.31, event_name="approve", payload={"by": "Mia"})
    run("step.started", 0.003, step_name="approve")
    run("step.completed", 0.006, step_name="approve", duration_ms=6)
    run("step.started", 0.003, step_name="charge")
    run.task("charge_card", "charge", 0.05, 0.09, pause=0.1, most=3)
    run("step.completed", 0.002, step_name="charge", duration_ms=240)
    run("step.started", 0.003, step_name="ship")
    run("sleep.recorded", 0.18, duration_ms=180)
    run("step.completed", 0.002, step_name="ship", duration_ms=182)
    run("run.completed", result={"paid": True}, duration_ms=910)
    return run.events


def month() -> list[HistoryEvent]:
    """A subscription: thirty days of waiting, and steps of milliseconds."""
    run = Recorder()
    run("run.started", input=None)
    run("step.started", 0.01, step_name="start")
    run.task("send_welcome", "start", 0.35)
    run("step.completed", 0.01, step_name="start", duration_ms=370)
    for day in (7, 14, 9):
        run.wait(day * 86_400_000, "remind")
        run("wait.timed_out", day * 86_400, original_directive_id="d", timeout_step_name="remind")
        run("step.started", 0.02, step_name="remind")
        run.task("send_mail", "remind", 0.28)
        run("step.completed", 0.01, step_name="remind", duration_ms=290)
    run.wait(0)
    run("event.received", 3_700, event_name="paid", payload=None)
    run.step("paid", 0.4)
    run("run.completed", result=None, duration_ms=2_595_600_000)
    return run.events


def failing() -> list[HistoryEvent]:
    """Five attempts of one task, and then none."""
    run = Recorder()
    run("run.started", input=None)
    run.step("start", 0.2)
    run("step.started", 0.003, step_name="charge")
    run.task("charge_card", "charge", 0.3, 0.2, 0.5, 0.3, 0.4, pause=0.25, fails=True)
    error = {"type": "ConnectionError", "message": "bank.example refused", "stack_trace": "Traceback ..."}
    run("step.failed", 0.004, step_name="charge", error=error, duration_ms=1)
    run("run.failed", error=error, duration_ms=1)
    return run.events


def family() -> list[HistoryEvent]:
    """Children, tasks at the same time, and sixty events."""
    run = Recorder()
    run("run.started", input=None)
    run("step.started", 0.01, step_name="start")
    for number in range(3):
        run("task.started", 0.01, task_id=f"load:{number}", task_name="load_part", step_name="start", args={})
    for number in range(3):
        ids = {"task_id": f"load:{number}", "task_name": "load_part", "step_name": "start"}
        run("task.completed", 0.4, **ids, output=None, duration_ms=1)
    for number in range(4):
        run("child.started", 0.2, run_id=RUN_ID, wf_type="ShipParcel", wf_id=f"parcel-{number}", input=None)
    run("uuid.recorded", 0.01, value="2b56de22-fd15-49c7-aab0-756dcde072b3")
    run("step.completed", 0.1, step_name="start", duration_ms=1)
    for number in range(60):
        run.wait()
        run("event.received", 0.4 + (number % 7) * 0.35, event_name="scan" if number % 4 else "move", payload=number)
        run.step("scan" if number % 4 else "move", 0.05 + (number % 5) * 0.05)
    run("parent.event_sent", 0.1, event_name="delivered", parent_wf_type="Shop", parent_wf_id="shop-1", payload=None)
    run("run.completed", 0.1, result=None, duration_ms=1)
    return run.events


def running() -> list[HistoryEvent]:
    """A run that goes on: its task failed twice and is in its third attempt."""
    run = Recorder()
    run("run.started", input=None)
    run.step("start", 0.5)
    run.wait(60_000, "late")
    run("event.received", 3.0, event_name="approve", payload=None)
    run("step.started", 0.002, step_name="approve")
    run.task("charge_card", "approve", 0.4, 0.7, 0.4, pause=0.5)
    return run.events[:-1]


MADE = {"order": order, "month": month, "failing": failing, "family": family, "running": running}
