"""What a transport is, and what becomes of each request: exactly one of the fates that there are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest

from grctl.testing.transport_contract.bench import RETURNS, WAITS, Bench, collect, decoded, settled
from grctl.testing.transport_contract.cases import Contract, case
from grctl_core.codec import encode
from grctl_core.commands import (
    CancelCommand,
    Command,
    DescribeCommand,
    ErrorCode,
    EventCommand,
    QueryCommand,
    Reply,
    TerminateCommand,
)
from grctl_core.errors import (
    DeliveryUnknownError,
    InvalidInputError,
    NotSentError,
    UnsupportedOperationError,
)
from grctl_core.protocols import Capabilities, Connection
from grctl_core.run import RunFilter

__all__ = ["RequestCases"]


class RequestCases(Contract):
    """Cases about requests."""

    @case
    async def test_it_is_a_connection(self, bench: Bench) -> None:
        """It has every method of the protocol."""
        assert isinstance(bench.connection, Connection)
        assert isinstance(bench.connection.capabilities, Capabilities)

    @case
    async def test_its_capabilities_are_so(self, bench: Bench) -> None:
        """A query is answered, or refused as unsupported without being sent."""
        run = await bench.active()
        query = QueryCommand(
            wf_id=run.wf_id, run_id=run.run_id, query_name="doubled", arguments=encode("arguments", {"number": 4})
        )
        if bench.connection.capabilities.queries:
            assert decoded((await bench.done(query)).payload) == 8
        else:
            with pytest.raises(UnsupportedOperationError):
                await bench.ask(query)
        await bench.terminate(run)

    # --- request

    @case
    async def test_commands_reach_the_server_and_replies_the_caller(self, bench: Bench) -> None:
        """Start, describe and event, with values that arrive as they were."""
        run = await bench.active()
        described = await bench.latest(run.wf_id)
        assert (described.id, described.wf_id, described.wf_type) == (run.run_id, run.wf_id, WAITS)
        assert not described.is_finished
        outcome = await bench.finish(run, ["é\x00" * 10_000, 1.5, {"a": None}])
        assert decoded(outcome.result) == ["é\x00" * 10_000, 1.5, {"a": None}]

    @case
    async def test_headers_change_nothing(self, bench: Bench) -> None:
        """A command may have headers."""
        run = await bench.active()
        for headers in (None, {}, {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}):
            reply = await bench.done(DescribeCommand(wf_id=run.wf_id, headers=headers))
            assert reply.run is not None
            assert reply.run.id == run.run_id
        await bench.terminate(run)

    @case
    async def test_a_refusal_is_a_reply(self, bench: Bench) -> None:
        """The codes of docs/protocol.md come as they are; nothing is raised."""
        run = await bench.ended()
        for_ids: list[Callable[[str], Command]] = [
            lambda wf_id: EventCommand(wf_id=wf_id, event_name="finish"),
            lambda wf_id: CancelCommand(wf_id=wf_id),
            lambda wf_id: TerminateCommand(wf_id=wf_id),
        ]
        for command in for_ids:
            assert (await bench.refused(command(run.wf_id)))[0] == ErrorCode.FINISHED
            assert (await bench.refused(command(bench.new_id())))[0] == ErrorCode.NOT_FOUND
        assert (await bench.refused(DescribeCommand(wf_id=bench.new_id())))[0] == ErrorCode.NOT_FOUND
        assert (await bench.refused(bench.starting("NobodyHasThis")))[0] == ErrorCode.TYPE_NOT_REGISTERED
        active = await bench.active()
        code, detail = await bench.refused(bench.starting(wf_id=active.wf_id))
        assert (code, detail[-26:]) == (ErrorCode.ALREADY_RUNNING, active.run_id)
        await bench.terminate(active)

    @case
    async def test_many_requests_at_once_each_get_their_own_reply(self, bench: Bench) -> None:
        """Replies are not mixed up."""
        commands = [bench.starting(RETURNS, number) for number in range(100)]
        for reply in await asyncio.gather(*(bench.ask(command) for command in commands)):
            assert reply.success
        described = await asyncio.gather(*(bench.latest(command.wf_id) for command in commands))
        assert [run.id for run in described] == [command.run.id for command in commands]

    @case
    async def test_a_describe_sees_a_start_that_was_sent_before_it(self, bench: Bench) -> None:
        """Commands over one link are in order as far as a describe is concerned."""
        for _ in range(10):
            command = bench.starting(RETURNS)
            started = asyncio.create_task(bench.ask(command))
            await asyncio.sleep(0)
            described = await bench.ask(DescribeCommand(wf_id=command.wf_id))
            start = await started
            assert start.success
            if described.link == start.link:
                assert described.run is not None
                assert described.run.id == command.run.id

    @case
    async def test_ping(self, bench: Bench) -> None:
        """A round trip to the server, timed; it leaves nothing."""
        before = await collect(bench.connection.list_runs(RunFilter()))
        took = await asyncio.gather(*(bench.connection.ping(timeout=timedelta(seconds=30)) for _ in range(3)))
        assert all(isinstance(each, timedelta) and each > timedelta(0) for each in took)
        assert await collect(bench.connection.list_runs(RunFilter())) == before
        for timeout in (0, -1, "soon"):
            with pytest.raises(InvalidInputError):
                await bench.connection.ping(timeout=timeout)  # type: ignore[arg-type]

    @case
    async def test_a_ping_that_gets_no_time(self, bench: Bench) -> None:
        """It ends as a request does; the connection goes on."""
        for _ in range(5):
            with contextlib.suppress(DeliveryUnknownError, NotSentError):
                assert await bench.connection.ping(timeout=1e-6) > timedelta(0)
        await bench.connection.ping(timeout=30)

    @case
    async def test_a_request_that_gets_no_time(self, bench: Bench) -> None:
        """It is answered, or its fate is known not to be known; the connection goes on."""
        run = await bench.ended()
        for _ in range(10):
            try:
                reply = await bench.connection.request(DescribeCommand(wf_id=run.wf_id), timeout=1e-6)
            except (DeliveryUnknownError, NotSentError):
                continue
            assert isinstance(reply, Reply)
        assert (await bench.latest(run.wf_id)).id == run.run_id

    @case
    async def test_a_request_that_is_cancelled(self, bench: Bench) -> None:
        """At any moment: CancelledError, nothing is left, and the connection goes on."""
        run = await bench.ended()
        for turns in range(8):
            before = asyncio.all_tasks()
            asking = asyncio.create_task(bench.ask(DescribeCommand(wf_id=run.wf_id)))
            for _ in range(turns):
                await asyncio.sleep(0)
            answered = asking.done()
            asking.cancel()
            (result,) = await asyncio.gather(asking, return_exceptions=True)
            assert isinstance(result, Reply if answered else asyncio.CancelledError)
            await settled(lambda before=before: asyncio.all_tasks() <= before)  # type: ignore[misc]
        assert (await bench.latest(run.wf_id)).id == run.run_id
