"""A development server in a process of its own that fails as grctld does: ``python -m live.faulty_server RULE...``.

Each rule is the name of a fault, and maybe which ones of those that it may strike: ``EVENT_STUCK=1``. It says where it
listens, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys

from contract.workflows import workflows

from grctl.testing import DevServer, Fault, Faults, What


def read_rule(text: str) -> Fault:
    name, _, nth = text.partition("=")
    return Fault(what=What[name], nth=tuple(int(number) for number in nth.split(",") if number))


async def main(*rules: str) -> None:
    async with DevServer(workflows, faults=Faults(*map(read_rule, rules))) as server:
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
