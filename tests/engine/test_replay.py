"""Each recorded scenario of the real server (tests/fixtures/wire), run again on this engine, and compared.

The commands are the recorded ones, byte for byte in what they carry. What must be the same: the kinds of history
events with their keys and values, the records, how the run ended. What may differ is named here:

- Order. The server's own events come in the same order, and so do a worker's; how the two interleave is not promised
  (docs/protocol.md, section 8, 12), nor is when an event of a client arrives.
- Ids, times, durations and tracebacks.
- ``DIFFERENCES``, on purpose, each with its reason.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from grctl_core.codec import decode, encode
from grctl_core.commands import CancelCommand, EventCommand, StartCommand, TerminateCommand
from grctl_core.outcome import decode_outcome
from grctl_core.run import RunInfo, RunStatus

from .replay_flows import Slow, replayed
from .rig import nothing

WIRE = Path(__file__).parent.parent / "fixtures" / "wire"
NO_SCENARIOS = {"errors", "registry"}
SCENARIOS = sorted(path.stem for path in WIRE.glob("*.json") if path.stem not in NO_SCENARIOS)

DIFFERENCES = {
    # A handler of ours declares its parameters, and the input is checked against them. That one looked into a map.
    "failed_bad_input": {"error.type": "InputMismatchError", "error.message": "start() of workflow 'ProcessOrder' "},
}

OURS_ALONE = {
    # PROTOCOL.md has it, grctld does not set it.
    "worker_name",
    # grctld sets it when the first step has completed; here it is always there.
    "history_seq_id",
}

VOLATILE = {
    "directive_id",
    "duration_ms",
    "original_directive_id",
    "run_id",
    "stack_trace",
    "task_id",
    "worker_id",
}

BY_WORKER = re.compile(r"task\..*|.*\.recorded|child\.started|parent\.event_sent")
OPERATION_IDS = {
    "child.started": "start",
    "timestamp.recorded": "now",
    "random.recorded": "random",
    "uuid.recorded": "uuid4",
    "sleep.recorded": "sleep",
}


def test_there_are_31_scenarios():
    assert len(SCENARIOS) == 31


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_it_happens_as_on_the_server(scenario, make_rig):
    recorded = json.loads((WIRE / f"{scenario}.json").read_text())
    slow = Slow()
    rig = make_rig(*replayed(slow))
    replies = await replay(rig, recorded["commands"])
    slow.go_on.set()
    await rig.advance(0.2 if scenario == "waiting" else 2)
    assert all(reply.success for reply in replies)

    for run in recorded["runs"]:
        ours = rig.engine._runs.latest(run["wf_id"])
        assert ours is not None, run["wf_id"]
        history = await rig.history(ours.info.ref)
        assert [event.seq for event in history] == sorted({event.seq for event in history})
        check_order_of_worker_events(history)
        compare_histories(scenario, history, run["history"])
        await compare_records(rig, scenario, ours, run)
    for command in recorded["commands"]:
        if command["kind"] == "run.describe":
            payload = command["reply_decoded"]["payload"]
            described = rig.describe(payload["wf_id"])
            assert described.status == payload["status"]
            assert keys_of(described) - OURS_ALONE == payload.keys() - OURS_ALONE
    if scenario != "waiting":
        assert nothing(rig.held())


async def replay(rig: Any, commands: list[dict[str, Any]]) -> list[Any]:
    """Send the recorded commands, one after the other, the engine settling after each."""
    replies = []
    for command in commands:
        outer = decode(bytes.fromhex(command["request"]))
        made = to_command(outer["k"], decode(outer["m"]))
        if made is not None:
            replies.append(rig.engine.execute(made))
            await rig.settle()
    return replies


def to_command(kind: str, body: dict[str, Any]) -> Any:
    match kind:
        case "run.start":
            sent = dict(body["run_info"])
            timeout = sent.pop("timeout", None)
            info = msgspec.convert(sent, RunInfo)
            if timeout is not None:
                info = msgspec.structs.replace(info, timeout=timedelta(microseconds=timeout / 1000))
            return StartCommand(wf_id=info.wf_id, run=info, input=encoded(body["input"]))
        case "run.event":
            return EventCommand(wf_id=body["wf_id"], event_name=body["event_name"], payload=encoded(body["payload"]))
        case "run.cancel":
            return CancelCommand(wf_id=body["wf_id"], reason=body["reason"])
        case "run.terminate":
            return TerminateCommand(wf_id=body["wf_id"], reason=body["reason"])
    assert kind == "run.describe"
    return None


def encoded(value: Any) -> bytes | None:
    return None if value is None else encode("value", value)


def compare_histories(scenario: str, ours: list[Any], theirs: list[dict[str, Any]]) -> None:
    mine = [(event.kind, event.data, event) for event in ours]
    recorded = [(event["decoded"]["k"], event["decoded"]["m"], event["decoded"]) for event in theirs]
    if scenario == "waiting":  # the record was taken while the first step was ending
        assert [kind for kind, _, _ in mine] == ["run.started", "step.started", "step.completed", "wait.started"]
        mine = mine[: len(recorded)]
    assert sorted(kind for kind, _, _ in mine) == sorted(kind for kind, _, _ in recorded)
    assert three_strands(mine) == three_strands(recorded)
    for strand_mine, strand_recorded in zip(strands(mine), strands(recorded), strict=True):
        for (kind, data, event), (_, other, outer) in zip(strand_mine, strand_recorded, strict=True):
            compare_values(scenario, kind, data, other)
            assert bool(event.worker_id) == bool(outer["wo"]), kind
            assert (event.operation_id is None) == ("o" not in outer), kind
            if event.operation_id is not None:
                name = OPERATION_IDS.get(kind) or data["task_name"]
                assert re.fullmatch(rf"{name}:[0-9a-f]{{16}}", event.operation_id)
                assert re.fullmatch(rf"{name}:[0-9a-f]{{16}}", outer["o"])
                assert data.get("task_id", event.operation_id) == event.operation_id


def strands(events: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the server's events, the worker's own, and those of clients."""
    own = [event for event in events if BY_WORKER.fullmatch(event[0])]
    clients = [event for event in events if event[0] == "event.received"]
    return [event for event in events if event not in own and event not in clients], own, clients


def three_strands(events: list[Any]) -> list[list[str]]:
    return [[kind for kind, _, _ in strand] for strand in strands(events)]


def compare_values(scenario: str, where: str, ours: Any, theirs: Any) -> None:
    differences = DIFFERENCES.get(scenario, {})
    if isinstance(theirs, dict) and "$timestamp" in theirs:
        # A value that was recorded, or a result.
        assert isinstance(ours, datetime), where
        if not where.endswith("recorded.value"):
            assert ours == datetime.fromisoformat(theirs["$timestamp"])
    elif isinstance(theirs, dict) and "$bytes" in theirs:
        assert ours == b"\x00\xff"
    elif isinstance(theirs, dict):
        assert isinstance(ours, dict), where
        assert ours.keys() == theirs.keys(), where
        for key, value in theirs.items():
            expected = differences.get(f"error.{key}") if where.endswith(".error") else None
            if expected is not None:
                assert str(ours[key]).startswith(expected)
            else:
                compare_values(scenario, f"{where}.{key}", ours[key], value)
    elif where.rpartition(".")[2] in VOLATILE or where.endswith("recorded.value"):
        assert type(ours) is type(theirs), where
        if isinstance(ours, str):
            assert bool(ours) == bool(theirs), where
    else:
        assert ours == theirs, where
        assert type(ours) is type(theirs), where


def check_order_of_worker_events(history: list[Any]) -> None:
    """A step's own events come while it is under way; task.cancelled may come after the end (section 3)."""
    under_way = False
    for event in history:
        if event.kind == "step.started":
            under_way = True
        elif event.kind.startswith(("step.", "run.terminated", "run.timeout")):
            under_way = False
        elif BY_WORKER.fullmatch(event.kind) and event.kind != "task.cancelled":
            assert under_way, [event.kind for event in history]


async def compare_records(rig: Any, scenario: str, run: Any, theirs: dict[str, Any]) -> None:
    """Compare what the server stores of a run with what the engine knows."""
    records = {name.rpartition(".")[2]: record for name, record in theirs["records"].items()}
    (state,) = [record for name, record in theirs["records"].items() if name.startswith("grctl_state.run_state.")]
    started = (await rig.history(run.info.ref))[0].data
    assert (started["input"] is None) == (records["input"] is None)

    info = records["info"]["decoded"]
    assert keys_of(run.current_info) - OURS_ALONE == info.keys() - OURS_ALONE
    assert run.info.status == info.get("status")
    for key in ("parent_wf_id", "parent_wf_type", "parent_callback_step"):
        assert getattr(run.info, key) == info.get(key)

    if scenario == "waiting":
        assert run.state.kind.value == state["decoded"]["kind"] == "wait"
        return
    ends = {"complete": RunStatus.COMPLETED, "fail": RunStatus.FAILED, "cancel": RunStatus.CANCELLED}
    assert run.info.status == ends.get(state["decoded"]["kind"], RunStatus.TERMINATED)
    outcome = decode_outcome(run.outcome(), Any)
    assert (outcome.result is None) == (records["output"] is None)
    if records["output"] is not None:
        compare_values(scenario, "output", outcome.result, records["output"]["decoded"])
    assert (outcome.error is None) == (records["error"] is None)
    if records["error"] is not None:
        error = msgspec.to_builtins(outcome.error)
        compare_values(scenario, "record.error", error, records["error"]["decoded"])


def keys_of(info: RunInfo) -> set[str]:
    return {name for name in info.__struct_fields__ if getattr(info, name) is not None}
