"""grctl_core.run: RunStatus, RunInfo and RunFilter."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from grctl_core.run import RunFilter, RunInfo, RunRef, RunStatus

from .scripted import run_info

TERMINAL = {"completed", "failed", "cancelled", "timed_out", "terminated"}


@pytest.mark.parametrize("text", [*RunStatus, "paused", "", "sehr spät"])
def test_a_status_survives_every_way_it_is_stored(text: str) -> None:
    text = str(text)
    status = RunStatus(text)
    ways = [
        copy.copy(status),
        copy.deepcopy(status),
        msgspec.msgpack.decode(msgspec.msgpack.encode(status), type=RunStatus),
        msgspec.json.decode(msgspec.json.encode({"s": status}), type=dict[str, RunStatus])["s"],
        msgspec.convert(text, RunStatus),
        *(pickle.loads(pickle.dumps(status, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
    ]
    for again in ways:
        assert type(again) is RunStatus
        assert again == status == text
        assert hash(again) == hash(text)
        assert (again.value, str(again), f"{again}") == (text, text, text)
        assert again.is_terminal == (text in TERMINAL)


def test_known_statuses_are_one_object_each() -> None:
    for status in RunStatus:
        assert RunStatus(status.value) is status
        assert pickle.loads(pickle.dumps(status)) is status


def test_an_unknown_status_is_no_new_member() -> None:
    assert RunStatus("paused") == RunStatus("paused") != RunStatus.RUNNING
    assert {RunStatus("paused"): 1}["paused"] == 1
    assert "paused" not in list(RunStatus)
    assert "paused" in repr(RunStatus("paused"))


@pytest.mark.parametrize("value", [None, 1, b"running"])
def test_a_status_is_a_string(value: object) -> None:
    with pytest.raises(ValueError, match="is not a valid RunStatus"):
        RunStatus(value)


@pytest.mark.parametrize(
    ("status", "finished"),
    [(None, False), ("running", False), ("paused", False), *((s, True) for s in sorted(TERMINAL))],
)
def test_is_finished(status: str | None, finished: bool) -> None:
    assert run_info("R1", status=status).is_finished is finished


def test_run_info_keeps_what_it_is_given() -> None:
    run = run_info("R1", timeout=timedelta(seconds=5), parent_wf_id="p", history_seq_id=7)
    assert run.ref == RunRef("order-1", "R1", "Order")
    assert pickle.loads(pickle.dumps(run)) == run
    assert msgspec.convert(msgspec.to_builtins(run), RunInfo) == run


DAY = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("run_filter", "admitted"),
    [
        (RunFilter(), True),
        (RunFilter(workflow_type="Order"), True),
        (RunFilter(workflow_type="Greet"), False),
        (RunFilter(status=RunStatus.RUNNING), True),
        (RunFilter(status=RunStatus("paused")), False),
        (RunFilter(workflow_id_prefix="order-"), True),
        (RunFilter(workflow_id_prefix="rder"), False),
        (RunFilter(created_after=DAY), True),
        (RunFilter(created_after=DAY + timedelta.resolution), False),
        (RunFilter(created_before=DAY), False),
        (RunFilter(created_before=DAY + timedelta.resolution), True),
        (RunFilter(workflow_type="Order", status=RunStatus.FAILED), False),
    ],
)
def test_a_filter_admits_what_fits_in_all_respects(run_filter: RunFilter, admitted: bool) -> None:
    assert run_filter.admits(run_info("R1")) is admitted
