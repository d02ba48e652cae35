"""How long it is tried: pauses, attempts, the deadline, and cancellation at any moment."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from core.scripted import NEVER, ScriptedConnection, lost, other_tasks, settle

from grctl_core.errors import DeliveryUnknownError, NotDeliveredError, NotSentError
from grctl_retry import Retry, RetryPlugin

from .rig import KINDS, Clock, Told, retrying_client, ways

FOREVER = 1000


def away(connection: ScriptedConnection, *kinds: str) -> None:
    for kind in kinds or set(KINDS.values()):
        connection.script(kind, *[NotSentError("away")] * FOREVER)


async def test_pauses_double_up_to_the_longest(connection: ScriptedConnection, clock: Clock) -> None:
    told = Told()
    client = retrying_client(connection, Retry(attempts=8), told, sleep=clock.sleep)
    away(connection)
    with pytest.raises(NotSentError):
        await client.start_workflow("Order", "order-2")
    assert clock.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert told.retries == [("start", "NotSentError", pause, number + 2) for number, pause in enumerate(clock.pauses)]


async def test_a_pause_is_a_random_share(connection: ScriptedConnection, clock: Clock) -> None:
    shares = iter([0.0, 0.5, 0.25, 1.0])
    client = retrying_client(connection, Retry(attempts=4), sleep=clock.sleep, random=lambda: next(shares))
    away(connection)
    with pytest.raises(NotSentError):
        await client.start_workflow("Order", "order-2")
    assert clock.pauses == [0.0, 0.1, 0.1]


async def test_a_reconnect_within_the_deadline_is_survived(connection: ScriptedConnection, clock: Clock) -> None:
    client = retrying_client(connection, sleep=clock.sleep, budget=0)
    connection.script("run.start", *[NotSentError("away")] * 12, NotDeliveredError("the server is still starting"))
    with pytest.raises(NotDeliveredError):
        await client.start_workflow("Order", "order-2")  # the tokens are for what was sent
    assert 15 < clock.ahead < 20
    client = retrying_client(connection, sleep=clock.sleep, budget=1)
    connection.script("run.start", *[NotSentError("away")] * 8, NotDeliveredError("the server is still starting"))
    handle = await client.start_workflow("Order", "order-2")
    assert handle.run_info.id in connection.records


@pytest.mark.parametrize("operation", KINDS)
async def test_a_pause_that_would_pass_the_deadline_is_not_begun(
    connection: ScriptedConnection, clock: Clock, operation: str
) -> None:
    calls = await ways(retrying_client(connection, Retry(deadline=5), sleep=clock.sleep))
    away(connection)
    with pytest.raises(NotSentError) as caught:
        await calls[operation]()
    assert clock.pauses == [0.1, 0.2, 0.4, 0.8, 1.6]  # 3.1 s: a pause of 2 s would end after 5 s
    (note,) = caught.value.__notes__
    assert re.fullmatch(r"tried 6 times in 3\.1\d* s, and not again: its deadline would pass in the pause", note)


async def test_the_first_pause_may_be_too_long(connection: ScriptedConnection, clock: Clock) -> None:
    client = retrying_client(connection, Retry(deadline=0.05), sleep=clock.sleep)
    away(connection)
    with pytest.raises(NotSentError) as caught:
        await client.start_workflow("Order", "order-2")
    assert clock.pauses == []
    assert caught.value.__notes__[0].startswith("tried once in ")


@pytest.mark.parametrize(
    ("operation", "error"),
    [(operation, DeliveryUnknownError) for operation in KINDS]
    + [("cancel", NotSentError), ("terminate", NotSentError)],
)
async def test_the_deadline_bounds_the_attempt_under_way(
    connection: ScriptedConnection, clock: Clock, operation: str, error: type[Exception]
) -> None:
    calls = await ways(retrying_client(connection, Retry(deadline=5)))
    kind = KINDS[operation] if error is DeliveryUnknownError else "run.describe"  # or the look before a cancel
    connection.script(kind, NEVER)
    task = asyncio.create_task(calls[operation](request_timeout=60))
    await settle()
    clock.forward(4)
    await settle()
    assert not task.done()
    clock.forward(1.1)
    with pytest.raises(error, match="deadline"):
        await task
    assert other_tasks() == set()


async def test_an_outer_deadline_that_is_nearer_holds(connection: ScriptedConnection, clock: Clock) -> None:
    class Hurry(Told):
        name = "hurry"

        async def grctl_operation(self, call: Any, proceed: Any) -> Any:
            return await proceed(call.replace(deadline=asyncio.get_running_loop().time() + 1))

    client = retrying_client(connection, None, Hurry(), sleep=clock.sleep)
    away(connection)
    with pytest.raises(NotSentError):
        await client.start_workflow("Order", "order-2")
    assert clock.pauses == [0.1, 0.2, 0.4]


async def test_no_deadline(connection: ScriptedConnection, clock: Clock) -> None:
    client = retrying_client(connection, Retry(deadline=None, attempts=FOREVER), sleep=clock.sleep)
    connection.script("run.start", *[NotSentError("away")] * 500)
    await client.start_workflow("Order", "order-2")
    assert len(clock.pauses) == 500


async def test_the_note_says_why_it_was_given_up(connection: ScriptedConnection) -> None:
    handle = await retrying_client(connection, Retry(attempts=2)).get_handle("order-1")
    connection.script("run.event", NotSentError("away"), lost())
    with pytest.raises(DeliveryUnknownError) as caught:
        await handle.send("approve")
    assert "tried 2 times in" in caught.value.__notes__[0]
    assert "another try is not safe, or of no use" in caught.value.__notes__[0]
    connection.script("run.event", NotSentError("away"), NotDeliveredError("nobody"))
    with pytest.raises(NotDeliveredError) as caught:
        await handle.send("approve")
    assert caught.value.__notes__[0].endswith("not again: attempts=2")
    assert caught.value.__context__ is None


async def test_what_succeeds_at_once_has_no_trace(connection: ScriptedConnection, clock: Clock) -> None:
    told = Told()
    for call in (await ways(retrying_client(connection, None, told, sleep=clock.sleep))).values():
        await call()
    assert clock.pauses == told.retries == []
    assert other_tasks() == set()


@pytest.mark.parametrize("operation", KINDS)
@pytest.mark.parametrize("when", ["in the pause", "in the first attempt", "in the second attempt"])
async def test_a_cancellation_passes_at_once(connection: ScriptedConnection, operation: str, when: str) -> None:
    told, pausing = Told(), asyncio.Event()

    async def pause(_: float) -> None:
        pausing.set()
        if when == "in the pause":
            await asyncio.get_running_loop().create_future()

    calls = await ways(retrying_client(connection, None, told, sleep=pause))
    first = [] if when == "in the first attempt" else [NotSentError("away")]
    connection.script(KINDS[operation], *first, NEVER)
    task = asyncio.create_task(calls[operation]())
    await settle()
    assert pausing.is_set() == bool(first)
    sent = len(connection.commands)
    task.cancel()
    done, _ = await asyncio.wait([task])
    assert done == {task}
    assert task.cancelled()
    await settle()
    assert other_tasks() == set()
    assert len(connection.commands) == sent
    assert len(told.retries) == len(first)


async def test_a_cancellation_between_pause_and_attempt_passes(connection: ScriptedConnection) -> None:
    """The pause ends and swallows it: what comes next does not go on."""

    async def swallowing(_: float) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return

    client = retrying_client(connection, sleep=swallowing)
    away(connection, "run.start")
    task = asyncio.create_task(client.start_workflow("Order", "order-2"))
    await settle()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert len(connection.sent("run.start")) == 1


async def test_a_timeout_of_the_callers_own_passes(connection: ScriptedConnection, clock: Clock) -> None:
    async def pause(_: float) -> None:
        clock.forward(60)
        await asyncio.get_running_loop().create_future()

    client = retrying_client(connection, Retry(deadline=600), sleep=pause)
    away(connection, "run.start")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.start_workflow("Order", "order-2"), 60)
    assert other_tasks() == set()


async def test_a_cancel_that_joined_another_goes_on_when_that_one_is_cancelled(connection: ScriptedConnection) -> None:
    pausing = asyncio.Event()

    async def pause(_: float) -> None:
        if not pausing.is_set():
            pausing.set()
            await asyncio.get_running_loop().create_future()

    handle = await retrying_client(connection, sleep=pause).get_handle("order-1")
    connection.script("run.cancel", lost())
    leads = asyncio.create_task(handle.cancel())
    await pausing.wait()
    joins = asyncio.create_task(handle.cancel())
    await settle()
    leads.cancel()
    await asyncio.wait([leads, joins])
    assert leads.cancelled()
    assert joins.exception() is None
    assert len(connection.sent("run.cancel")) == 2


def test_real_pauses_are_the_default() -> None:
    assert RetryPlugin()._sleep is asyncio.sleep
    assert {0 <= RetryPlugin()._random() < 1 for _ in range(100)} == {True}
