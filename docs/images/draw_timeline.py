"""Draws timeline.svg from timeline.jsonl, a history as ``grctl-client workflow history --json`` writes it.

python docs/images/draw_timeline.py
"""  # noqa: INP001 - a script, no package

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import msgspec

from grctl.timeline import Timeline, render_svg
from grctl_core.history import HistoryEvent
from grctl_core.run import RunInfo, RunStatus

FOLDER = Path(__file__).parent
PICTURE = FOLDER / "timeline.svg"


def load() -> Timeline:
    """Return the timeline that the picture shows."""
    events = [event(json.loads(line)) for line in (FOLDER / "timeline.jsonl").read_text(encoding="utf-8").splitlines()]
    first, last = events[0], events[-1]
    run = RunInfo(
        id=first.run_id,
        wf_id=first.wf_id,
        wf_type="ProcessOrder",
        created_at=first.timestamp,
        started_at=first.timestamp,
        completed_at=last.timestamp,
        status=RunStatus.COMPLETED,
    )
    return Timeline.from_history(run, events)


def event(line: dict[str, object]) -> HistoryEvent:
    """Return the event that a line of JSON tells of."""
    return HistoryEvent(
        seq=int(str(line["seq"])),
        kind=str(line["kind"]),
        timestamp=datetime.fromisoformat(str(line["timestamp"])),
        wf_id="order-1042",
        run_id="01M82F6TV6SPHAHG7X6781R7CZ",
        worker_id=str(line["worker_id"]),
        operation_id=None if line["operation_id"] is None else str(line["operation_id"]),
        encoded=msgspec.msgpack.encode(line["data"]),
    )


if __name__ == "__main__":
    PICTURE.write_text(render_svg(load()), encoding="utf-8")
