"""The server's own connection to the broker."""

from __future__ import annotations

import asyncio

from grctl.dev_server.link import Link, LinkKeeper
from grctl.testing import DevServer


async def test_closing_while_it_connects_again(server: DevServer) -> None:
    """At any moment of it: in some of them the driver loses the cancellation, and goes on."""

    async def prepare(link: Link) -> None:
        await link.client.subscribe("nothing")

    for turns in range(100):
        keeper = LinkKeeper(lambda: server.url, prepare)
        await keeper.open()
        assert keeper.up is not None
        keeper.up.lost.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await keeper.close()
        assert keeper.up is None
