"""What the engine refuses, against what the server refused (tests/fixtures/wire/errors.json): codes and words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from grctl_core.commands import DescribeCommand

from .flows import ALL

WIRE = Path(__file__).parent.parent / "fixtures" / "wire"

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
            reply = rig.engine.execute(DescribeCommand(wf_id=wf_id))
    assert not reply.success
    assert reply.error is not None
    assert (reply.error.code, reply.error.message) == (error["code"], error["message"])
    detail = error["detail"]
    if error["code"] == 4001:
        detail = detail.rpartition(" ")[0] + " " + active.run_id
    assert reply.error.detail == detail
