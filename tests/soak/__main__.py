"""The soak's client, and its verdict: it exits with 1 if a promise was not kept or something has grown.

scripts/soak [--minutes 20] [--seed N] [--at-once 40]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
from pathlib import Path

import grctl
from grctl.nats.connection import Connection

from .load import Load
from .measures import FEWEST, Look, grown, reach_plateaus_early, settle

_LOOKS = 30
_SHORTEST = 4.0
"""Seconds of load between two looks, at least."""
_TIMEOUT = 2.0
"""Seconds that a request may take: shorter than some faults."""


class SiteProcess:
    """The process that has the server, and makes things go wrong."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.faults: Counter[str] = Counter()

    @classmethod
    async def start(cls, seed: int) -> SiteProcess:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "soak.site", "--seed", str(seed)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )
        return cls(process)

    async def said(self, key: str) -> object:
        """Return what it says of something; count its faults meanwhile."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            word = json.loads(line)
            if "fault" in word:
                self.faults[word["fault"]] += 1
            if key in word:
                return word[key]
        raise RuntimeError("the server's process is gone, see above")

    async def order(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n".encode())
        await self._process.stdin.drain()

    async def stop(self) -> None:
        """Have it end by itself, as nobody tells it anything any more."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(30):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def soak(minutes: float, seed: int, at_once: int) -> int:
    """Soak; return the exit code."""
    reach_plateaus_early()
    loop = asyncio.get_running_loop()
    began = loop.time()
    every = max(_SHORTEST, minutes * 60 / _LOOKS)
    print(f"seed {seed}, {minutes:g} minutes, {at_once} at once, a look after each {every:g} s of load", flush=True)
    site = await SiteProcess.start(seed)
    looks: list[Look] = []
    try:
        url = str(await site.said("url"))
        async with await Connection.open(url, connect_timeout=30, request_timeout=_TIMEOUT) as connection:
            load = Load(grctl.Client(connection=connection, request_timeout=_TIMEOUT), url, at_once, seed)
            while loop.time() - began < minutes * 60 or len(looks) < FEWEST:
                await site.order("go")
                calm = asyncio.Event()
                loop.call_later(every, calm.set)
                working = asyncio.create_task(load.until(calm))
                await calm.wait()
                await site.order("calm")
                await site.said("calm")
                await working
                looks.append(await settle(connection, began))
                print(f"{looks[-1].seconds:5.0f} s  {dict(load.counts)}\n         {looks[-1]}", flush=True)
            await load.verify()
    finally:
        await site.stop()
    problems = load.problems + [f"not flat: {what}" for what in grown(looks)]
    if not site.faults or not load.counts["done"]:
        problems.append("nothing was tried")
    print(f"faults: {sum(site.faults.values())}, {dict(site.faults)}")
    print(f"{len(load.ledger) - 1} starts, {load.counts['done']} scenarios done, {len(problems)} problems")
    for problem in problems[:50]:
        print("  ", problem)
    print(f"verdict: {'not' if problems else 'all'} well, seed {seed}")
    return 1 if problems else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20, help="how long (default %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of faults and load")
    parser.add_argument("--at-once", type=int, default=40, help="scenarios at a time (default %(default)s)")
    arguments = parser.parse_args()
    sys.exit(asyncio.run(soak(arguments.minutes, arguments.seed, arguments.at_once)))
