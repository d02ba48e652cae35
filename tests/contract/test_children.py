"""Children: what a client sees of them, and of their parents."""

from __future__ import annotations

import pytest

from grctl import RunStatus, WorkflowError

from .helpers import event_of, kinds, waiting


async def test_a_parent_gets_its_childs_result(client, unique_id):
    handle = await client.start_workflow(
        "RunsAChild", unique_id(), {"child_type": "ReturnsItsInput", "child_input": {"value": {"n": [1]}}}
    )
    assert await handle.result() == {"n": [1]}
    started = (await event_of(handle, "child.started")).data
    child = await client.get_handle(f"{handle.run_info.wf_id}-child")
    run = await child.describe()
    assert started == {
        "run_id": run.id,
        "wf_type": "ReturnsItsInput",
        "wf_id": run.wf_id,
        "input": {"value": {"n": [1]}},
    }
    parent = handle.run_info
    assert (run.parent_wf_id, run.parent_wf_type, run.parent_run_id) == (parent.wf_id, "RunsAChild", parent.id)
    assert run.parent_callback_step is None


async def test_a_child_that_fails_fails_its_parent(client, unique_id):
    handle = await client.start_workflow("RunsAChild", unique_id(), {"child_type": "FailsByException"})
    with pytest.raises(WorkflowError, match="card declined"):
        await handle.result()


async def test_a_parent_can_survive_its_child(client, unique_id):
    handle = await client.start_workflow("SurvivesItsChild", unique_id(), {"child_type": "FailsByDecision"})
    assert await handle.result() == "survived"


async def test_outcomes_come_to_a_step_of_the_parent(client, unique_id):
    children = {"ReturnsItsInput": {"value": 5}, "FailsByException": None, "ThreeSteps": {"first": "x"}}
    handle = await client.start_workflow("StartsChildren", unique_id(), {"children": children})
    assert await handle.result() == [
        ["completed", 5, None],
        ["completed", ["x", "second", "third"], None],
        ["failed", None, "ValueError"],
    ]
    seen = await kinds(handle)
    assert seen.count("child.started") == seen.count("event.received") == 3
    child = await client.get_handle(f"{handle.run_info.wf_id}-ThreeSteps")
    assert (await child.describe()).parent_callback_step == "child_completed"


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_the_outcome_of_a_child_that_was_ended(how, client, unique_id):
    children = {"WaitsForApproval": None}
    handle = await client.start_workflow("StartsChildren", unique_id(), {"children": children})
    await waiting(handle)
    child = await client.get_handle(f"{handle.run_info.wf_id}-WaitsForApproval")
    await getattr(child, how)("enough")
    ((status, result, _),) = await handle.result()
    assert (status, result) == ({"cancel": "cancelled", "terminate": "terminated"}[how], None)


async def test_a_child_tells_its_parent(client, unique_id):
    handle = await client.start_workflow("HearsFromItsChild", unique_id())
    assert await handle.result() == "born"
    child = await client.get_handle(f"{handle.run_info.wf_id}-child")
    assert await child.result() == "told"
    sent = (await event_of(child, "parent.event_sent")).data
    assert sent == {
        "event_name": "news_came",
        "payload": {"news": "born"},
        "parent_wf_type": "HearsFromItsChild",
        "parent_wf_id": handle.run_info.wf_id,
    }


async def test_a_child_goes_on_when_its_parent_ends(client, unique_id):
    handle = await client.start_workflow("StartsChildren", unique_id(), {"children": {"WaitsForApproval": None}})
    await waiting(handle)
    await handle.terminate()
    child = await client.get_handle(f"{handle.run_info.wf_id}-WaitsForApproval")
    assert (await child.describe()).status is RunStatus.RUNNING
    await waiting(child)
    await child.send("approve")
    assert (await child.result())["approved"] is True


async def test_a_child_whose_id_is_taken(client, unique_id):
    wf_id = unique_id()
    taken = await client.start_workflow("WaitsForApproval", f"{wf_id}-child")
    handle = await client.start_workflow("RunsAChild", wf_id, {"child_type": "ReturnsItsInput"})
    with pytest.raises(WorkflowError):
        await handle.result()
    assert "child.started" not in await kinds(handle)
    assert (await taken.describe()).status is RunStatus.RUNNING
    await taken.terminate()
