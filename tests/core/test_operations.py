"""grctl_core.operations: on_conflict, describe and query."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from grctl_core.client import WorkflowClient
from grctl_core.codec import encode
from grctl_core.commands import Reply
from grctl_core.errors import (
    ConnectionClosedError,
    DecodeError,
    DeliveryUnknownError,
    NotSentError,
    ServerError,
    UnsupportedOperationError,
    WorkflowAlreadyRunningError,
    WorkflowFinishedError,
    WorkflowNotFoundError,
)

from .scripted import (
    NEVER,
    OK,
    OTHER_RUN,
    ScriptedConnection,
    already_running,
    client_on,
    handle_to,
    lost,
    refused,
    retrying,
    run_info,
    settle,
)


@pytest.fixture
def taken(connection: ScriptedConnection) -> ScriptedConnection:
    """A connection whose server runs order-1 already, and refuses the first start of it."""
    connection.record(run_info(OTHER_RUN))
    connection.script("run.start", already_running(OTHER_RUN))
    return connection


async def test_raise_is_the_default(taken: ScriptedConnection, client: WorkflowClient) -> None:
    with pytest.raises(WorkflowAlreadyRunningError, match="on_conflict='attach'") as caught:
        await client.start_workflow("Order", "order-1")
    assert (caught.value.run_id, caught.value.code) == (OTHER_RUN, 4001)
    assert taken.kinds == ["start"]


async def test_attach_returns_the_active_run(taken: ScriptedConnection, client: WorkflowClient) -> None:
    handle = await client.start_workflow("Order", "order-1", on_conflict="attach")
    assert handle.run_info == taken.records[OTHER_RUN]
    assert taken.kinds == ["start", "describe"]


async def test_attach_refuses_another_type(taken: ScriptedConnection, client: WorkflowClient) -> None:
    with pytest.raises(WorkflowAlreadyRunningError, match="of type 'Order', not 'Greet'") as caught:
        await client.start_workflow("Greet", "order-1", on_conflict="attach")
    assert caught.value.run_id == OTHER_RUN


async def test_attach_to_one_that_ended_meanwhile_is_that_run(
    taken: ScriptedConnection, client: WorkflowClient
) -> None:
    taken.record(run_info("R3"))  # and a newer one began
    taken.end(OTHER_RUN, result="done")
    handle = await client.start_workflow("Order", "order-1", on_conflict="attach")
    assert (handle.run_info.id, await handle.result()) == (OTHER_RUN, "done")


async def test_attach_where_the_server_names_no_run_takes_the_latest(
    connection: ScriptedConnection, client: WorkflowClient
) -> None:
    connection.record(run_info("R1"))
    connection.script("run.start", refused(4001, "already active"))
    assert (await client.start_workflow("Order", "order-1", on_conflict="attach")).run_info.id == "R1"


async def test_attach_whose_look_fails_says_that_nothing_was_started(
    taken: ScriptedConnection, client: WorkflowClient
) -> None:
    taken.script("run.describe", lost())
    with pytest.raises(WorkflowAlreadyRunningError) as caught:
        await client.start_workflow("Order", "order-1", on_conflict="attach")
    assert isinstance(caught.value.__cause__, DeliveryUnknownError)


async def test_terminate_ends_it_waits_and_starts(taken: ScriptedConnection, client: WorkflowClient) -> None:
    starting = asyncio.create_task(client.start_workflow("Order", "order-1", on_conflict="terminate"))
    await settle()
    assert taken.kinds == ["start", "describe", "terminate"]
    assert not starting.done()
    taken.end(OTHER_RUN, "terminated")
    handle = await starting
    first, second = taken.sent("run.start")
    assert first.run.id == second.run.id == handle.run_info.id
    assert taken.sent("run.terminate")[0].reason == f"replaced by run {first.run.id} (on_conflict='terminate')"
    assert taken.live_watches == 0


@pytest.mark.parametrize("how", ["ended", "records gone", "gone while ending"])
async def test_terminate_of_one_that_ends_by_itself(
    taken: ScriptedConnection, client: WorkflowClient, how: str
) -> None:
    if how == "ended":
        taken.end(OTHER_RUN)
    elif how == "records gone":
        taken.script("run.describe", refused(4002))
    else:
        taken.script("run.terminate", lambda _: taken.records.clear() or OK)
    await client.start_workflow("Order", "order-1", on_conflict="terminate")
    assert taken.kinds[-1] == "start"


async def test_terminate_ends_one_that_came_up_in_between(taken: ScriptedConnection, client: WorkflowClient) -> None:
    newer = OTHER_RUN.replace("H", "J")
    taken.record(run_info(newer))
    taken.script("run.start", already_running(newer))
    taken.script("run.terminate", lambda _: taken.end(newer, "terminated") or OK)
    handle = await client.start_workflow("Order", "order-1", on_conflict="terminate")
    assert taken.kinds == ["start", "describe", "start", "describe", "terminate", "start"]
    assert {command.run.id for command in taken.sent("run.start")} == {handle.run_info.id}


async def test_terminate_gives_up_after_a_bound(connection: ScriptedConnection, client: WorkflowClient) -> None:
    runs = [f"01HZZZZZZZZZZZZZZZZZZZZZ{n:02}" for n in range(10)]
    for run_id in runs:
        connection.record(run_info(run_id))
    connection.script("run.start", *map(already_running, runs))
    with pytest.raises(WorkflowAlreadyRunningError):
        await client.start_workflow("Order", "order-1", on_conflict="terminate")
    assert len(connection.sent("run.start")) == 6
    assert not connection.sent("run.terminate")[1:]


async def test_terminate_where_the_server_names_no_run_raises(
    connection: ScriptedConnection, client: WorkflowClient
) -> None:
    connection.script("run.start", refused(4001))
    with pytest.raises(WorkflowAlreadyRunningError):
        await client.start_workflow("Order", "order-1", on_conflict="terminate")
    assert connection.kinds == ["start"]


@pytest.mark.parametrize(
    ("describes", "terminates", "says"),
    [
        ([], [lost(), lost()], "no reply"),
        ([], [refused(5000), refused(5000)], "may have taken effect"),
        ([lost()], [], "looking at the run first failed"),
        ([], [OK], "it has not ended within 0.01 s"),
    ],
    ids=["reply lost", "server failed", "look lost", "does not end"],
)
async def test_nothing_is_started_while_the_old_run_may_go_on(
    taken: ScriptedConnection, client: WorkflowClient, describes: list[Any], terminates: list[Any], says: str
) -> None:
    """What is in doubt is the old run's end. No doubt is about our start: it was refused."""
    taken.script("run.describe", *describes)
    taken.script("run.terminate", *terminates)
    with pytest.raises(WorkflowAlreadyRunningError, match=rf"nothing was started: .*{says}") as caught:
        await client.start_workflow("Order", "order-1", on_conflict="terminate", request_timeout=0.01)
    assert (caught.value.run_id, caught.value.code) == (OTHER_RUN, 4001)
    assert isinstance(caught.value.__cause__, DeliveryUnknownError | NotSentError)
    assert len(taken.sent("run.start")) == 1
    assert taken.live_watches == 0


async def test_a_slow_terminate_takes_nothing_from_the_time_for_the_end(
    taken: ScriptedConnection, client: WorkflowClient
) -> None:
    async def slowly() -> Any:
        await asyncio.sleep(0.5)
        asyncio.get_running_loop().call_later(0.01, taken.end, OTHER_RUN, "terminated")
        return OK

    taken.script("run.terminate", lambda _: slowly())
    await client.start_workflow("Order", "order-1", on_conflict="terminate", request_timeout=0.5)
    assert taken.kinds[-1] == "start"


@pytest.mark.parametrize("on_conflict", ["raise", "attach", "terminate"])
async def test_a_doubt_from_before_the_conflict_stays(taken: ScriptedConnection, on_conflict: Any) -> None:
    """The first attempt, held back by an old connection, may arrive once the other run has ended."""
    taken._script.clear()

    def hold_back(command: Any) -> Any:
        taken.link = 2
        return lost(1)

    taken.script("run.start", hold_back, already_running(OTHER_RUN))
    with pytest.raises(DeliveryUnknownError, match="has an active run already") as caught:
        await client_on(taken).start_workflow("Order", "order-1", on_conflict=on_conflict)
    assert caught.value.run == taken.sent("run.start")[0].run.ref
    assert taken.kinds == ["start", "describe", "start"]


async def test_a_connection_that_closes_while_waiting_for_the_old_run(
    taken: ScriptedConnection, client: WorkflowClient
) -> None:
    starting = asyncio.create_task(client.start_workflow("Order", "order-1", on_conflict="terminate"))
    await settle()
    taken.fail_watches(ConnectionClosedError("closed"))
    with pytest.raises(ConnectionClosedError):
        await starting
    assert len(taken.sent("run.start")) == 1


async def test_describe_of_an_older_run_reads_its_record(
    connection: ScriptedConnection, client: WorkflowClient
) -> None:
    old = connection.record(run_info("R1"))
    handle = await client.get_handle("order-1")
    connection.record(run_info("R2"))
    assert await handle.describe() == handle.run_info == old
    connection.script("run.describe", refused(4002))  # the latest's record is gone, ours is not
    assert await handle.describe() == old
    del connection.records["R1"]
    with pytest.raises(WorkflowNotFoundError, match="run R1 of workflow 'order-1'"):
        await handle.describe()


@pytest.mark.parametrize("call", ["describe", "query"])
@pytest.mark.parametrize(
    ("answer", "error"),
    [(refused(4002), WorkflowNotFoundError), (refused(4003), WorkflowFinishedError), (refused(5000), ServerError)],
)
async def test_reads_leave_no_doubt_when_they_are_refused(
    connection: ScriptedConnection, client: WorkflowClient, call: str, answer: Reply, error: type[Exception]
) -> None:
    connection.record(run_info("R1"))
    handle = await client.get_handle("order-1")
    connection.script(f"run.{call}", answer)
    connection.records.clear()
    with pytest.raises(error):
        await getattr(handle, call)(*(["status"] if call == "query" else []))


@pytest.mark.parametrize("call", ["describe", "query"])
async def test_a_read_without_a_reply_says_which_it_was(
    connection: ScriptedConnection, client: WorkflowClient, call: str
) -> None:
    connection.record(run_info("R1"))
    handle = await client.get_handle("order-1")
    connection.script(f"run.{call}", lost())
    with pytest.raises(DeliveryUnknownError) as caught:
        await getattr(handle, call)(*(["status"] if call == "query" else []))
    assert (caught.value.operation, caught.value.run) == (call, handle.run_info.ref)


async def test_query(connection: ScriptedConnection, client: WorkflowClient) -> None:
    connection.record(run_info("R1"))
    handle = await client_on(connection, retrying(2)).get_handle("order-1")
    connection.script("run.query", lost(), Reply(success=True, payload=encode("answer", {"open": 2})), OK)
    assert await handle.query("items", sku="a") == {"open": 2}
    assert await handle.query("nothing") is None
    first, _, last = connection.sent("run.query")
    assert (first.run_id, first.query_name, first.arguments) == ("R1", "items", encode("", {"sku": "a"}))
    assert last.arguments is None
    connection.script("run.query", *[Reply(success=True, payload=b"\xc1")] * 2)
    with pytest.raises(DecodeError, match="the answer to query 'items' cannot be decoded"):
        await handle.query("items")


async def test_query_where_the_server_has_none() -> None:
    connection = ScriptedConnection(queries=False)
    with pytest.raises(UnsupportedOperationError, match="memory://"):
        await handle_to(connection).query("items")
    assert not connection.commands


async def test_cancelling_a_start_that_replaces_leaves_no_watch(
    taken: ScriptedConnection, client: WorkflowClient
) -> None:
    taken.script("run.terminate", OK, NEVER)
    starting = asyncio.create_task(client.start_workflow("Order", "order-1", on_conflict="terminate"))
    await settle()
    starting.cancel()
    await asyncio.wait([starting])
    assert taken.live_watches == 0
    assert not client._operations._flights._flying
