"""grctl_core.reconcile, start: what a doubt means, and that no second run comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from grctl_core.client import WorkflowClient
from grctl_core.commands import Reply
from grctl_core.doubt import DoubtBounds
from grctl_core.errors import (
    AccessDeniedError,
    ConnectionClosedError,
    DeliveryUnknownError,
    GrctlError,
    NotDeliveredError,
    NotSentError,
    ServerError,
    WorkflowAlreadyRunningError,
    WorkflowTypeNotRegisteredError,
)
from grctl_core.pipeline import Pipeline

from .scripted import (
    NEVER,
    OK,
    OTHER_RUN,
    ScriptedConnection,
    already_running,
    client_on,
    layer,
    lost,
    refused,
    retrying,
    settle,
)

Script = Callable[[ScriptedConnection], Any]


def done_but(answer: Any, *, begun: bool = True, link: int | None = None) -> Callable[[ScriptedConnection], Any]:
    """The server carries the start out, and the answer says something else."""

    def on(connection: ScriptedConnection) -> Callable[[Any], Any]:
        def carry_out(command: Any) -> Any:
            connection.record(command.run, begun=begun)
            if link is not None:
                connection.link = link
            return answer

        return carry_out

    return on


def not_done_but(answer: Any, *, link: int | None = None) -> Callable[[ScriptedConnection], Any]:
    def on(connection: ScriptedConnection) -> Callable[[Any], Any]:
        def drop(command: Any) -> Any:
            if link is not None:
                connection.link = link
            return answer

        return drop

    return on


def own(connection: ScriptedConnection) -> Callable[[Any], Reply]:
    return lambda command: connection.record(command.run, begun=False) and already_running(command.run.id)


STARTED = "started"
LOST_DONE, LOST = done_but(lost()), not_done_but(lost())
FAILED_DONE, FAILED = done_but(refused(5000)), not_done_but(refused(5000))
MOVED = not_done_but(lost(), link=2)  # the connection has changed since
FIND = {"find_run": 1}


@pytest.mark.parametrize(
    ("starts", "describes", "verdict", "kinds", "looks"),
    [
        # Without a doubt: one command, no look.
        ([OK], [], STARTED, "start", {}),
        ([NotSentError("x")], [], NotSentError, "start", {}),
        ([NotDeliveredError("x")], [], NotDeliveredError, "start", {}),
        ([AccessDeniedError("x")], [], AccessDeniedError, "start", {}),
        ([refused(4004)], [], WorkflowTypeNotRegisteredError, "start", {}),
        ([refused(4005)], [], ServerError, "start", {}),
        ([already_running(OTHER_RUN)], [], WorkflowAlreadyRunningError, "start", {}),
        # Reply lost, and the run is there.
        ([LOST_DONE], [], STARTED, "start describe", {"has_begun": 1}),
        ([done_but(lost(), begun=False)], [], "has not begun within", "start describe", {"has_begun": 1}),
        ([done_but(lost(), link=2)], [], STARTED, "start describe", {"has_begun": 1}),
        # Not there, and the same connection answered: sent again, once.
        ([LOST, OK], [], STARTED, "start describe start", FIND),
        ([LOST, LOST], [], "no reply", "start describe start", FIND),
        ([LOST, NotSentError("x")], [], NotSentError, "start describe start", FIND),
        ([LOST, refused(4005)], [], ServerError, "start describe start", FIND),
        ([LOST, already_running(OTHER_RUN)], [], WorkflowAlreadyRunningError, "start describe start", FIND),
        # Not there, after a change of connection, or where the transport does not say: the quarantine.
        ([MOVED, OK], [], STARTED, "start describe start", {"find_run": 2}),
        ([lost(link=None), OK], [], STARTED, "start describe start", {"find_run": 2}),
        ([MOVED, NotSentError("x")], [], "no reply", "start describe start", {"find_run": 2}),
        ([MOVED, AccessDeniedError()], [], "no reply", "start describe start", {"find_run": 2}),
        # So a refusal of the second attempt says nothing of the first, which may still arrive.
        ([MOVED, already_running(OTHER_RUN)], [], "no reply.*active run", "start describe start", {"find_run": 2}),
        ([MOVED, refused(4001)], [], "no reply.*active run", "start describe start", {"find_run": 2}),
        ([MOVED, refused(4004)], [], "no reply.*registered", "start describe start", {"find_run": 2}),
        ([MOVED, refused(4005)], [], "no reply.*4005", "start describe start", {"find_run": 2}),
        ([lost(link=None), refused(4005)], [], "no reply.*4005", "start describe start", {"find_run": 2}),
        # The look fails: the doubt stays.
        ([LOST], [lost()], "looking for it failed", "start describe", {}),
        ([LOST], [NotSentError("x")], "looking for it failed", "start describe", {}),
        ([LOST], [ConnectionClosedError("x")], "looking for it failed", "start describe", {}),
        ([LOST], [refused(5000)], "looking for it failed", "start describe", {}),
        # Refused, as our own run is active: it came twice.
        ([own], [], "is recorded .*has not begun within", "start describe", {"has_begun": 2}),
        ([done_but(lost(), begun=True), OK], [refused(4002)], STARTED, "start describe", FIND | {"has_begun": 1}),
        # 5000 and 0 do not say that nothing was done.
        ([FAILED_DONE], [], STARTED, "start describe", {"has_begun": 1}),
        ([done_but(refused(5000), begun=False)], [], "has not begun within", "start describe", {"has_begun": 1}),
        ([FAILED, OK], [], STARTED, "start describe start", FIND),
        ([not_done_but(refused(0)), OK], [], STARTED, "start describe start", FIND),
        ([FAILED, FAILED], [], "may have taken effect", "start describe start", FIND),
    ],
)  # fmt: skip
async def test_start(
    connection: ScriptedConnection,
    client: WorkflowClient,
    *,
    starts: list[Any],
    describes: list[Any],
    verdict: Any,
    kinds: str,
    looks: dict[str, int],
) -> None:
    def scripted(answer: Any) -> Any:
        return answer(connection) if callable(answer) and not isinstance(answer, type) else answer

    connection.script("run.start", *map(scripted, starts))
    connection.script("run.describe", *describes)
    if verdict is STARTED:
        handle = await client.start_workflow("Order", "order-1", {"sku": 1})
        assert handle.run_info.id == connection.sent("run.start")[0].run.id
    elif isinstance(verdict, str):
        with pytest.raises(DeliveryUnknownError, match=verdict) as caught:
            await client.start_workflow("Order", "order-1", {"sku": 1})
        assert caught.value.operation == "start"
        assert caught.value.run == connection.sent("run.start")[0].run.ref
    else:
        with pytest.raises(verdict) as refusal:
            await client.start_workflow("Order", "order-1", {"sku": 1})
        assert type(refusal.value) is verdict
    assert connection.kinds == kinds.split()
    assert len({command.run.id for command in connection.sent("run.start")}) == 1
    assert len({command.input for command in connection.sent("run.start")}) == 1
    assert dict(connection.looks) == looks


@pytest.mark.parametrize("doubt_link", [None, 0, 1])
async def test_a_link_that_is_not_known_is_not_the_same_one(
    connection: ScriptedConnection, client: WorkflowClient, doubt_link: int | None
) -> None:
    """No describe says that the start is certainly not there: it is looked for as long as the quarantine takes."""
    connection.link = None
    connection.script("run.start", lost(doubt_link), refused(4005))
    with pytest.raises(DeliveryUnknownError, match="sending it again failed"):
        await client.start_workflow("Order", "order-1")
    assert connection.looks == {"find_run": 2}


async def test_the_second_attempts_link_does_not_settle_the_first_ones_doubt(connection: ScriptedConnection) -> None:
    """Two attempts in doubt on two links: a describe on the second one says nothing of the first attempt."""

    def move(command: Any) -> Any:
        connection.link = 2
        return lost(1)

    connection.script("run.start", move, lost(2), already_running(OTHER_RUN))
    with pytest.raises(DeliveryUnknownError) as caught:
        await client_on(connection, retrying(3)).start_workflow("Order", "order-1")
    assert caught.value.run == connection.sent("run.start")[0].run.ref
    assert connection.kinds == ["start", "describe", "start", "describe", "start"]


@pytest.mark.parametrize("look", ["find_run", "has_begun"])
async def test_a_look_at_the_records_has_the_calls_timeout(
    connection: ScriptedConnection, client: WorkflowClient, look: str
) -> None:
    connection.failing[look] = NEVER
    connection.script("run.start", (LOST_DONE if look == "has_begun" else LOST)(connection))
    with pytest.raises(DeliveryUnknownError, match=r"looking for it failed: .* could not be read within 0.01 s"):
        await client.start_workflow("Order", "order-1", request_timeout=0.01)
    assert connection.kinds == ["start", "describe"]


async def test_our_own_run_named_by_a_refusal_counts_when_it_has_begun(
    connection: ScriptedConnection, client: WorkflowClient
) -> None:
    connection.script("run.start", lambda c: connection.record(c.run) and already_running(c.run.id))
    handle = await client.start_workflow("Order", "order-1")
    assert handle.run_info.id == connection.latest["order-1"]
    assert connection.kinds == ["start"]


async def test_a_run_that_began_or_ended_needs_no_further_look(
    connection: ScriptedConnection, client: WorkflowClient
) -> None:
    def ran(command: Any) -> Any:
        connection.record(msgspec.structs.replace(command.run, status="completed"), begun=False)
        connection.end(command.run.id)
        return lost()

    connection.script("run.start", ran)
    handle = await client.start_workflow("Order", "order-1")
    assert handle.run_info.is_finished
    assert not connection.looks


async def test_found_late_in_the_quarantine_is_not_sent_again(connection: ScriptedConnection) -> None:
    client = client_on(connection, bounds=DoubtBounds(quarantine=60.0, begun_within=0.0))

    def drop(command: Any) -> Any:
        connection.link = 2
        return lost(1)

    def appear(name: str) -> None:
        if connection.looks["find_run"] == 3:
            connection.record(connection.sent("run.start")[0].run)

    connection.on_look = appear
    connection.script("run.start", drop)
    await client.start_workflow("Order", "order-1")
    assert connection.kinds == ["start", "describe"]
    assert connection.looks == {"find_run": 3, "has_begun": 1}


@pytest.mark.parametrize("nobody", [NotSentError("no link"), NotDeliveredError("no server")])
async def test_looks_that_reach_nobody_are_repeated(connection: ScriptedConnection, nobody: GrctlError) -> None:
    """What left the doubt is often what cut us off: the broker is gone, and comes back."""
    client = client_on(connection, bounds=DoubtBounds(reached_within=60.0, begun_within=0.0, quarantine=0.0))

    def come_back(command: Any) -> Any:
        connection.link = 2
        connection.record(connection.sent("run.start")[0].run)
        return nobody

    connection.script("run.start", lost(1))
    connection.script("run.describe", nobody, nobody, come_back)
    handle = await client.start_workflow("Order", "order-1")
    assert handle.run_info.id == connection.sent("run.start")[0].run.id
    assert connection.kinds == ["start", *["describe"] * 4]


@pytest.mark.parametrize("look", ["find_run", "has_begun"])
async def test_looks_at_the_records_that_reach_nobody_are_repeated(connection: ScriptedConnection, look: str) -> None:
    client = client_on(connection, bounds=DoubtBounds(reached_within=60.0, begun_within=0.0, quarantine=0.0))
    connection.failing[look] = NotSentError("no link")

    def come_back(name: str) -> None:
        if connection.looks[look] == 3:
            del connection.failing[look]

    connection.on_look = come_back
    connection.script("run.start", (LOST_DONE if look == "has_begun" else LOST)(connection))
    await client.start_workflow("Order", "order-1")
    assert connection.kinds == ["start", "describe", *["start"] * (look == "find_run")]
    assert connection.looks[look] == 3


async def test_a_link_that_is_lost_again_in_the_quarantine(connection: ScriptedConnection) -> None:
    """The quarantine ends with a look that was answered, and not with one that reached nobody."""
    client = client_on(connection, bounds=DoubtBounds(reached_within=60.0, begun_within=0.0, quarantine=0.0))

    def cut_off(name: str) -> None:
        connection.failing.pop(name, None)
        if connection.looks["find_run"] == 2:
            connection.failing[name] = NotSentError("no link")
        if connection.looks["find_run"] == 3:
            connection.record(connection.sent("run.start")[0].run)

    def move(command: Any) -> Any:
        connection.link = 2
        return lost(1)

    connection.on_look = cut_off
    connection.script("run.start", move)
    await client.start_workflow("Order", "order-1")
    assert connection.kinds == ["start", "describe"]
    assert connection.looks["find_run"] == 3


async def test_looks_that_reach_nobody_end(connection: ScriptedConnection) -> None:
    """All of them together: what the first ones took is not there for the later ones."""
    client = client_on(connection, bounds=DoubtBounds(reached_within=0.05, begun_within=0.0, quarantine=0.0))
    connection.failing["find_run"] = NotSentError("no link")
    connection.script("run.start", LOST(connection))
    with pytest.raises(DeliveryUnknownError, match="looking for it failed: no link") as caught:
        await client.start_workflow("Order", "order-1")
    assert caught.value.run == connection.sent("run.start")[0].run.ref
    assert connection.kinds == ["start", "describe"]
    assert connection.looks["find_run"] > 1


async def test_a_closed_connection_is_not_waited_for(connection: ScriptedConnection) -> None:
    client = client_on(connection, bounds=DoubtBounds(reached_within=1_000.0))
    connection.script("run.start", LOST(connection))
    connection.script("run.describe", ConnectionClosedError("closed"))
    with pytest.raises(DeliveryUnknownError, match="looking for it failed: closed"):
        await client.start_workflow("Order", "order-1")
    assert connection.kinds == ["start", "describe"]


async def test_one_that_begins_late_is_waited_for(connection: ScriptedConnection) -> None:
    client = client_on(connection, bounds=DoubtBounds(begun_within=60.0))
    connection.script("run.start", done_but(lost(), begun=False)(connection))
    connection.on_look = lambda name: connection.begun.update(connection.records if connection.looks[name] == 3 else ())
    await client.start_workflow("Order", "order-1")
    assert connection.looks == {"has_begun": 3}


@pytest.mark.parametrize("look", ["find_run", "has_begun"])
async def test_a_look_at_the_records_that_fails_leaves_the_doubt(
    connection: ScriptedConnection, client: WorkflowClient, look: str
) -> None:
    connection.failing[look] = ConnectionClosedError("closed")
    connection.script("run.start", (LOST_DONE if look == "has_begun" else LOST)(connection))
    with pytest.raises(DeliveryUnknownError, match="looking for it failed: closed"):
        await client.start_workflow("Order", "order-1")
    assert connection.kinds == ["start", "describe"]


async def test_what_was_recorded_and_in_doubt_is_looked_for_before_it_is_sent_again(
    connection: ScriptedConnection,
) -> None:
    """Else a run that has ended meanwhile would be started over, and its id blocked (protocol, section 8, 1)."""
    connection.script("run.start", own(connection))
    connection.on_look = lambda name: connection.begun.update(connection.records if connection.looks[name] == 3 else ())
    await client_on(connection, retrying(4)).start_workflow("Order", "order-1")
    assert connection.kinds == ["start", "describe", "describe"]


async def test_a_retry_layer_that_gives_up_on_an_attempt_leaves_a_doubt(connection: ScriptedConnection) -> None:
    """An attempt that was cancelled from inside may have left: the next one looks."""

    async def impatient(call: Any, proceed: Any) -> Any:
        attempt = asyncio.ensure_future(proceed(call))
        await settle()
        assert connection.kinds == ["start"]
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        return await proceed(call)

    def arrive(command: Any) -> Any:
        connection.record(command.run)
        return NEVER

    connection.script("run.start", arrive)
    await client_on(connection, Pipeline(retry=layer(impatient))).start_workflow("Order", "order-1")
    assert connection.kinds == ["start", "describe"]


async def test_an_attempt_layer_that_fails_after_the_reply_leaves_a_doubt(connection: ScriptedConnection) -> None:
    async def broken(attempt: Any, proceed: Any) -> Any:
        reply = await proceed(attempt)
        if attempt.command.kind == "run.start":
            raise KeyError("a bug of the layer")
        return reply

    async def stubborn(call: Any, proceed: Any) -> Any:
        with pytest.raises(KeyError):
            await proceed(call)
        return await proceed(call)

    client = client_on(connection, Pipeline(retry=layer(stubborn), attempts=[layer(broken)]))
    await client.start_workflow("Order", "order-1")
    assert connection.kinds == ["start", "describe"]


async def test_proceeding_after_a_success_starts_nothing_more(connection: ScriptedConnection) -> None:
    async def eager(call: Any, proceed: Any) -> Any:
        return [await proceed(call) for _ in range(3)][-1]

    await client_on(connection, Pipeline(retry=layer(eager))).start_workflow("Order", "order-1")
    assert connection.kinds == ["start"]
