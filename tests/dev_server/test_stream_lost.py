"""The broker comes back with a stream that is not as the server left it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg

from grctl.dev_server import restore as restoring
from grctl.dev_server.broker import Broker
from grctl.dev_server.errors import LinkLostError
from grctl.dev_server.link import Link
from grctl.testing import DevServer
from grctl_core.commands import ErrorCode, EventCommand
from grctl_core.run import RunRef

from . import workflows
from .raw import Raw, until, waits

ORDER = {"order_id": "9", "qty": 1}
UPDATE = {"item_id": "x", "qty": 2}
Connect = Callable[..., Awaitable[Raw]]


def lose_stream(folder: Path) -> None:
    shutil.rmtree(folder / "jetstream")


async def connected(server: DevServer) -> None:
    """Wait until the server takes commands again."""

    async def up() -> bool:
        return server._links.up is not None

    await until(up)


async def test_a_batch_in_flight_goes_with_its_stream(connect: Connect, tmp_path: Path) -> None:
    async with DevServer(workflows.workflows, store_dir=tmp_path) as server:
        raw = await connect(server.url)
        run = await raw.start("OrderApproval", "a", ORDER)
        await waits(raw, run)
        await server.settled()
        await server.kill_broker()
        reply = server.engine.execute(
            EventCommand(wf_id="a", run=run, event_name="update_quantity", payload=msgspec.msgpack.encode(UPDATE))
        )
        assert reply.success

        async def in_flight() -> bool:  # taken out of the queue, and not yet stored
            return server._writer.pending > 0 and not server._writer._changes

        await until(in_flight)
        lose_stream(tmp_path)
        await server.restart_broker()
        raw = await connect(server.url)
        await connected(server)
        assert await raw.describe("a") is None
        assert await raw.stored("grctl_history.>") == []
        assert await raw.stored("grctl_run.>") == []
        again = await raw.start("OrderApproval", "a", ORDER)
        await waits(raw, again)
        assert (await raw.event("a", "approve")).success
        await raw.end(again)
        assert server._writer.pending == 0


async def stored_run(connect: Connect, folder: Path) -> RunRef:
    """Fill a store with a run that waits."""
    async with DevServer(workflows.workflows, store_dir=folder) as server:
        raw = await connect(server.url)
        run = await raw.start("OrderApproval", "old", ORDER)
        await waits(raw, run)
        await server.settled()
        return run


@pytest.mark.parametrize("cut_off", [False, True])
async def test_another_stream_is_taken_up(
    connect: Connect, tmp_path: Path, cut_off: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the connection breaks in the middle of it."""
    here, other = tmp_path / "here", tmp_path / "other"
    old = await stored_run(connect, other)
    get_last, cuts = restoring.get_last, 0

    async def cut(link: Link, subject: str) -> Msg | None:
        nonlocal cuts
        if cut_off and not cuts:
            cuts += 1
            raise LinkLostError("cut off")
        return await get_last(link, subject)

    async with DevServer(workflows.workflows, store_dir=here) as server:
        raw = await connect(server.url)
        await raw.start("OrderApproval", "new", ORDER)
        await server.settled()
        await server.kill_broker()
        lose_stream(here)
        shutil.copytree(other / "jetstream", here / "jetstream")
        monkeypatch.setattr(restoring, "get_last", cut)
        caplog.set_level("INFO", logger="grctl.dev_server")
        await server.restart_broker()
        await connected(server)
        raw = await connect(server.url)
        assert cuts == int(cut_off)
        assert await raw.describe("new") is None
        assert (await raw.event("old", "approve")).success
        assert (await raw.end(old)).is_finished
    said = [record.getMessage() for record in caplog.records]
    assert "the broker holds another stream now: the runs of the one before are gone, this one's go on" in said
    assert "1 runs go on where they were; steps that were cut off run again" in said
    assert not [text for text in said if "all runs are gone" in text]


async def test_a_server_whose_place_is_taken_says_so_and_goes_on_with_what_the_other_wrote(
    connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        async with DevServer(workflows.workflows, nats_url=broker.url) as first:
            raw = await connect(broker.url)
            run = await raw.start("OrderApproval", "a", ORDER)
            await waits(raw, run)
            await first.settled()
            await broker.kill()
            link_up, refuse = asyncio.Event(), first._prepare

            async def later(link: Link) -> None:
                if not link_up.is_set():
                    raise LinkLostError("the network is down")
                await refuse(link)

            first._links._prepare = later
            await broker.start()
            async with DevServer(workflows.workflows, nats_url=broker.url):
                raw = await connect(broker.url)
                assert (await raw.event("a", "approve")).success
                await raw.end(run)
                other = await raw.start("OrderApproval", "b", ORDER)
                await waits(raw, other)
                link_up.set()

                async def said_so() -> bool:
                    return "a Ground Control server answers on this broker already" in caplog.text

                await until(said_so)
            await connected(first)
            assert (await raw.event("a", "approve")).error.code == ErrorCode.FINISHED
            assert (await raw.event("b", "approve")).success
            await raw.end(other)
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert sum("answers on this broker already" in text for text in warnings) == 1
        assert sum("no connection to the broker" in text for text in warnings) == 1
        assert sum("another server has written to the stream" in text for text in warnings) == 1
    finally:
        await broker.stop()
