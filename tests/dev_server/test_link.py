"""The server's own connection to the broker."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from grctl.dev_server.link import Link, LinkKeeper
from grctl.testing import DevServer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("broker_is", ["back", "gone"])
async def test_closing_while_it_connects_again(
    server: DevServer, broker_is: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At any moment of it: in some of them the driver loses the cancellation, and goes on."""

    async def prepare(link: Link) -> None:
        await link.client.subscribe("nothing")

    url = server.url

    def where() -> str:
        return url

    for turns in range(80):
        url = server.url
        keeper = LinkKeeper(where, prepare)
        await keeper.open()
        assert keeper.up is not None
        if broker_is == "gone":
            url = f"nats://127.0.0.1:{free_port()}"
        keeper.up.lost.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await keeper.close()
        assert keeper.up is None
    gc.collect()  # what is left of the attempts complains now
    assert [record for record in caplog.records if record.name == "asyncio"] == []
