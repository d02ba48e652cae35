"""Each safeguard against the defect that it is for: without it there is the harm, with it there is none.

Numbered as in docs/protocol.md, section 8. The client is the one that users have, and so is the connection; the server
is the development server, made to fail as grctld does.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from dev_server.raw import until, waits

from grctl.dev_server.service import kind_of
from grctl.testing import Fault, What
from grctl_core.codec import encode
from grctl_core.commands import StartCommand
from grctl_core.doubt import DoubtBounds
from grctl_core.errors import DeliveryUnknownError, InvalidInputError
from grctl_core.ids import new_ulid
from grctl_core.run import RunInfo, RunRef, RunStatus
from grctl_nats import subjects, wire

from .conftest import Open, Place

LIMIT = 1024 * 1024
LATER = 3_600.0
"""Seconds: not within the test."""

ORDER = {"order_id": "9", "qty": 1}
INT = {"kind": "int"}
SHORT = 0.3
"""The time of a request whose reply is known to be lost."""


async def runs_of(place: Place, wf_id: str) -> list[RunInfo]:
    return [run async for run in place.client.list_workflows(workflow_id_prefix=wf_id)]


async def has_struck(place: Place, what: What) -> None:
    async def has_struck() -> bool:
        return what in place.struck

    await until(has_struck)


class TestCancelBeforeTheRunHasBegun:
    """3: it kills the server."""

    async def test_with(self, open_place: Open) -> None:
        slow = Fault(what=What.SLOW_BEGIN, seconds=0.2)
        place = await open_place(slow, Fault(what=What.EARLY_CANCEL_KILLS))
        handle = await place.client.start_workflow("OrderApproval", "a", ORDER)
        await handle.cancel()
        assert (await handle.outcome(20)).status is RunStatus.CANCELLED
        assert not place.server.died.is_set()
        assert place.struck == [What.SLOW_BEGIN]

    async def test_without(self, open_place: Open) -> None:
        slow = Fault(what=What.SLOW_BEGIN, seconds=LATER)
        place = await open_place(slow, Fault(what=What.EARLY_CANCEL_KILLS), without="begun_before_cancel")
        handle = await place.client.start_workflow("OrderApproval", "a", ORDER)
        with pytest.raises(DeliveryUnknownError):
            await handle.cancel()
        await asyncio.wait_for(place.server.died.wait(), 20)


class TestStartNearTheLimit:
    """4: it is accepted and never begins."""

    def value(self, place: Place) -> dict[str, Any]:
        """What makes a start message that is 100 B below the broker's limit."""
        run = RunInfo(id=new_ulid(), wf_id="a", wf_type="Values", created_at=datetime.now(UTC))
        sample = StartCommand(wf_id="a", run=run, input=encode("x", {"kind": "x" * 100_000}), created_at=run.created_at)
        overhead = len(wire.encode_command(sample, place.connection._sender)) - 100_000
        return {"kind": "x" * (LIMIT - overhead - 100)}

    async def test_with(self, open_place: Open) -> None:
        place = await open_place(Fault(what=What.NEAR_LIMIT_HANGS))
        with pytest.raises(InvalidInputError, match="1044480 are possible"):
            await place.client.start_workflow("Values", "a", self.value(place))
        assert await runs_of(place, "a") == []
        assert place.struck == []

    async def test_without(self, open_place: Open) -> None:
        place = await open_place(Fault(what=What.NEAR_LIMIT_HANGS), without="size_margin")
        handle = await place.client.start_workflow("Values", "a", self.value(place))
        assert place.struck == [What.NEAR_LIMIT_HANGS]
        await place.server.settled()
        info = await place.raw.info(handle.run_info.ref)
        assert info is not None
        assert info.started_at is None
        assert await place.raw.state(handle.run_info.ref) is None


class TestEventWhileAStepRuns:
    """6: it gets stuck, and later ones with it."""

    async def test_with(self, open_place: Open, gate: asyncio.Event) -> None:
        place = await open_place(Fault(what=What.EVENT_STUCK))
        handle = await place.client.start_workflow("GreetEvents", "a", {"name": "Cem"})
        client = place.raw.client
        state = subjects.run_state(handle.run_info.ref)
        looks = await client.subscribe(f"$JS.API.DIRECT.GET.{subjects.STREAM}.{state}")
        commands = await client.subscribe(subjects.ALL_COMMANDS)
        await client.flush()
        greeting = asyncio.create_task(handle.send("greet"))
        for _ in range(4):  # it looks at the run again and again
            await looks.next_msg(20)
        await client.flush()
        assert commands.pending_msgs == 0  # and nothing has gone to the server
        assert not greeting.done()
        gate.set()
        await greeting
        await client.flush()
        assert kind_of((await commands.next_msg(20)).data) == "run.event"
        await handle.send("farewell")
        assert await handle.result(20) == "Hello, Cem! Goodbye, Cem!"
        assert place.struck == []

    async def test_without(self, open_place: Open, gate: asyncio.Event) -> None:
        place = await open_place(Fault(what=What.EVENT_STUCK), without="settled_before_send")
        handle = await place.client.start_workflow("GreetEvents", "a", {"name": "Cem"})
        run = handle.run_info.ref
        await handle.send("greet")
        gate.set()
        await waits(place.raw, run)
        await handle.send("farewell")
        await place.server.settled()
        state = await waits(place.raw, run)
        inbox = await place.raw.get(subjects.events("a"))
        assert inbox is not None
        assert (state.last_event_seq_id or 0) < place.raw.seq(inbox)
        assert (await place.raw.kinds(run)).count("event.received") == 2
        assert place.struck == [What.EVENT_STUCK]


class TestStartRightAfterTheEnd:
    """7: the new run is lost."""

    async def again(self, place: Place, end: str) -> RunRef:
        first = await place.client.start_workflow("OrderApproval", "a", ORDER)
        await waits(place.raw, first.run_info.ref)
        if end == "result":
            await first.send("approve")
            await first.result(20)
        else:
            await first.terminate()
            assert (await first.outcome(20)).status is RunStatus.TERMINATED
        return (await place.client.start_workflow("OrderApproval", "a", ORDER)).run_info.ref

    @pytest.mark.parametrize("end", ["result", "terminate"])
    async def test_with(self, open_place: Open, end: str) -> None:
        place = await open_place(Fault(what=What.RESTART_LOST, seconds=0.2))
        run = await self.again(place, end)
        await waits(place.raw, run)
        assert place.struck == []

    @pytest.mark.parametrize("end", ["result", "terminate"])
    async def test_without(self, open_place: Open, end: str) -> None:
        place = await open_place(Fault(what=What.RESTART_LOST, seconds=LATER), without="residue_before_start")
        run = await self.again(place, end)
        await place.server.settled()
        assert await place.raw.kinds(run) == ["run.started"]
        assert place.struck == [What.RESTART_LOST]


class TestTwoServers:
    """10: everything is done and answered twice."""

    @pytest.mark.parametrize("guarded", [True, False])
    async def test_it(self, open_place: Open, caplog: pytest.LogCaptureFixture, *, guarded: bool) -> None:
        place = await open_place(Fault(what=What.TWO_SERVERS), without=None if guarded else "second_reply_warning")
        handle = await place.client.start_workflow("OrderApproval", "a", ORDER)
        for _ in range(4):  # what answers a request comes after the second answer to the one before it
            await handle.describe()
        assert place.struck.count(What.TWO_SERVERS) >= 5
        warnings = [record.getMessage() for record in caplog.records if record.name == "grctl.nats"]
        assert len(warnings) == guarded
        assert all("answered twice: two Ground Control servers" in warning for warning in warnings)


class TestAStartInDoubt:
    """1 and 2: a start that is sent again blindly harms; the record of a start is no proof that it begins."""

    async def test_over_the_same_connection_there_is_one_run(self, open_place: Open) -> None:
        place = await open_place(Fault(what=What.LOSE_REPLY, kind="run.start"), timeout=SHORT)
        handle = await place.client.start_workflow("OrderApproval", "a", ORDER)
        assert [run.id for run in await runs_of(place, "a")] == [handle.run_info.id]
        assert place.struck == [What.LOSE_REPLY]
        await handle.send("approve", request_timeout=20)
        assert await handle.result(20) == {"approved": True, "qty": 1}

    async def test_a_run_that_has_ended_is_not_overwritten(self, open_place: Open) -> None:
        place = await open_place(
            Fault(what=What.LOSE_REPLY, kind="run.start", nth=(1,)), Fault(what=What.OVERWRITE_FINISHED), timeout=SHORT
        )
        handle = await place.client.start_workflow("Values", "a", INT)
        assert await handle.result(20) == 7
        assert place.struck == [What.LOSE_REPLY]
        # Without the look it is: the same command once more.
        command = StartCommand(wf_id="a", run=handle.run_info, input=encode("x", INT))
        assert (await place.connection.request(command, timeout=20)).success
        assert place.struck == [What.LOSE_REPLY, What.OVERWRITE_FINISHED]

    async def test_over_a_new_connection_the_run_is_found(self, open_place: Open) -> None:
        place = await open_place(Fault(what=What.LOSE_REPLY, kind="run.start", nth=(1,)))
        starting = asyncio.create_task(place.client.start_workflow("OrderApproval", "a", ORDER))
        await has_struck(place, What.LOSE_REPLY)
        await place.server.kill_broker()
        with pytest.raises(DeliveryUnknownError) as caught:
            await starting  # at once: there is no connection to look over
        run = caught.value.run
        assert run is not None
        await place.server.restart_broker()

        async def found() -> Any:
            try:
                return await place.client.get_handle(run.wf_id, run_id=run.run_id)
            except (ConnectionError, DeliveryUnknownError):
                return None

        handle = await until(found)
        attached = await place.client.start_workflow("OrderApproval", "a", ORDER, on_conflict="attach")
        assert attached.run_info.id == handle.run_info.id == run.run_id
        assert [each.id for each in await runs_of(place, "a")] == [run.run_id]
        await handle.send("approve")
        assert await handle.result(20) == {"approved": True, "qty": 1}

    async def test_a_record_that_never_begins_is_no_run(self, open_place: Open) -> None:
        place = await open_place(Fault(what=What.ERROR_LEAVES_RECORD))
        place.client._operations._bounds = DoubtBounds(begun_within=0.05)
        with pytest.raises(DeliveryUnknownError, match="recorded but has not begun") as caught:
            await place.client.start_workflow("Values", "a", INT)
        run = caught.value.run
        assert run is not None
        assert caught.value.operation == "start"
        assert [each.id for each in await runs_of(place, "a")] == [run.run_id]


class TestAnEventInDoubt:
    async def test_it_is_sent_once(self, open_place: Open) -> None:
        place = await open_place(Fault(what=What.LOSE_REPLY, kind="run.event"))
        handle = await place.client.start_workflow("OrderApproval", "a", ORDER)
        with pytest.raises(DeliveryUnknownError) as caught:
            await handle.send("update_quantity", {"item_id": "x", "qty": 2}, request_timeout=SHORT)
        assert caught.value.run == handle.run_info.ref
        await waits(place.raw, handle.run_info.ref)
        assert (await place.raw.kinds(handle.run_info.ref)).count("event.received") == 1

    async def test_one_that_may_come_twice_is_sent_again(self, open_place: Open) -> None:
        place = await open_place(Fault(what=What.LOSE_REPLY, kind="run.event", nth=(1,)))
        handle = await place.client.start_workflow("OrderApproval", "a", ORDER)
        await handle.send("update_quantity", {"item_id": "x", "qty": 2}, idempotent=True, request_timeout=SHORT)
        assert (await place.raw.kinds(handle.run_info.ref)).count("event.received") == 2


async def test_a_cancel_in_doubt_ends_the_run_once(open_place: Open) -> None:
    place = await open_place(Fault(what=What.LOSE_REPLY, kind="run.cancel"))
    handle = await place.client.start_workflow("OrderApproval", "a", ORDER)
    await waits(place.raw, handle.run_info.ref)
    await handle.cancel("enough", request_timeout=SHORT)
    assert (await handle.outcome(20)).status is RunStatus.CANCELLED
    assert (await place.raw.kinds(handle.run_info.ref)).count("run.cancelled") == 1
    assert place.struck == [What.LOSE_REPLY]
