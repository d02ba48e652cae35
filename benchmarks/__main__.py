"""Measure all, side by side with references, and print the table.

    scripts/bench                 about ten minutes, on a machine that does nothing else
    scripts/bench --quick         under a minute: small numbers, and figures that say little
    scripts/bench --only start    the groups whose names begin so
    scripts/bench --json FILE     the figures as JSON, too
    scripts/bench --write-docs    and docs/benchmarks.md and its plot rewritten with them

Each group runs in a process of its own, with a broker and a responder of its own, so that no group pays for what
another one left. The exit code is 0 also where a goal is not met: a figure is no test.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import table
from benchmarks.rows import QUICK, Point, Row, Scale

_ROOT = Path(__file__).parent.parent


class Results(msgspec.Struct):
    """What was measured."""

    machine: dict[str, str]
    rows: list[Row] = []
    curve: list[Point] = []


def _groups() -> dict[str, Callable[[Scale], Any]]:
    """Return the groups, in the order of the table. What they import is loaded in their own process alone."""
    from benchmarks import commands, engine, layers, pressure, processes, reading, waits

    return {
        "start": commands.starts,
        "send": commands.sends,
        "run": commands.runs,
        "wait": waits.weight,
        "ends": waits.ends,
        "sweep": waits.sweep,
        "history": reading.history,
        "list": reading.listing,
        "layers": layers.layers,
        "processes": processes.processes,
        "engine": engine.engine,
        "engine-growth": engine.engine_growth,
        "engine-work": engine.engine_work,
        "uvloop": commands.uvloop,
        "gather": pressure.gathered,
        "slow": pressure.one_at_a_time,
        "curve": commands.curve,
    }


def _run_group(name: str, scale: Scale) -> None:
    """Run one group, and print what it yields as JSON lines."""

    async def drain(results: AsyncIterator[Row | Point]) -> None:
        async for result in results:
            _print(result)

    gc.freeze()  # what the modules hold is not gone through again and again
    results = _groups()[name](scale)
    if isinstance(results, Iterator):
        for result in results:
            _print(result)
    else:
        asyncio.run(drain(results))


def _print(result: Row | Point) -> None:
    print(msgspec.json.encode([type(result).__name__, result]).decode(), flush=True)


def _measure(names: list[str], *, quick: bool) -> Results:
    from benchmarks.machine import described

    results = Results(described(quick=quick))
    for name, said in results.machine.items():
        print(f"{name + ':':14} {said}")
    print(f"\n{table.HEADER}")
    for name in names:
        command = [sys.executable, "-m", "benchmarks", "--group", name, *(["--quick"] if quick else [])]
        with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
            for line in process.stdout or ():
                kind, result = msgspec.json.decode(line)
                if kind == "Point":
                    results.curve.append(msgspec.convert(result, Point))
                else:
                    row = msgspec.convert(result, Row)
                    results.rows.append(row)
                    print(table.line(row), flush=True)
        if process.returncode:
            raise SystemExit(f"the group {name!r} failed")
    for point in results.curve:
        said = f"{point.ours:6.1f} us CPU, reference {point.reference:6.1f}: {point.ours / point.reference:.2f}"
        print(f"start_workflow, {point.at_once:>6,} at once: {said}")
    return results


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small numbers, in under a minute")
    parser.add_argument("--only", metavar="NAME", action="append", help="only groups whose names begin so; repeatable")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures to this file")
    parser.add_argument("--write-docs", action="store_true", help="rewrite the figures in docs/benchmarks.md")
    parser.add_argument("--group", choices=_groups(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.group:
        _run_group(options.group, QUICK if options.quick else Scale())
        return
    names = [name for name in _groups() if not options.only or name.startswith(tuple(options.only))]
    if not names:
        parser.error(f"no group's name begins so; there are: {', '.join(_groups())}")
    if options.write_docs and (options.only or options.quick):
        parser.error("--write-docs needs all rows, measured whole")
    began = time.monotonic()
    results = _measure(names, quick=options.quick)
    print(f"\n{time.monotonic() - began:.0f} s")
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
    if options.write_docs:
        from benchmarks import page

        page.write(_ROOT / "docs", results.machine, results.rows, results.curve)


if __name__ == "__main__":
    main()
