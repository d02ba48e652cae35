"""The broker goes away in the middle of things, and comes back on the same store: nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from grctl.dev_server import link, writer
from grctl.dev_server.stream import StreamState
from grctl.testing import DevServer
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_core.codec import encode
from grctl_core.commands import ErrorCode, EventCommand
from grctl_core.ids import new_ulid
from grctl_core.run import RunRef, RunStatus
from grctl_nats import subjects

from . import workflows
from .raw import PATIENCE, Raw, start_command, until, waits

RUNS = 100
STEPS = 5
Connect = Callable[..., Awaitable[Raw]]

counting = Workflow(workflow_type="Counting")


@counting.start()
async def first(ctx: Context, number: int) -> Directive:
    ctx.store.put("number", number)
    ctx.store.put("count", 1)
    return ctx.next.step(count)


@counting.step()
async def count(ctx: Context) -> Directive:
    so_far = await ctx.store.get("count", int)
    await ctx.sleep(timedelta(milliseconds=20))
    if so_far == STEPS:
        return ctx.next.complete(await ctx.store.get("number", int))
    ctx.store.put("count", so_far + 1)
    return ctx.next.step(count)


HISTORY = [
    *["run.started", "step.started", "step.completed"],
    *["step.started", "sleep.recorded", "step.completed"] * STEPS,
    "run.completed",
]


async def surely(attempt: Callable[[], Awaitable[Any]]) -> Any:
    """Try until there is an answer: while the broker is away there is none."""

    async def answered() -> Any:
        try:
            return await asyncio.wait_for(attempt(), 0.5)
        except AssertionError:
            raise
        except Exception:
            return None

    return await until(answered)


async def run_one(raw: Raw, number: int, run_id: str) -> RunRef:
    command = start_command("Counting", f"count-{number}", {"number": number}, run_id=run_id)
    # With the run id of the first attempt: one that did arrive makes the next one refused.
    reply = await surely(lambda: raw.send(command))
    assert reply.success or reply.error.code in (ErrorCode.ALREADY_RUNNING, ErrorCode.FINISHED), reply.error
    run = command.run.ref

    async def ended() -> bool:
        info = await raw.info(run)
        return info is not None and info.is_finished

    await surely(lambda: until(ended, PATIENCE))
    return run


async def check_batches_are_whole(raw: Raw) -> None:
    """What has not been deleted since of a batch stands together, and its last message is there."""
    batches: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for seq, message in await raw.stored(">"):
        headers = message.headers or {}
        if "Nats-Batch-Id" in headers:
            batches.setdefault(headers["Nats-Batch-Id"], []).append((seq, headers))
    assert batches
    for messages in batches.values():
        seq, headers = messages[-1]
        begin = seq - int(headers["Nats-Batch-Sequence"])
        assert all(seq == begin + int(headers["Nats-Batch-Sequence"]) for seq, headers in messages)


@pytest.mark.parametrize("how", ["kill", "restart", "pause"])
async def test_in_the_middle_of_a_hundred_runs(connect: Connect, how: str) -> None:
    async with DevServer([counting]) as server:
        raw = await connect(server.url, reconnect=True)
        ids = [new_ulid() for _ in range(RUNS)]
        tasks = [asyncio.create_task(run_one(raw, number, ids[number])) for number in range(RUNS)]
        for share in (0.0, 0.2, 0.5):

            async def far_enough(share: float = share) -> bool:
                infos = [server.engine.find_run(RunRef(f"count-{n}", ids[n])) for n in range(RUNS)]
                return sum(info is not None and info.is_finished for info in infos) >= share * RUNS

            await until(far_enough)
            if how == "kill":
                await server.kill_broker()
                await server.restart_broker()
            elif how == "restart":
                await server.restart_broker()
            else:
                server.pause()
                await asyncio.sleep(0.02)
                server.resume()
        runs = await asyncio.gather(*tasks)
        await server.settled()
        for number, run in enumerate(runs):
            assert await raw.kinds(run) == HISTORY
            info, output = await raw.info(run), await raw.get(subjects.output(run))
            assert info is not None
            assert info.status is RunStatus.COMPLETED
            assert output is not None
            assert output.data == bytes([number])
        await check_batches_are_whole(raw)


async def is_stopped(pid: int) -> bool:
    """Whether each thread of a process has come to a stop: a signal takes its time, and it may work until then."""
    return all(
        status.read_text().rpartition(")")[2].split()[0] == "T" for status in Path(f"/proc/{pid}/task").glob("*/stat")
    )


@pytest.mark.parametrize("seen", ["at once", "late"])
async def test_a_broker_that_stores_a_batch_after_the_link_was_given_up(
    connect: Connect, seen: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Late: the server has looked, and sent the batch once more, before the broker stores the first one."""
    async with DevServer(workflows.workflows) as server:
        raw = await connect(server.url)
        run = await raw.start("OrderApproval", "a", {"order_id": "9", "qty": 1})
        await waits(raw, run)
        await server.settled()
        before = (await raw.api(f"STREAM.INFO.{subjects.STREAM}"))["state"]["last_seq"]
        monkeypatch.setattr(link, "REQUEST_SECONDS", 0.3)
        monkeypatch.setattr(link, "_CONNECT_SECONDS", 0.3)
        read_state, looks = writer.read_state, 0

        async def outdated(through: link.Link) -> StreamState:
            nonlocal looks
            looks += 1
            state = await read_state(through)
            assert state.last_seq > before  # the broker has stored what was sent over the link given up
            return StreamState(state.created, before) if seen == "late" and looks == 1 else state

        monkeypatch.setattr(writer, "read_state", outdated)
        server.pause()
        await until(functools.partial(is_stopped, server.broker.pid))
        update = EventCommand(
            wf_id="a", run=run, event_name="update_quantity", payload=encode("x", {"item_id": "x", "qty": 2})
        )
        assert server.engine.execute(update).success

        async def given_up() -> bool:
            return "no connection to the broker, trying on" in caplog.text

        await until(given_up)
        assert server._links.up is None
        server.resume()
        await server.settled()
        await waits(raw, run)
        assert looks >= (2 if seen == "late" else 1)
        assert ("the broker refuses a batch, which is tried again" in caplog.text) == (seen == "late")
        assert (await raw.event("a", "approve")).success
        await raw.end(run)
        await server.settled()
        step = ["step.started", "step.completed"]
        update_and_wait = ["event.received", *step, "wait.started"]
        kinds = ["run.started", *step, "wait.started", *update_and_wait, "event.received", *step, "run.completed"]
        assert await raw.kinds(run) == kinds
        await check_batches_are_whole(raw)
