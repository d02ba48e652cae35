from __future__ import annotations

import pytest

from .flows import ALL, Gate
from .rig import nothing


@pytest.mark.parametrize("runs", [2000])
async def test_nothing_is_left_of_runs_that_ended(runs, make_rig):
    rig = make_rig(*ALL)
    kinds = [
        ("Echo", {"value": 1}, None),
        ("Boom", None, None),
        ("OrderApproval", None, "approve"),
        ("Steps", None, None),
        ("WaitTimesOut", None, None),
        ("StepTooSlow", None, None),
        ("Slow", {"seconds": 2}, "terminate"),
        ("Slow", {"seconds": 3}, "cancel"),
        ("OrderApproval", None, "unknown"),
    ]
    futures = []
    for number in range(runs):
        wf_type, value, act = kinds[number % len(kinds)]
        futures.append(rig.engine.watch(rig.start(wf_type, value, wf_id=f"w{number}")))
        if number % 3 == 0:
            rig.engine.watch(rig.engine._runs.latest(f"w{number}").info.ref).cancel()
    await rig.settle()
    for number in range(runs):
        act = kinds[number % len(kinds)][2]
        if act == "terminate":
            rig.terminate(wf_id=f"w{number}")
        elif act == "cancel":
            rig.cancel(wf_id=f"w{number}")
        elif act is not None:
            rig.send(act, wf_id=f"w{number}")
    await rig.advance(400)
    assert all(future.done() for future in futures)
    assert nothing(rig.held())
    assert len(rig.clock._timers) < 300


async def test_ten_thousand_events_cost_no_more_each_than_ten(make_rig):
    gate = Gate()
    rig = make_rig(gate.workflow)
    ref = rig.start("Gated", "wait")
    await rig.settle()
    for number in range(10_000):
        rig.send("go", {"value": number})
    rig.send("go", {"value": "end"})
    gate.opened.set()
    outcome = await rig.outcome(ref)
    assert outcome.result == [f"go {number}" for number in range(10_000)] + ["go end"]
    assert nothing(rig.held())
