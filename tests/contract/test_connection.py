"""What a transport implements, called directly: commands and their replies (PROTOCOL.md sections 2, 4 and 7)."""

from __future__ import annotations

import ast
import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import grctl
from grctl import RunInfo, RunRef, RunStatus, WorkflowNotFoundError
from grctl_core.codec import decode, encode
from grctl_core.commands import (
    CancelCommand,
    DescribeCommand,
    ErrorCode,
    EventCommand,
    QueryCommand,
    StartCommand,
    TerminateCommand,
)
from grctl_core.ids import new_ulid
from grctl_core.outcome import EncodedOutcome
from grctl_core.run import RunFilter

from .helpers import collect, kinds, until, waiting

TIMEOUT = 10.0


def start(wf_id: str, workflow_type: str = "WaitsForApproval", workflow_input: object = None) -> StartCommand:
    run = RunInfo(id=new_ulid(), wf_id=wf_id, wf_type=workflow_type, created_at=datetime.now(UTC))
    encoded = None if workflow_input is None else encode("input", workflow_input)
    return StartCommand(wf_id=wf_id, run=run, input=encoded)


async def ask(connection, command):
    return await connection.request(command, timeout=TIMEOUT)


async def refused(connection, command) -> tuple[int, str]:
    reply = await ask(connection, command)
    assert not reply.success
    assert reply.run is None
    return reply.error.code, reply.error.detail


async def active_run(connection, client, unique_id) -> RunRef:
    command = start(unique_id())
    assert (await ask(connection, command)).success
    await waiting(await client.get_handle(command.wf_id))
    return command.run.ref


async def ended_run(client, unique_id) -> RunRef:
    handle = await client.start_workflow("ReturnsItsInput", unique_id(), 7)
    await handle.result()
    return handle.run_info.ref


# --- replies


async def test_each_command_is_accepted(connection, client, unique_id):
    run = await active_run(connection, client, unique_id)
    described = await ask(connection, DescribeCommand(wf_id=run.wf_id))
    assert described.success
    assert (described.run.id, described.run.wf_id, described.run.wf_type) == (run.run_id, run.wf_id, run.wf_type)
    payload = encode("payload", {"qty": 2})
    event = await ask(connection, EventCommand(wf_id=run.wf_id, event_name="update_quantity", payload=payload))
    assert event.success
    await waiting(await client.get_handle(run.wf_id), times=2)
    assert (await ask(connection, CancelCommand(wf_id=run.wf_id, reason="enough"))).success
    other = await active_run(connection, client, unique_id)
    assert (await ask(connection, TerminateCommand(wf_id=other.wf_id, reason="stop"))).success


@pytest.mark.parametrize(
    "command",
    [
        lambda wf_id: DescribeCommand(wf_id=wf_id),
        lambda wf_id: EventCommand(wf_id=wf_id, event_name="approve"),
        lambda wf_id: CancelCommand(wf_id=wf_id),
        lambda wf_id: TerminateCommand(wf_id=wf_id),
    ],
    ids=["describe", "event", "cancel", "terminate"],
)
async def test_an_id_that_never_ran_is_4002(connection, unique_id, command):
    code, detail = await refused(connection, command(unique_id()))
    assert code == ErrorCode.NOT_FOUND
    assert detail.endswith("workflow run not found")


@pytest.mark.parametrize(
    "command",
    [
        lambda wf_id: EventCommand(wf_id=wf_id, event_name="approve"),
        lambda wf_id: CancelCommand(wf_id=wf_id),
        lambda wf_id: TerminateCommand(wf_id=wf_id),
    ],
    ids=["event", "cancel", "terminate"],
)
async def test_a_run_that_has_ended_is_4003(connection, client, unique_id, command):
    run = await ended_run(client, unique_id)
    code, detail = await refused(connection, command(run.wf_id))
    assert (code, detail) == (ErrorCode.FINISHED, "workflow run is in a terminal state")


async def test_an_active_id_is_4001_and_the_detail_ends_in_the_active_runs_id(connection, client, unique_id):
    run = await active_run(connection, client, unique_id)
    code, detail = await refused(connection, start(run.wf_id))
    assert code == ErrorCode.ALREADY_RUNNING
    assert detail.endswith(run.run_id)
    await ask(connection, TerminateCommand(wf_id=run.wf_id))


async def test_a_start_that_is_repeated_while_its_run_is_active_is_4001_naming_itself(connection, client, unique_id):
    command = start(unique_id())
    assert (await ask(connection, command)).success
    code, detail = await refused(connection, command)
    assert code == ErrorCode.ALREADY_RUNNING
    assert detail.endswith(command.run.id)
    handle = await client.get_handle(command.wf_id)
    await waiting(handle)
    assert (await kinds(handle)).count("run.started") == 1
    await handle.terminate()


async def test_an_unknown_type_is_4004(connection, unique_id):
    code, detail = await refused(connection, start(unique_id(), "NobodyHasThis"))
    assert (code, detail) == (ErrorCode.TYPE_NOT_REGISTERED, "workflow type not registered")


async def test_commands_are_not_deduplicated(connection, client, unique_id):
    handle = await client.start_workflow("CollectsEvents", unique_id())
    await waiting(handle)
    command = EventCommand(wf_id=handle.run_info.wf_id, event_name="add", payload=encode("payload", 1))
    await ask(connection, command)
    await waiting(handle, times=2)
    await ask(connection, command)
    await until(handle, "event.received", times=2)
    await waiting(handle, times=3)
    await handle.send("done")
    assert await handle.result() == [1, 1]


async def test_a_query_is_refused_where_there_are_none(connection, client, unique_id):
    if connection.capabilities.queries:
        pytest.skip("this engine answers queries")
    run = await ended_run(client, unique_id)
    with pytest.raises(grctl.UnsupportedOperationError):
        await ask(connection, QueryCommand(wf_id=run.wf_id, run_id=run.run_id, query_name="status"))


async def test_describe_is_a_barrier_for_a_start_sent_earlier_on_the_same_connection(connection, unique_id):
    for _ in range(20):
        command = start(unique_id(), "ReturnsItsInput")
        started = asyncio.create_task(ask(connection, command))
        await asyncio.sleep(0)
        described = await ask(connection, DescribeCommand(wf_id=command.wf_id))
        assert described.success
        assert described.run.id == command.run.id
        assert (await started).success


async def test_what_a_client_says_of_a_runs_progress_is_not_believed(connection, client, unique_id, ours):
    wf_id = unique_id()
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    run = RunInfo(
        id=new_ulid(),
        wf_id=wf_id,
        wf_type="WaitsForApproval",
        created_at=long_ago,
        status=RunStatus.COMPLETED,
        completed_at=long_ago,
    )
    assert (await ask(connection, StartCommand(wf_id=wf_id, run=run))).success
    handle = await client.get_handle(wf_id)
    assert not handle.run_info.is_finished
    assert handle.run_info.created_at == long_ago
    await handle.terminate()


# --- ping


async def test_ping_is_a_round_trip_that_leaves_nothing(connection, client, unique_id):
    run = await active_run(connection, client, unique_id)
    for took in await asyncio.gather(*(connection.ping(timeout=TIMEOUT) for _ in range(10))):
        assert timedelta(0) < took < timedelta(seconds=TIMEOUT)
    assert await collect(connection.list_runs(RunFilter(workflow_id_prefix="grctl-ping-"))) == []
    assert not (await connection.find_run(run)).is_finished
    await ask(connection, TerminateCommand(wf_id=run.wf_id))


# --- find_run, has_begun, find_type


async def test_find_run_finds_exactly_this_run(connection, client, unique_id):
    run = await ended_run(client, unique_id)
    newer = await client.start_workflow("WaitsForApproval", run.wf_id)
    found = await connection.find_run(run)
    assert (found.id, found.status) == (run.run_id, RunStatus.COMPLETED)
    assert (await connection.find_run(RunRef(run.wf_id, newer.run_info.id))).id == newer.run_info.id
    await newer.terminate()


async def test_find_run_without_the_type(connection, client, unique_id):
    run = await ended_run(client, unique_id)
    assert (await connection.find_run(RunRef(run.wf_id, run.run_id))).wf_type == "ReturnsItsInput"


async def test_find_run_of_what_is_not_there(connection, client, unique_id):
    run = await ended_run(client, unique_id)
    assert await connection.find_run(RunRef(run.wf_id, new_ulid())) is None
    assert await connection.find_run(RunRef(unique_id(), run.run_id)) is None


async def test_has_begun(connection, client, unique_id):
    run = await active_run(connection, client, unique_id)
    assert await connection.has_begun(run)
    assert not await connection.has_begun(RunRef(unique_id(), new_ulid(), "WaitsForApproval"))
    await ask(connection, TerminateCommand(wf_id=run.wf_id))


async def test_find_type_has_steps_events_and_queries(connection):
    found = await connection.find_type("WaitsForApproval")
    assert found.name == "WaitsForApproval"
    assert found.start_step == "start"
    assert set(found.events) == {"approve", "update_quantity", "order.rejected"}
    assert {"second", "third"} <= set((await connection.find_type("ThreeSteps")).steps)


async def test_find_type_of_what_is_not_registered(connection):
    assert await connection.find_type("NobodyHasThis") is None


# --- watch


async def test_watch_of_a_run_that_has_ended(connection, client, unique_id):
    run = await ended_run(client, unique_id)
    outcome = await connection.watch(run)
    assert isinstance(outcome, EncodedOutcome)
    assert (outcome.run.id, outcome.run.status) == (run.run_id, RunStatus.COMPLETED)
    assert decode(outcome.result) == 7  # whose encoding has any width


async def test_watch_settles_with_a_value_whatever_the_end_is(connection, client, unique_id):
    run = await active_run(connection, client, unique_id)
    watch = connection.watch(run)
    assert not watch.done()
    await ask(connection, TerminateCommand(wf_id=run.wf_id, reason="stop"))
    outcome = await watch
    assert (outcome.run.status, outcome.reason, outcome.result) == (RunStatus.TERMINATED, "stop", None)


async def test_each_watch_is_a_future_of_its_own(connection, client, unique_id):
    run = await active_run(connection, client, unique_id)
    first, second = connection.watch(run), connection.watch(run)
    assert first is not second
    first.cancel()
    await ask(connection, TerminateCommand(wf_id=run.wf_id))
    assert (await second).run.status is RunStatus.TERMINATED
    assert first.cancelled()


@pytest.mark.parametrize("known_id", [True, False])
async def test_watch_of_a_run_that_is_not_there(connection, client, unique_id, known_id):
    run = await ended_run(client, unique_id)
    missing = RunRef(run.wf_id if known_id else unique_id(), new_ulid(), "ReturnsItsInput")
    with pytest.raises(WorkflowNotFoundError):
        await connection.watch(missing)


async def test_watch_costs_no_task(connection, client, unique_id):
    run = await active_run(connection, client, unique_id)
    tasks = len(asyncio.all_tasks())
    watches = [connection.watch(run) for _ in range(100)]
    assert len(asyncio.all_tasks()) <= tasks + 1  # one watcher for all, at most
    await ask(connection, TerminateCommand(wf_id=run.wf_id))
    assert len({(await watch).run.id for watch in watches}) == 1


# --- history and lists


@pytest.mark.parametrize("follow", [False, True])
async def test_history_of_a_run_that_is_not_there(connection, client, unique_id, follow):
    run = await ended_run(client, unique_id)
    for missing in (RunRef(run.wf_id, new_ulid()), RunRef(unique_id(), run.run_id)):
        with pytest.raises(WorkflowNotFoundError):
            await collect(connection.history(missing, follow=follow))


async def test_list_runs_admits_what_the_filter_admits(connection, client, unique_id):
    run = await ended_run(client, unique_id)
    only = RunFilter(workflow_id_prefix=run.wf_id)
    assert [found.id async for found in connection.list_runs(only)] == [run.run_id]
    later = RunFilter(workflow_id_prefix=run.wf_id, created_after=datetime.now(UTC) + timedelta(hours=1))
    assert await collect(connection.list_runs(later)) == []


# --- the suite itself


def test_the_workflows_import_nothing_that_a_worker_elsewhere_would_lack():
    tree = ast.parse(Path(__file__).with_name("workflows.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    ours = {module for module in modules if module.startswith("grctl")}
    public = {"grctl.models.common", "grctl.models.directive", "grctl.models.errors"}
    assert ours <= {"grctl.workflow", "grctl.worker"} | public
