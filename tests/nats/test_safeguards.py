"""What keeps the server's defects from the user, each with and without; numbered as in docs/protocol.md, section 8."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest
from fake_server import NOW, new_run

from grctl_core.commands import (
    CancelCommand,
    DescribeCommand,
    ErrorCode,
    EventCommand,
    Reply,
    ReplyError,
    StartCommand,
    TerminateCommand,
)
from grctl_core.errors import DeliveryUnknownError, InvalidInputError, NotSentError, WorkflowFinishedError
from grctl_core.run import RunStatus
from grctl_nats import NatsConnection, Safeguards, subjects

pytestmark = pytest.mark.usefixtures("nothing_left")

NONE = Safeguards(
    begun_before_cancel=False,
    size_margin=False,
    settled_before_send=False,
    residue_before_start=False,
    second_reply_warning=False,
)


@pytest.fixture
async def bare(broker, server):
    async with await NatsConnection.open(broker.url, safeguards=NONE) as opened:
        yield opened


def kinds(server) -> list[str]:
    return [command.kind for command in server.commands]


class TestCancel:
    """3: a cancel of a run that has not begun kills the server."""

    async def test_it_waits_until_the_run_has_begun(self, server, connection):
        run = new_run(started_at=None)
        await server.put_run(run)
        cancelling = asyncio.create_task(connection.request(CancelCommand(wf_id="w"), timeout=20))
        await server.received(3)
        assert set(kinds(server)) == {"run.describe"}
        await server.put_run(msgspec.structs.replace(run, started_at=NOW))
        assert (await asyncio.wait_for(cancelling, 20)).success
        assert kinds(server)[-1] == "run.cancel"

    async def test_not_for_ever(self, broker, server):
        await server.put_run(new_run(started_at=None))
        guards = Safeguards(begun_within=0.03)
        async with await NatsConnection.open(broker.url, safeguards=guards) as connection:
            with pytest.raises(NotSentError, match=r"has not begun within 0\.03 s.*A terminate works at once"):
                await connection.request(CancelCommand(wf_id="w"), timeout=20)
            assert "run.cancel" not in kinds(server)
            await connection.request(TerminateCommand(wf_id="w"), timeout=20)
            assert kinds(server)[-1] == "run.terminate"

    @pytest.mark.parametrize("known", [True, False])
    async def test_ended_and_unknown_runs_are_the_servers_to_refuse(self, server, connection, known):
        if known:
            await server.put_run(new_run(started_at=None, status="failed"))
        await connection.request(CancelCommand(wf_id="w"), timeout=20)
        assert kinds(server) == ["run.describe", "run.cancel"]

    @pytest.mark.parametrize("code", [ErrorCode.INTERNAL, ErrorCode.PANIC, ErrorCode.BAD_MESSAGE, None])
    async def test_a_failed_look_is_no_word_on_the_run(self, server, connection, code):
        run = new_run(started_at=None)
        await server.put_run(run)
        failed = Reply(success=False, error=None if code is None else ReplyError(code, "hiccup"))

        def answer(command):
            return failed if server.commands[:2] == [command] else server.ok(command)

        server.answer = answer
        cancelling = asyncio.create_task(connection.request(CancelCommand(wf_id="w"), timeout=20))
        await server.received(3)
        assert set(kinds(server)) == {"run.describe"}
        await server.put_run(msgspec.structs.replace(run, started_at=NOW))
        assert (await asyncio.wait_for(cancelling, 20)).success

    async def test_looks_that_always_fail(self, broker, server):
        await server.put_run(new_run(started_at=None))
        server.answer = lambda _: Reply(success=False, error=ReplyError(ErrorCode.INTERNAL, "hiccup"))
        async with await NatsConnection.open(broker.url, safeguards=Safeguards(begun_within=0.03)) as connection:
            with pytest.raises(NotSentError, match=r"does not say within .* hiccup.* A terminate works at once"):
                await connection.request(CancelCommand(wf_id="w"), timeout=20)
        assert set(kinds(server)) == {"run.describe"}

    async def test_without_it(self, server, bare):
        await server.put_run(new_run(started_at=None))
        await bare.request(CancelCommand(wf_id="w"), timeout=20)
        assert kinds(server) == ["run.cancel"]


class TestLooks:
    """What a look before a command leaves open is no doubt about the command: that was not sent."""

    async def test_before_a_cancel(self, server, connection):
        server.answer = lambda _: b"\xc1"  # nothing that can be understood
        with pytest.raises(NotSentError, match="looking at the run first failed"):
            await connection.request(CancelCommand(wf_id="w"), timeout=20)
        assert kinds(server) == ["run.describe"]

    async def test_before_a_start_and_a_send(self, server, connection, monkeypatch):
        run = new_run(timeout=timedelta(seconds=1_000))
        connection._ended.put(run.ref)

        async def lose(_: str) -> None:
            raise DeliveryUnknownError("lost")

        monkeypatch.setattr(connection._records, "last", lose)
        for command in (
            StartCommand(wf_id="w", run=run),
            EventCommand(wf_id="w", event_name="e", run=run.ref),
        ):
            with pytest.raises(NotSentError, match="looking at the run first failed: lost"):
                await connection.request(command, timeout=20)
        assert server.messages == []
        assert len(connection._deadlines) == 0  # nothing was started


class TestSize:
    """4: near the broker's limit a start is accepted and never begins."""

    def start(self, size: int) -> StartCommand:
        run = new_run()
        return StartCommand(wf_id="w", run=run, input=b"\xc6" + size.to_bytes(4, "big") + b"x" * size)

    async def test_the_last_four_kib_are_not_used(self, server, connection):
        with pytest.raises(InvalidInputError, match=r"1044480 are possible .* send less"):
            await connection.request(self.start(1024 * 1024 - 4096), timeout=20)
        assert server.messages == []
        assert (await connection.request(self.start(1024 * 1024 - 4096 - 300), timeout=20)).success

    async def test_without_it(self, server, bare):
        await bare.request(self.start(1024 * 1024 - 2048), timeout=20)
        assert kinds(server) == ["run.start"]
        with pytest.raises(InvalidInputError):
            await bare.request(self.start(1024 * 1024), timeout=20)


class TestSend:
    """6: events that are sent while a run takes in another one get stuck."""

    async def test_it_waits_until_the_run_waits(self, server, connection):
        run = new_run()
        await server.put_run(run)
        await server.put_state(run.ref, "step")
        command = EventCommand(wf_id="w", event_name="e", run=run.ref)
        sending = asyncio.create_task(connection.request(command, timeout=20))
        done, _ = await asyncio.wait([sending], timeout=0.1)
        assert not done
        assert server.messages == []
        await server.put_state(run.ref, "wait")
        assert (await asyncio.wait_for(sending, 20)).success

    async def test_and_has_taken_in_what_was_sent(self, server, connection):
        run = new_run()
        await server.put_run(run)
        await server.put_state(run.ref, "wait")
        seq = await server.put(subjects.events("w"), b"")
        command = EventCommand(wf_id="w", event_name="e", run=run.ref)
        sending = asyncio.create_task(connection.request(command, timeout=20))
        done, _ = await asyncio.wait([sending], timeout=0.1)
        assert not done
        await server.put_state(run.ref, "wait", seq)
        assert (await asyncio.wait_for(sending, 20)).success

    @pytest.mark.parametrize("state", [None, "step", "start"])
    async def test_but_not_for_ever(self, broker, server, state):
        run = new_run()
        if state is not None:
            await server.put_state(run.ref, state)
        guards = Safeguards(settled_within=0.03)
        async with await NatsConnection.open(broker.url, safeguards=guards) as connection:
            await connection.request(EventCommand(wf_id="w", event_name="e", run=run.ref), timeout=20)
        assert kinds(server) == ["run.event"]

    @pytest.mark.parametrize("state", ["complete", "fail", "cancel", "terminate"])
    async def test_a_run_that_has_ended_gets_none(self, server, connection, state):
        """The server would give it to the latest run of the id."""
        run = new_run()
        await server.put_state(run.ref, state)
        with pytest.raises(WorkflowFinishedError, match="event not sent"):
            await connection.request(EventCommand(wf_id="w", event_name="e", run=run.ref), timeout=20)
        assert kinds(server) == []

    async def test_where_no_run_is_meant_nothing_is_waited_for(self, server, connection):
        await connection.request(EventCommand(wf_id="w", event_name="e"), timeout=20)
        assert kinds(server) == ["run.event"]

    async def test_without_it(self, server, bare):
        run = new_run()
        await server.put_state(run.ref, "step")
        await bare.request(EventCommand(wf_id="w", event_name="e", run=run.ref), timeout=20)
        assert kinds(server) == ["run.event"]


class TestStart:
    """7: a start right after the end of the id's last run may be lost."""

    async def ended(self, server, connection):
        run = new_run()
        await server.put_run(run)
        waiting = connection.watch(run.ref)
        await server.put(subjects.worker_task(run.ref), b"")
        await server.end(run, RunStatus.TERMINATED)
        await asyncio.wait_for(waiting, 20)
        return run

    async def test_it_waits_until_the_residue_is_gone(self, server, connection):
        run = await self.ended(server, connection)
        starting = asyncio.create_task(connection.request(StartCommand(wf_id="w", run=new_run()), timeout=20))
        done, _ = await asyncio.wait([starting], timeout=0.1)
        assert not done
        assert server.messages == []
        await server.api(f"STREAM.PURGE.{subjects.STREAM}", {"filter": subjects.worker_task(run.ref)})
        assert (await asyncio.wait_for(starting, 20)).success

    async def test_but_not_for_ever(self, broker, server):
        guards = Safeguards(residue_within=0.03)
        async with await NatsConnection.open(broker.url, safeguards=guards) as connection:
            await self.ended(server, connection)
            assert (await connection.request(StartCommand(wf_id="w", run=new_run()), timeout=20)).success

    @pytest.mark.parametrize("started_here", [False, True])
    async def test_a_run_that_was_terminated_and_not_watched(self, server, connection, started_here):
        run = new_run()
        if started_here:
            await connection.request(StartCommand(wf_id="w", run=run), timeout=20)
        else:
            await server.put_run(run)
            await connection.request(DescribeCommand(wf_id="w"), timeout=20)
        await server.put(subjects.worker_task(run.ref), b"")
        await connection.request(TerminateCommand(wf_id="w"), timeout=20)
        before = kinds(server)
        starting = asyncio.create_task(connection.request(StartCommand(wf_id="w", run=new_run()), timeout=20))
        done, _ = await asyncio.wait([starting], timeout=0.1)
        assert not done
        assert kinds(server) == before
        await server.api(f"STREAM.PURGE.{subjects.STREAM}", {"filter": subjects.worker_task(run.ref)})
        assert (await asyncio.wait_for(starting, 20)).success

    async def test_a_start_that_is_cancelled_meanwhile_does_not_free_the_next(self, server, connection):
        run = await self.ended(server, connection)
        for _ in range(2):
            starting = asyncio.create_task(connection.request(StartCommand(wf_id="w", run=new_run()), timeout=20))
            done, _ = await asyncio.wait([starting], timeout=0.1)
            assert not done
            starting.cancel()
            await asyncio.wait([starting])
        assert server.messages == []
        await server.api(f"STREAM.PURGE.{subjects.STREAM}", {"filter": subjects.worker_task(run.ref)})
        assert (await connection.request(StartCommand(wf_id="w", run=new_run()), timeout=20)).success

    async def test_other_ids_do_not_wait(self, server, connection):
        await self.ended(server, connection)
        await connection.request(StartCommand(wf_id="v", run=new_run("v")), timeout=20)
        assert kinds(server) == ["run.start"]

    async def test_without_it(self, server, bare):
        await self.ended(server, bare)
        await bare.request(StartCommand(wf_id="w", run=new_run()), timeout=20)
        assert kinds(server) == ["run.start"]


class TestTwoServers:
    """10: two servers on one broker double and lose events."""

    async def test_it_is_warned_of_once(self, broker, server, connection, caplog):
        server.answer = lambda _: [Reply(success=True)] * 2
        for _ in range(5):
            await connection.request(DescribeCommand(wf_id="w"), timeout=20)
        await connection.find_type("behind")
        assert len(caplog.records) == 1
        assert "a request was answered twice: two Ground Control servers seem to run" in caplog.text
        assert broker.url in caplog.text

    async def test_without_it(self, server, bare, caplog):
        server.answer = lambda _: [Reply(success=True)] * 2
        await bare.request(DescribeCommand(wf_id="w"), timeout=20)
        await bare.find_type("behind")
        assert caplog.records == []


async def test_the_fast_path_is_one_round_trip(broker, server):
    async with await NatsConnection.open(broker.url) as connection:
        for command in (StartCommand(wf_id="w", run=new_run(timeout=timedelta(hours=1))), TerminateCommand(wf_id="w")):
            await connection.request(command, timeout=20)
        assert kinds(server) == ["run.start", "run.terminate"]
