"""What the engine writes, against what the server wrote (tests/fixtures/wire): kinds, their order, and their keys.

Tasks and children are for the replay of all scenarios.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from .flows import ALL

WIRE = Path(__file__).parent.parent / "fixtures" / "wire"


def recorded(scenario: str):
    run = json.loads((WIRE / f"{scenario}.json").read_text())["runs"][0]
    return [event["decoded"] for event in run["history"]]


async def events(rig):
    await rig.settle()
    rig.send("update_quantity", {"item_id": "sku-1", "qty": 3})
    await rig.settle()
    rig.send("approve")


async def greet_events(rig):
    rig.send("greet")
    rig.send("farewell")


async def cancel(rig):
    await rig.settle()
    rig.cancel("enough")
    await rig.advance(2)


async def terminate(rig):
    await rig.settle()
    rig.terminate("stop")


async def nothing(rig):
    pass


async def two_seconds(rig):
    await rig.settle()
    await rig.advance(2)


SCENARIOS = {
    "cancelled_in_step": ("Slow", {"seconds": 1.0}, cancel),
    "cancelled_waiting": ("OrderApproval", {"order_id": "9", "qty": 1}, cancel),
    "events": ("OrderApproval", {"order_id": "9", "qty": 1}, events),
    "failed_bad_input": ("ProcessOrder", {"nope": 1}, nothing),
    "failed_decision": ("FailByDecision", None, nothing),
    "failed_exception": ("Boom", None, nothing),
    "greet_events": ("GreetEvents", {"name": "Cem"}, greet_events),
    "recorded_values": ("Steps", None, two_seconds),
    "step_timeout": ("StepTooSlow", None, two_seconds),
    "terminated_waiting": ("OrderApproval", {"order_id": "9", "qty": 1}, terminate),
    "wait_timeout": ("WaitTimesOut", None, two_seconds),
    "wait_timeout_step": ("WaitFallback", None, two_seconds),
    "waiting": ("OrderApproval", {"order_id": "9", "qty": 1}, nothing),
}

SAME_VALUES = ["input", "result", "payload", "event_name", "step_name", "reason", "timeout_ms", "timeout_step_name"]

ORDERS_ALLOWED = {
    # The server read the two events between step.started and step.completed; here they come before it is taken.
    "greet_events": (1, 4),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_the_history_is_the_servers(scenario, make_rig):
    wf_type, value, act = SCENARIOS[scenario]
    rig = make_rig(*ALL)
    ref = rig.start(wf_type, value)
    await act(rig)
    await rig.settle()
    ours = await rig.history(ref)
    assert [event.seq for event in ours] == sorted({event.seq for event in ours})
    if scenario == "cancelled_in_step":  # theirs slept outside the context
        ours = [event for event in ours if event.kind != "sleep.recorded"]
    theirs = recorded(scenario)
    if scenario in ORDERS_ALLOWED:
        begin, end = ORDERS_ALLOWED[scenario]
        ours[begin:end] = sorted(ours[begin:end], key=lambda event: event.kind, reverse=True)
    kinds = [event["k"] for event in theirs]
    if scenario == "waiting":  # the fixture was taken before the step ended
        kinds += ["step.completed", "wait.started"]
    assert [event.kind for event in ours] == kinds
    for event, other in zip(ours, theirs, strict=False):
        assert event.data.keys() == other["m"].keys(), event.kind
        assert bool(event.worker_id) == bool(other["wo"]), event.kind
        assert (event.operation_id is None) == ("o" not in other), event.kind
        if event.operation_id is not None:
            assert re.fullmatch(r"[a-z0-9]+:[0-9a-f]{16}", event.operation_id)
            assert event.operation_id.partition(":")[0] == other["o"].partition(":")[0]
        for key in SAME_VALUES:
            assert event.data.get(key) == other["m"].get(key), (event.kind, key)
        if "error" in other["m"] and scenario != "failed_bad_input":
            assert event.data["error"]["type"] == other["m"]["error"]["type"]
            assert event.data["error"]["message"] == other["m"]["error"]["message"]


REFUSALS = json.loads((WIRE / "errors.json").read_text())["commands"]


@pytest.mark.parametrize("number", range(9), ids=lambda number: f"{number}-{REFUSALS[number]['kind']}")
async def test_the_refusals_are_the_servers(number, make_rig):
    recorded = REFUSALS[number]
    error = recorded["reply_decoded"]["error"]
    rig = make_rig(*ALL)
    active = rig.start("OrderApproval", wf_id="waiting")
    await rig.result("Echo", wf_id="completed")
    await rig.settle()
    wf_id = recorded["subject"].rpartition(".")[2]
    match recorded["kind"]:
        case "run.start":
            reply, _ = rig.try_start("NoSuchType" if wf_id == "unknown-type" else "OrderApproval", wf_id=wf_id)
        case "run.event":
            reply = rig.send("x", wf_id=wf_id)
        case "run.cancel":
            reply = rig.cancel("r", wf_id=wf_id)
        case "run.terminate":
            reply = rig.terminate("r", wf_id=wf_id)
        case "run.describe":
            from grctl_core.commands import DescribeCommand

            reply = rig.engine.execute(DescribeCommand(wf_id=wf_id))
    assert not reply.success
    assert reply.error is not None
    assert (reply.error.code, reply.error.message) == (error["code"], error["message"])
    detail = error["detail"]
    if error["code"] == 4001:
        detail = detail.rpartition(" ")[0] + " " + active.run_id
    assert reply.error.detail == detail
