"""The server as a whole: what it refuses, where it starts, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import nats.errors
import pytest
from msgspec.structs import replace

from grctl.dev_server import broker as broker_module
from grctl.dev_server.broker import Broker
from grctl.dev_server.writer import Writer
from grctl.testing import DevServer, DevServerError
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_core.commands import CancelCommand, DescribeCommand, ErrorCode, TerminateCommand
from grctl_core.errors import InvalidInputError
from grctl_core.ids import new_ulid
from grctl_core.outcome import EncodedOutcome
from grctl_core.run import RunStatus
from grctl_engine import EngineLimits, ManualClock
from grctl_nats import subjects, wire

from .raw import PATIENCE, Raw, start_command, until, waits
from .workflows import workflows

Connect = Callable[..., Awaitable[Raw]]
ORDER = {"order_id": "9", "qty": 1}


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(") ")[2][0] != "Z"


async def test_the_port_is_free_and_the_process_gone_afterwards() -> None:
    async with DevServer() as server:
        port, pid, folder = server.broker.port, server.broker.pid, server.broker.log_path.parent
        assert pid is not None
        assert listens(port)
    assert not listens(port)
    assert not alive(pid)
    assert not folder.exists()
    async with DevServer(port=port):
        assert listens(port)


async def test_also_when_what_it_served_raises() -> None:
    with pytest.raises(KeyError):
        async with DevServer() as server:
            port = server.broker.port
            raise KeyError
    assert not listens(port)


@pytest.mark.parametrize("broker", ["runs", "was killed"])
async def test_neither_broker_nor_folder_outlives_a_process_that_is_killed(broker: str) -> None:
    program = (
        "import asyncio\nfrom grctl.testing import DevServer\n"
        "async def main():\n"
        "    async with DevServer() as server:\n"
        "        told = server.broker.pid, server.broker.port, server.broker.log_path.parent\n"
        f"        if {broker == 'was killed'}: await server.kill_broker()\n"
        "        print(*told, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid, port, folder = (await asyncio.to_thread(process.stdout.readline)).split()
        assert listens(int(port)) == (broker == "runs")
        assert Path(folder).exists()
        process.kill()
        await asyncio.to_thread(process.wait)

        async def gone() -> bool:
            return not alive(int(pid)) and not listens(int(port)) and not Path(folder).exists()

        await until(gone)


async def test_two_servers_cannot_share_a_folder(tmp_path: Path) -> None:
    async with DevServer(store_dir=tmp_path) as server:
        said = f"{re.escape(str(tmp_path))} is in use by another development server .process {os.getpid()}"

        async def refused() -> None:
            with pytest.raises(DevServerError, match=said):
                async with DevServer(store_dir=tmp_path):
                    pass

        await refused()
        await server.kill_broker()
        await refused()  # its folder stays its own
        await server.restart_broker()
        assert listens(server.broker.port)
    async with DevServer(store_dir=tmp_path):
        pass


async def test_the_folder_of_a_server_that_was_killed_can_be_used_at_once(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\nfrom grctl.testing import DevServer\n"
        "async def main():\n"
        "    async with DevServer(store_dir=sys.argv[1]) as server:\n"
        "        print(server.broker.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(await asyncio.to_thread(process.stdout.readline))
        process.kill()
        await asyncio.to_thread(process.wait)
        async with DevServer(store_dir=tmp_path):  # waits until the other one's broker is gone
            assert not alive(pid)


async def test_a_paused_broker_is_stopped_too() -> None:
    async with DevServer() as server:
        pid = server.broker.pid
        assert pid is not None
        server.pause()
    assert not alive(pid)


async def test_a_port_that_is_taken() -> None:
    async with DevServer() as server:
        with pytest.raises(DevServerError, match=f"port {server.broker.port} is taken"):
            async with DevServer(port=server.broker.port):
                pass


async def test_without_the_executable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module.shutil, "which", lambda *_, **__: None)
    with pytest.raises(DevServerError, match=r"pip install .grctl-client\[dev-server\]"):
        async with DevServer():
            pass


async def test_a_broker_that_runs_already(connect: Connect, tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        async with DevServer(workflows, nats_url=broker.url) as server:
            raw = await connect(server.url)
            await raw.end(await raw.start("Values", "a", {"kind": "int"}))
            with pytest.raises(DevServerError, match="answers on this broker already"):
                async with DevServer(workflows, nats_url=broker.url):
                    pass
            with pytest.raises(DevServerError, match="no broker of its own"):
                await server.kill_broker()
        assert broker.running
    finally:
        await broker.stop()


async def test_nobody_listens_at_the_url() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(DevServerError, match="no connection to nats://"):
            async with DevServer(nats_url=f"nats://127.0.0.1:{taken.getsockname()[1]}"):
                pass


async def test_a_broker_without_jetstream(tmp_path: Path) -> None:
    broker = Broker(tmp_path, jetstream=False)
    await broker.start()
    try:
        with pytest.raises(DevServerError, match="JetStream"):
            async with DevServer(nats_url=broker.url):
                pass
    finally:
        await broker.stop()


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(InvalidInputError):
        DevServer(port=4225, nats_url="nats://localhost")
    with pytest.raises(InvalidInputError):
        DevServer([object()])  # type: ignore[list-item]


async def test_what_the_engine_forgot_is_answered_from_the_stream(connect: Connect) -> None:
    async with DevServer(workflows, limits=EngineLimits(finished_runs=1)) as server:
        raw = await connect(server.url)
        runs = [await raw.start("Values", f"v{number}", {"kind": "int"}) for number in range(3)]
        for run in runs:
            info = await raw.end(run)
        assert server.engine.find_run(runs[0]) is None
        info = await raw.describe("v0")
        assert info is not None
        assert (info.id, info.status) == (runs[0].run_id, RunStatus.COMPLETED)
        for command in (TerminateCommand(wf_id="v0"), CancelCommand(wf_id="v0")):
            reply = await raw.send(command)
            assert reply.error is not None
            assert reply.error.code == ErrorCode.FINISHED
        again = await raw.send(start_command("Values", "v0", {"kind": "int"}, run_id=runs[0].run_id))
        assert again.error is not None
        assert again.error.code == ErrorCode.FINISHED
        assert len(await raw.history(runs[0])) == 4
        assert (await raw.send(DescribeCommand(wf_id="nobody"))).error is not None


async def test_what_the_engine_forgot_for_its_age_is_too(connect: Connect) -> None:
    clock = ManualClock()
    async with DevServer(workflows, clock=clock) as server:
        raw = await connect(server.url)
        run = await raw.start("Values", "v0", {"kind": "int"})
        await raw.end(run)
        await clock.advance(days=2)
        again = await raw.send(start_command("Values", "v0", {"kind": "int"}, run_id=run.run_id))
        assert again.error is not None
        assert again.error.code == ErrorCode.FINISHED
        info = await raw.describe("v0")
        assert info is not None
        assert (info.id, info.status) == (run.run_id, RunStatus.COMPLETED)


async def test_a_start_that_is_given_up_leaves_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    reached, release = asyncio.Event(), asyncio.Event()

    async def flush(_: Writer) -> None:
        reached.set()
        await release.wait()

    monkeypatch.setattr(Writer, "flush", flush)
    server = DevServer(workflows)
    starting = asyncio.create_task(server.start())
    await asyncio.wait_for(reached.wait(), PATIENCE)
    pid = server.broker.pid
    assert pid is not None
    release.set()  # for the end, which flushes too
    starting.cancel()
    await asyncio.wait([starting], timeout=PATIENCE)
    assert starting.cancelled()
    assert not alive(pid)


async def test_a_second_start_is_refused_also_while_the_first_is_not_yet_stored(raw: Raw) -> None:
    replies = await asyncio.gather(*(raw.send(start_command("OrderApproval", "a", ORDER)) for _ in range(10)))
    assert sorted(reply.error.code if reply.error else 0 for reply in replies) == [0, *[ErrorCode.ALREADY_RUNNING] * 9]


@pytest.mark.parametrize("wf_id", ["*", "a.b", ">", "a b", "", "a\n"])
async def test_ids_that_are_no_token_are_refused(raw: Raw, wf_id: str) -> None:
    for command in (start_command("Values", wf_id, {"kind": "int"}), DescribeCommand(wf_id=wf_id)):
        body = wire.encode_command(command, "c_x@host")
        answer = await raw.client.request("grctl_api.workflow.x", body, timeout=PATIENCE)
        reply = wire.decode_reply(answer.data, command, 0)
        assert reply.error is not None
        assert reply.error.code == ErrorCode.INTERNAL


async def test_a_sender_is_wanted(raw: Raw) -> None:
    command = DescribeCommand(wf_id="a")
    answer = await raw.client.request("grctl_api.workflow.a", wire.encode_command(command, ""), timeout=PATIENCE)
    reply = wire.decode_reply(answer.data, command, 0)
    assert reply.error is not None
    assert reply.error.code == ErrorCode.UNKNOWN_COMMAND


@pytest.mark.parametrize("body", [b"", b"\x80", b"\x93\x01\x02\x03", b"\xa1x", b"\x81\xa1k\xc0", b"\xde"])
async def test_garbage_is_refused(raw: Raw, body: bytes) -> None:
    answer = await raw.client.request("grctl_api.workflow.a", body, timeout=PATIENCE)
    reply = wire.decode_reply(answer.data, DescribeCommand(wf_id="a"), 0)
    assert reply.error is not None
    assert reply.error.code in (ErrorCode.INTERNAL, ErrorCode.UNKNOWN_COMMAND)
    assert (await raw.send(DescribeCommand(wf_id="a"))).error is not None  # and it goes on


async def test_a_worker_that_wants_to_attach_is_told_that_it_cannot(raw: Raw) -> None:
    """Without that it would wait for steps that never come, and starts of its types would be accepted."""
    types = [{"type": "Elsewhere", "start_step": "start", "steps": [], "events": [], "queries": []}]
    body = {
        "id": new_ulid(),
        "k": "worker.register",
        "m": msgspec.msgpack.encode({"worker_id": "w_1@host", "types": types}),
        "t": datetime.now(UTC),
        "s": "w_1@host",
    }
    answer = await raw.request("grctl_api.worker", msgspec.msgpack.encode(body))
    error = msgspec.msgpack.decode(answer.data)["error"]
    assert error["code"] == ErrorCode.INTERNAL
    assert "workers cannot attach to the development server" in error["message"]
    reply = await raw.send(start_command("Elsewhere", "a"))
    assert reply.error is not None
    assert reply.error.code == ErrorCode.TYPE_NOT_REGISTERED


async def test_what_is_near_the_limit_of_the_broker_is_refused_not_stuck(raw: Raw) -> None:
    reply = await raw.send(start_command("Values", "a", {"kind": "x" * (1024 * 1024 - 1000)}))
    assert reply.error is not None
    assert reply.error.code == ErrorCode.BAD_MESSAGE
    assert await raw.describe("a") is None


big = Workflow(workflow_type="Big")


@big.start()
async def big_start(ctx: Context, what: str) -> Directive:
    if what == "raise":
        raise ValueError("x" * 2_000_000)
    if what == "store":
        ctx.store.put("big", "x" * 2_000_000)
    if what == "many":
        for number in range(2_500):
            ctx.store.put(f"key-{number}", number)
        return ctx.next.complete("many")
    return ctx.next.complete("x" * 2_000_000)


@pytest.mark.parametrize(
    ("what", "error"),
    [("raise", "ValueError"), ("store", "ValueTooLarge"), ("result", "ResultTooLarge")],
)
async def test_a_value_that_fits_into_no_message_fails_the_run(connect: Connect, what: str, error: str) -> None:
    async with DevServer([big]) as server:
        raw = await connect(server.url)
        run = await raw.start("Big", "a", {"what": what})
        info = await raw.end(run)
        assert info.status is RunStatus.FAILED
        record = await raw.get(subjects.error(run))
        assert record is not None
        assert wire.decode_error(record.data).type == error


async def test_more_values_than_a_batch_has_room_for(connect: Connect) -> None:
    async with DevServer([big]) as server:
        raw = await connect(server.url)
        run = await raw.start("Big", "a", {"what": "many"})
        assert (await raw.end(run)).status is RunStatus.COMPLETED
        assert await raw.get(subjects.store(run, "key-2499")) is not None


@pytest.mark.parametrize("enforced", [False, True])
async def test_the_workflow_timeout_is_only_stored_unless_asked_for(connect: Connect, *, enforced: bool) -> None:
    async with DevServer(workflows, enforce_timeouts=enforced) as server:
        raw = await connect(server.url)
        start = start_command("WaitFallback", "a")  # waits for 400 ms
        start = replace(start, run=replace(start.run, timeout=timedelta(milliseconds=50)))
        assert (await raw.send(start)).success
        info = await raw.end(start.run.ref)
        assert info.status is (RunStatus.TIMED_OUT if enforced else RunStatus.COMPLETED)
        assert info.timeout == timedelta(milliseconds=50)


async def test_each_end_is_told(connect: Connect) -> None:
    ends: list[EncodedOutcome] = []
    async with DevServer(workflows, on_end=ends.append) as server:
        raw = await connect(server.url)
        await raw.end(await raw.start("Boom", "a"))
        await raw.end(await raw.start("Values", "b", {"kind": "int"}))
    assert [(end.run.wf_id, end.run.status) for end in ends] == [("a", RunStatus.FAILED), ("b", RunStatus.COMPLETED)]
    assert ends[0].error is not None
    assert ends[0].error.message == "card declined"


async def test_a_stream_that_is_lost_takes_all_runs_with_it(connect: Connect, tmp_path: Path) -> None:
    async with DevServer(workflows, store_dir=tmp_path) as server:
        raw = await connect(server.url, reconnect=True)
        await waits(raw, await raw.start("OrderApproval", "a", ORDER))
        await server.kill_broker()
        shutil.rmtree(tmp_path / "jetstream")
        await server.restart_broker()

        async def forgotten() -> bool:
            try:
                reply = await raw.send(DescribeCommand(wf_id="a"), timeout=0.5)
            except Exception:
                return False
            return reply.error is not None and reply.error.code == ErrorCode.NOT_FOUND

        await until(forgotten)
        run = await raw.start("Values", "a", {"kind": "int"})
        assert (await raw.end(run)).status is RunStatus.COMPLETED


async def test_a_foreign_message_in_the_stream_does_not_hold_it_up(raw: Raw) -> None:
    for number in range(20):
        run = await raw.start("Values", f"v{number}", {"kind": "int"})
        await raw.client.publish(f"grctl_history.foreign.{number}", b"\x80")
        info = await raw.end(run)
        end = (await raw.history(run))[-1]
        state = await raw.get(subjects.run_state(run))
        assert info.status is RunStatus.COMPLETED
        assert state is not None
        assert Raw.seq(state) == end.seq + 1


async def test_what_ended_is_there_when_the_server_starts_again_on_its_folder(connect: Connect, tmp_path: Path) -> None:
    async with DevServer(workflows, store_dir=tmp_path) as server:
        raw = await connect(server.url)
        run = await raw.start("Values", "a", {"kind": "int"})
        await raw.end(run)
    async with DevServer(workflows, store_dir=tmp_path) as server:
        raw = await connect(server.url)
        info = await raw.describe("a")
        assert info is not None
        assert info.id == run.run_id
        run = await raw.start("Values", "a", {"kind": "str"}, run_id=new_ulid())
        assert (await raw.end(run)).status is RunStatus.COMPLETED


async def test_interrupting_the_terminal_does_not_reach_the_broker() -> None:
    async with DevServer() as server:
        pid = server.broker.pid
        assert pid is not None
        assert os.getpgid(pid) != os.getpgid(0)
        assert signal.getsignal(signal.SIGINT) is not None


async def test_commands_that_come_while_it_stops_are_not_taken(connect: Connect, gate: asyncio.Event) -> None:
    server = DevServer(workflows)
    await server.start()
    raw = await connect(server.url)
    await raw.start("Slow", "a", {"seconds": 1})
    stopping = asyncio.create_task(server.stop())

    async def nobody_listens() -> bool:
        try:
            await raw.send(DescribeCommand(wf_id="a"), timeout=0.2)
        except nats.errors.NoRespondersError:
            return True
        return False

    await until(nobody_listens)
    gate.set()
    await stopping
