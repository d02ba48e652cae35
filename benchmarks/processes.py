"""Rows of whole processes: what an import costs, and how long it takes to a first result."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.measuring import Cost, Turn, in_turns
from benchmarks.rows import Row, Scale, more_row

__all__ = ["processes"]

_FIRST = Path(__file__).parent.parent / "examples" / "first.py"
_NOTHING = ("-c", "import asyncio, msgspec")


def _running(*arguments: str) -> Turn:
    async def turn() -> Cost:
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)  # noqa: ASYNC221, S603
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return Cost(time.perf_counter() - began, cpu)

    return turn


async def processes(scale: Scale) -> AsyncIterator[Row]:
    """Yield what processes cost from their start to their end."""
    pair = await in_turns(_running("-c", "import asyncio, msgspec, grctl"), _running(*_NOTHING), scale.processes)
    yield more_row("import", "import grctl", pair, 20.0)
    pair = await in_turns(_running(str(_FIRST)), _running(*_NOTHING), scale.processes)
    ours, reference = pair.least("cpu")
    note = f"CPU {(ours - reference) * 1e3:.0f} ms more"
    yield more_row("first-result", "first result: examples/first.py", pair, 150.0, what="wall", note=note)
