"""The other process: a development server, a fault proxy before its broker, and one fault after the other.

It is told what to do by lines on its standard input (``go``, ``calm``), and says what it does by lines of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from fault_proxy import Direction, FaultProxy, Match, Rule, frames, replies, requests

from grctl.testing import DevServer

from .workflows import workflows

__all__ = ["Site"]

Fault = Callable[["Site"], Awaitable[None]]
FAULTS: dict[str, tuple[int, Fault]] = {}
"""By name: how often it comes, in proportion, and what it does until it returns."""

ANSWERS = ("grctl_api.>", "$JS.API.DIRECT.GET.grctl_state.>")
"""What is answered by one message. Of several no network loses one and not those behind it."""


def fault(weight: int) -> Callable[[Fault], Fault]:
    def register(function: Fault) -> Fault:
        FAULTS[function.__name__] = weight, function
        return function

    return register


class Site:
    """Server, broker and proxy."""

    def __init__(self, server: DevServer, proxy: FaultProxy, seed: int) -> None:
        self.server = server
        self.proxy = proxy
        self.chance = random.Random(seed)

    async def during(self, rule: Rule, seconds: float) -> None:
        """Let a rule strike for so long."""
        try:
            await asyncio.sleep(seconds)
        finally:
            rule.release()
            self.proxy.faults.rules.remove(rule)

    def answers(self) -> Match:
        """Return one of the kinds of answers."""
        return replies(self.chance.choice(ANSWERS))

    async def go_wrong(self) -> None:
        """Make one thing after the other go wrong; what is under way at the end is made right."""
        names = list(FAULTS)
        weights = [FAULTS[name][0] for name in names]
        while True:
            await asyncio.sleep(self.chance.uniform(0.3, 2))
            (name,) = self.chance.choices(names, weights)
            say(fault=name)
            await FAULTS[name][1](self)


@fault(2)
async def broker_killed(site: Site) -> None:
    try:
        await site.server.kill_broker()
        await asyncio.sleep(site.chance.uniform(0, 2))
    finally:
        await asyncio.shield(site.server.restart_broker())


@fault(2)
async def broker_stopped(site: Site) -> None:
    site.server.pause()
    try:
        await asyncio.sleep(site.chance.uniform(0.2, 4))
    finally:
        site.server.resume()


@fault(4)
async def connections_cut(site: Site) -> None:
    site.proxy.cut()


@fault(1)
async def half_open(site: Site) -> None:
    rule = site.proxy.faults.half_open(frames(), nth=1, may_rest=True)
    await site.during(rule, 1)


@fault(3)
async def requests_lost(site: Site) -> None:
    await site.during(site.proxy.faults.drop(requests(">"), share=0.1, may_rest=True), site.chance.uniform(0.5, 3))


@fault(3)
async def replies_lost(site: Site) -> None:
    await site.during(site.proxy.faults.drop(site.answers(), share=0.1, may_rest=True), site.chance.uniform(0.5, 3))


@fault(2)
async def replies_doubled(site: Site) -> None:
    rule = site.proxy.faults.duplicate(site.answers(), share=0.2, may_rest=True)
    await site.during(rule, site.chance.uniform(0.5, 3))


@fault(2)
async def hints_lost(site: Site) -> None:
    hints = frames(Direction.TO_CLIENT, ("MSG", "HMSG"), "grctl_run.*.*.*.info")
    rule = site.proxy.faults.drop(hints, share=0.5, may_rest=True)
    await site.during(rule, site.chance.uniform(0.5, 3))


@fault(2)
async def replies_late(site: Site) -> None:
    late = site.chance.uniform(0.1, 7)  # also later than the timeout of who asked
    rule = site.proxy.faults.delay(site.answers(), late, share=0.1, may_rest=True)
    await site.during(rule, site.chance.uniform(0.5, 2))


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


async def _main(seed: int) -> None:
    orders = await _orders()
    async with DevServer(workflows) as server, FaultProxy(server.url) as proxy:
        site = Site(server, proxy, seed)
        say(url=proxy.url)
        going: asyncio.Task[None] | None = None
        async for order in orders:
            if order == b"go\n" and going is None:
                going = asyncio.create_task(site.go_wrong())
            elif order == b"calm\n":
                if going is not None:
                    going.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await going
                    going = None
                say(calm=True)


async def _orders() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    asyncio.run(_main(parser.parse_args().seed))
