"""Many calls at once: the budget in an outage, and a thousand starts and cancels under loss."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from core.scripted import NEVER, ScriptedConnection, already_running, lost, refused, run_info, settle

from grctl_core.commands import ErrorCode, Reply
from grctl_core.errors import DeliveryUnknownError, GrctlError, NotDeliveredError, NotSentError
from grctl_core.run import RunStatus
from grctl_retry import Retry
from grctl_retry.budget import Budget

from .rig import retrying_client

CALLS, ATTEMPTS = 1000, 4


class Outage(ScriptedConnection):
    """Takes every command, and answers none."""

    def __init__(self, error: type[GrctlError]) -> None:
        super().__init__()
        self.error = error
        self.down = True

    async def request(self, command: Any, *, timeout: float) -> Reply:
        if not self.down:
            return await super().request(command, timeout=timeout)
        self.commands.append(command)
        await asyncio.sleep(0)
        raise self.error("no answer")


@pytest.mark.parametrize(("budget", "sent"), [(4, CALLS + 4), (None, CALLS * ATTEMPTS), (0, CALLS)])
@pytest.mark.parametrize("error", [NotDeliveredError, DeliveryUnknownError])
async def test_a_total_outage(budget: int | None, sent: int, error: type[GrctlError]) -> None:
    connection = Outage(error)
    client = retrying_client(connection, Retry(attempts=ATTEMPTS), budget=budget)
    calls = [client.get_handle(f"order-{number}") for number in range(CALLS)]
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} == {error}
    assert len(connection.commands) == sent
    refused_by_budget = sum("retry budget is spent" in end.__notes__[0] for end in ends)
    assert refused_by_budget == (0 if budget is None else CALLS)


async def test_a_look_before_a_cancel_that_is_lost_costs_a_token_too() -> None:
    """Its error says not sent, and that is so of the cancel alone."""
    connection = Outage(DeliveryUnknownError)
    connection.down = False
    connection.record(run_info("R1"))
    handle = await retrying_client(connection, Retry(attempts=ATTEMPTS), budget=2).get_handle("order-1")
    connection.commands.clear()
    connection.down = True
    with pytest.raises(NotSentError, match="looking at the run first failed") as caught:
        await handle.cancel()
    assert "budget" in caught.value.__notes__[0]
    assert len(connection.commands) == 3


async def test_without_a_connection_nothing_is_sent_and_no_token_taken() -> None:
    connection = Outage(NotSentError)
    client = retrying_client(connection, Retry(attempts=ATTEMPTS), budget=0)
    with pytest.raises(NotSentError) as caught:
        await client.get_handle("order-1")
    assert caught.value.__notes__[0].endswith(f"attempts={ATTEMPTS}")


async def test_a_cancelled_repetition_gives_its_token_back() -> None:
    connection = ScriptedConnection()
    client = retrying_client(connection, Retry(attempts=ATTEMPTS), budget=2)
    for number in range(10):  # without the tokens of those before, the third would not be tried again
        connection.script("run.start", NotDeliveredError("away"), NEVER)
        calling = asyncio.create_task(client.start_workflow("Order", f"order-{number}"))
        await settle()
        assert len(connection.sent("run.start")) == 2 * (number + 1)
        calling.cancel()
        await asyncio.wait([calling])
        assert calling.cancelled()


async def test_a_cancelled_call_gives_back_no_token_of_a_repetition_that_failed() -> None:
    connection = ScriptedConnection()
    client = retrying_client(connection, Retry(attempts=ATTEMPTS), budget=2)
    connection.script("run.start", *[NotDeliveredError("away")] * 2, NEVER)
    calling = asyncio.create_task(client.start_workflow("Order", "order-1"))
    await settle()
    assert len(connection.sent("run.start")) == 3
    calling.cancel()
    await asyncio.wait([calling])
    connection.script("run.start", *[NotDeliveredError("away")] * 3)
    with pytest.raises(NotDeliveredError) as caught:
        await client.start_workflow("Order", "order-2")
    assert "budget" in caught.value.__notes__[0]
    assert len(connection.sent("run.start")) == 3 + 2  # one token was left


async def test_after_an_outage_the_budget_fills_again() -> None:
    connection = Outage(NotDeliveredError)
    client = retrying_client(connection, Retry(attempts=2), budget=3)
    for _ in range(10):
        with pytest.raises(NotDeliveredError):
            await client.get_handle("order-1")
    assert len(connection.commands) == 10 + 3
    connection.down = False
    connection.record(run_info("R1"))
    for _ in range(10):  # answered at the first try: a token in all
        await client.get_handle("order-1")
    connection.commands.clear()
    connection.script("run.describe", NotDeliveredError("once"))
    await client.get_handle("order-1")  # takes it, and gives it back
    connection.script("run.describe", NotDeliveredError("once"))
    await client.get_handle("order-1")
    assert len(connection.commands) == 4


async def test_a_token_whose_pause_is_cancelled_is_given_back() -> None:
    connection = Outage(NotDeliveredError)

    async def pause(_: float) -> None:
        raise asyncio.CancelledError

    client = retrying_client(connection, budget=1, sleep=pause)
    for _ in range(3):
        with pytest.raises(asyncio.CancelledError):  # an empty budget would raise NotDeliveredError
            await client.get_handle("order-1")


def test_the_budget() -> None:
    budget = Budget(2)
    assert [budget.take(1) for _ in range(3)] == [True, True, False]
    assert budget.take(0)
    budget.answered(1)
    assert [budget.take(1) for _ in range(2)] == [True, False]
    for _ in range(100):
        budget.answered(0)
    assert [budget.take(1) for _ in range(3)] == [True, True, False]
    endless = Budget(None)
    assert all(endless.take(1) for _ in range(1000))


class Lossy(ScriptedConnection):
    """A healthy server behind a network that loses requests and replies."""

    def __init__(self, seed: int, *, requests: float, replies: float) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._requests, self._replies = requests, replies
        self.fates: Counter[str] = Counter()
        self.started: list[str] = []
        self.ended: list[str] = []

    async def request(self, command: Any, *, timeout: float) -> Reply:
        await asyncio.sleep(0)
        self.commands.append(command)
        if self._random.random() < self._requests:
            self.fates["request lost"] += 1
            raise lost(self.link)
        reply = self._handle(command)
        if self._random.random() < self._replies:
            self.fates["reply lost"] += 1
            raise lost(self.link)
        self.fates["answered"] += 1
        return msgspec.structs.replace(reply, link=self.link)

    def _handle(self, command: Any) -> Reply:
        active = self.latest.get(command.wf_id)
        goes_on = active is not None and not self.records[active].is_finished
        if command.kind == "run.start":
            if goes_on:
                return already_running(active)
            self.started.append(command.wf_id)
            self.record(msgspec.structs.replace(command.run, status=RunStatus.RUNNING))
            return Reply(success=True)
        if command.kind == "run.cancel":
            if not goes_on:
                return refused(ErrorCode.FINISHED)
            self.end(active, "cancelled")
            self.ended.append(active)
            return Reply(success=True)
        return self._serve(command)


async def test_a_thousand_starts_and_cancels_under_loss() -> None:
    """30 % of the replies and 10 % of the requests lost: nothing doubled, nobody told what is not so. Defaults."""
    connection = Lossy(7, requests=0.1, replies=0.3)
    client = retrying_client(connection, random=random.Random(3).random)
    handles = await asyncio.gather(*(client.start_workflow("Order", f"order-{number}") for number in range(CALLS)))
    assert Counter(connection.started) == Counter(f"order-{number}" for number in range(CALLS))
    for number, handle in enumerate(handles):
        assert handle.run_info.wf_id == f"order-{number}"
        assert connection.latest[f"order-{number}"] == handle.run_info.id
    assert connection.fates["request lost"] > 100
    assert connection.fates["reply lost"] > 300

    await asyncio.gather(*(handle.cancel() for handle in handles))  # each is told that it is done
    assert Counter(connection.ended) == Counter(handle.run_info.id for handle in handles)
    assert {run.status for run in connection.records.values()} == {RunStatus.CANCELLED}
    assert len(connection.records) == CALLS
