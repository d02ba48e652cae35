"""What plugins cost: CPU per call, beside the same call without them, on a connection that answers at once.

    python benchmarks/plugins.py [--calls N] [--rounds N]

All rows take turns in short rounds, so that what else the machine does falls on all alike. What a row costs is taken
from its least disturbed rounds: the fastest tenth. A table in which a row is over its limit is measured again, with
twice the rounds, before it is said: a defect is over it again, a machine that was busy is not.

What a row costs more than the one that it stands beside, in CPU nanoseconds per call, must be at most:

    row            beside             limit
    1 layers       plain await        1,000   an await of a coroutine that does nothing: how fast the machine is
    empty layer    no plugin          1,000   a describe by a client over a connection that awaits nothing, as all below
    logging        empty layer        1,000   what it adds to a layer, with no record written
    retry          empty retry slot   1,000   what it adds to the slot, with no retry made
    tracing        no plugin          4,000   two layers, without an SDK

Other rows have no limit. The exit code is 1 where one is over its limit, else 0.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

import grctl
from grctl.plugins import Plugin
from grctl_core.commands import Reply
from grctl_core.errors import InvalidInputError
from grctl_core.pipeline import Layer, compose
from grctl_core.protocols import Capabilities
from grctl_core.run import RunInfo, RunStatus

Call = Callable[[], Awaitable[object]]


def not_called(*args: object, **kwargs: object) -> Any:
    """Stand for what a describe does not need."""
    raise NotImplementedError


class NoConnection:
    """Answers every command with success, at once: what is left is the client's own cost."""

    ping = watch = find_run = has_begun = find_type = history = list_runs = close = __aenter__ = __aexit__ = not_called

    def __init__(self) -> None:
        self.capabilities = Capabilities()
        run = RunInfo(id="01M82CM2EPSQNNVV4233NRWD1P", wf_id="order-1", wf_type="Order", created_at=datetime.now(UTC))
        self._reply = Reply(success=True, run=msgspec.structs.replace(run, status=RunStatus.RUNNING))

    async def request(self, command: object, *, timeout: float) -> Reply:
        """Answer."""
        return self._reply

    def add_listener(self, listener: object) -> Callable[[], None]:
        """Never call it."""
        return lambda: None


class EmptyLayer(Plugin):
    """Adds nothing, around every operation."""

    name = "empty"

    async def grctl_operation(self, call: Any, proceed: Any) -> Any:
        """Go on."""
        return await proceed(call)


class EmptyAttempt(Plugin):
    """Adds nothing, around every command."""

    name = "empty attempt"

    async def grctl_attempt(self, attempt: Any, proceed: Any) -> Any:
        """Go on."""
        return await proceed(attempt)


class OtherEmptyLayer(EmptyLayer):
    """One more."""

    name = "empty, too"


class EmptyRetry(Plugin):
    """Never tries again: what the slot itself costs."""

    name = "empty retry"

    async def grctl_retry(self, call: Any, proceed: Any) -> Any:
        """Try."""
        return await proceed(call)


async def measure(rows: dict[str, Call], calls: int, rounds: int) -> dict[str, list[float]]:
    """Return nanoseconds of CPU per call, for each row and round."""
    cost: dict[str, list[float]] = {name: [] for name in rows}
    gc.disable()
    try:
        for call in rows.values():  # what is made at the first call is made
            await call()
        for turn in range(rounds):
            names = list(rows)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                call = rows[name]
                begun = time.process_time_ns()
                for _ in range(calls):
                    await call()
                cost[name].append((time.process_time_ns() - begun) / calls)
            gc.collect()
    finally:
        gc.enable()
    return cost


async def checked(
    title: str,
    rows: dict[str, Call],
    references: dict[str, str],
    limits: dict[str, float],
    *,
    calls: int,
    rounds: int,
) -> bool:
    """Measure and print a table, a second time where something is over; return whether all limits are kept."""
    for again in (1, 2):
        cost = await measure(rows, calls, rounds * again)
        costs = {name: statistics.quantiles(all_, n=10)[0] for name, all_ in cost.items()}
        if report(title, costs, references, limits):
            return True
        title += ", measured again"
    return False


def report(title: str, costs: dict[str, float], references: dict[str, str], limits: dict[str, float]) -> bool:
    """Print a table; return whether all that has a limit keeps it."""
    print(f"\n{title}")
    width = max(map(len, costs))
    fine = True
    for name, nanoseconds in costs.items():
        line = f"  {name:{width}} {nanoseconds:>8,.0f} ns"
        reference = references.get(name)
        if reference is not None:
            more = nanoseconds - costs[reference]
            line += f" {more:>+8,.0f} ns  x {nanoseconds / costs[reference]:.2f} of {reference}"
            limit = limits.get(name)
            if limit is not None:
                kept = more <= limit
                fine &= kept
                line += f"   {'within' if kept else 'OVER'} {limit:,.0f} ns"
        print(line)
    return fine


async def layers(calls: int, rounds: int) -> bool:
    """Measure the layers themselves, around nothing."""

    async def nothing(call: object) -> object:
        return call

    async def empty(call: Any, proceed: Any) -> Any:
        return await proceed(call)

    one = Layer("empty", "grctl_operation", empty)
    composed = {f"{count} layers": compose([one] * count, nothing, "query") for count in (1, 3, 5)}
    if compose([], nothing, "query") is not nothing:
        raise AssertionError("no plugin, and yet a layer")
    rows: dict[str, Call] = {"plain await": lambda: nothing(1)}
    rows |= {name: (lambda function=function: function(1)) for name, function in composed.items()}
    title = "Layers around a coroutine that does nothing"
    references = dict.fromkeys(composed, "plain await")
    return await checked(title, rows, references, {"1 layers": 1_000.0}, calls=calls, rounds=rounds)


async def operations(calls: int, rounds: int) -> bool:
    """Measure a describe with each plugin, beside one without any."""
    wanted: dict[str, list[object]] = {
        "no plugin": [],
        "empty layer": [EmptyLayer()],
        "two empty layers": [EmptyLayer(), OtherEmptyLayer()],
        "empty attempt layer": [EmptyAttempt()],
        "empty retry slot": [EmptyRetry()],
        "logging": ["logging"],
        "retry": ["retry"],
        "tracing": ["tracing"],
        "all three": ["tracing", "logging", "retry"],
    }
    limits = {"empty layer": 1_000.0, "logging": 1_000.0, "retry": 1_000.0, "tracing": 4_000.0}
    # What a plugin adds by itself: logging to a layer, retry to the slot. Tracing is two layers, and counted whole.
    references = {"logging": "empty layer", "retry": "empty retry slot"}
    rows: dict[str, Call] = {}
    for name, plugins in wanted.items():
        try:
            client = grctl.Client(connection=NoConnection(), plugins=plugins)
        except InvalidInputError as error:
            print(f"skipped: {name}: {error}", file=sys.stderr)
            continue
        rows[name] = (await client.get_handle("order-1")).describe
    references = {name: references.get(name, "no plugin") for name in rows if name != "no plugin"}
    title = "A describe with plugins, nobody listening"
    return await checked(title, rows, references, limits, calls=calls, rounds=rounds)


async def main(calls: int, rounds: int) -> int:
    """Measure all; return the exit code."""
    logging.getLogger("grctl").setLevel(logging.ERROR)  # as in an application that wants errors alone
    fine = await layers(calls, rounds)
    fine &= await operations(calls, rounds)
    return 0 if fine else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200, help="calls per round and row (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=500, help="rounds (default %(default)s)")
    arguments = parser.parse_args()
    sys.exit(asyncio.run(main(arguments.calls, arguments.rounds)))
