"""Rounds: one fault strikes all operations at once, each with a connection of its own; then it is seen what is so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Iterable
from typing import Any

from .broker_faults import BROKER_FAULTS
from .cell import Cell, Result
from .driver import SOON, FaultDriver
from .form import FULL
from .operations import DRIVERS
from .site import HANGS_AFTER, LONG, PATIENCE, Site
from .stepping import CancelAt
from .table import TABLE, Fault, Operation, Verdict, verdict_of
from .wire_faults import WIRE_FAULTS

__all__ = ["FAULT_DRIVERS", "Round", "play"]

FAULT_DRIVERS: dict[Fault, FaultDriver] = {driver.fault: driver for driver in (*WIRE_FAULTS, *BROKER_FAULTS)}
"""All faults but that the caller is cancelled, which is no round."""

_TRIES = 4
_STALL = SOON / 4
_STEPS_AT_MOST = 200


class Round:
    """The cells of one fault.

    Attributes:
        site: where they are.
        cells: one for each operation that the fault can strike.
        chance: under the seed.
        stall: seconds for which the event loop stood still at most.
    """

    def __init__(self, site: Site, fault: Fault, seed: int) -> None:
        self.site = site
        self.chance = random.Random(f"{seed}/{fault.name}")
        self.results = {op: Result(fault, op) for op in Operation if (fault, op) in TABLE}
        self.cells = [Cell(site, fault, op, seed, result=result) for op, result in self.results.items()]
        self.stall = 0.0
        self._fault = fault
        self._tasks: dict[Cell, asyncio.Task[tuple[Verdict, Any]]] = {}

    async def play(self, driver: FaultDriver) -> None:
        """Have the fault strike all operations; see what became of each."""
        before = asyncio.all_tasks()
        watching = asyncio.ensure_future(self._watch_for_stalls())
        try:
            for cell in self.cells:  # one after the other: how often they ping is set for a moment
                operation = DRIVERS[cell.operation]
                await cell.open(
                    look_timeout=driver.look_timeout or driver.timeout,
                    ping_every=driver.pings if operation.waits else None,
                )
                cell.timeout = driver.timeout
                await operation.prepare(cell)
                driver.arm(cell, self)
            await driver.before(self)
            self._tasks = {
                cell: asyncio.ensure_future(told(cell, DRIVERS[cell.operation].call(cell))) for cell in self.cells
            }
            await driver.strike(self)
            await driver.lift(self)
            for cell in self.cells:
                if DRIVERS[cell.operation].waits:
                    await DRIVERS[cell.operation].let_end(cell)
            await asyncio.wait(self._tasks.values())
            for cell, task in self._tasks.items():
                await _check(cell, *task.result())
        finally:
            watching.cancel()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(watching, *self._tasks.values(), return_exceptions=True)
            closed = await asyncio.gather(*(cell.close() for cell in self.cells), return_exceptions=True)
        for error in closed:
            if isinstance(error, BaseException):
                raise error
        await _see_what_is_left(before, self.results.values())

    async def all_struck(self) -> None:
        """Wait until the rule of each cell has struck."""
        await asyncio.gather(*(self._struck(cell) for cell in self.cells))

    async def _struck(self, cell: Cell) -> None:
        if cell.rule is not None and not cell.rule.may_rest:
            async with asyncio.timeout(HANGS_AFTER):
                await cell.rule.wait_struck()
        cell.struck.set()

    def struck_all(self) -> None:
        """Say that it has struck, where that is not seen at the proxies."""
        for cell in self.cells:
            cell.struck.set()

    async def given_up(self, *, everybody: bool = False) -> None:
        """Wait until those have their answer that do not wait until it is over; or everybody."""
        await asyncio.wait(
            [task for cell, task in self._tasks.items() if everybody or not DRIVERS[cell.operation].waits]
        )

    def release(self) -> None:
        """Let go what the proxies hold."""
        for cell in self.cells:
            if cell.rule is not None:
                cell.rule.release()

    async def _watch_for_stalls(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await asyncio.sleep(0.01)
            self.stall = max(self.stall, loop.time() - begun)

    def told_wrong(self) -> bool:
        """Whether a caller was told what the table does not have."""
        return any(
            not TABLE[self._fault, op].issuperset(result.verdicts)
            for op, result in self.results.items()
            if not result.hung
        )


async def told(cell: Cell, calling: Awaitable[Any]) -> tuple[Verdict, Any]:
    """Await a cell's operation; return what the caller is told, and what it got or the error."""
    limit = asyncio.timeout(HANGS_AFTER)
    try:
        async with limit:
            return Verdict.DONE, await calling
    except (Exception, asyncio.CancelledError) as error:
        if limit.expired():
            cell.result.hung += 1
            return Verdict.OTHER, None
        if isinstance(error, asyncio.CancelledError):
            return Verdict.CANCELLED, error
        return verdict_of(error), error


async def _check(cell: Cell, verdict: Verdict, got: Any) -> None:
    cell.result.verdicts.append(verdict)
    if verdict is Verdict.OTHER:
        cell.result.wrong.append(repr(got))
    if verdict is Verdict.DONE or isinstance(got, BaseException):
        await _within(cell, DRIVERS[cell.operation].check(cell, verdict, got))
        if FULL or cell.fault is not Fault.HALF_OPEN:  # that one takes until the pings find it out, half a minute
            await _within(cell, DRIVERS[cell.operation].works_on(cell))


async def _see_what_is_left(before: set[asyncio.Task[Any]], results: Iterable[Result]) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
                await asyncio.wait(left, timeout=0.05)
    except TimeoutError:
        for result in results:
            result.wrong.append(f"tasks are left: {left}")


async def _within(cell: Cell, check: Awaitable[None]) -> None:
    """Check something that may hang."""
    try:
        async with asyncio.timeout(HANGS_AFTER):
            await check
    except TimeoutError as error:
        cell.result.hung += 1
        cell.result.wrong.append(f"after it: {error!r}")
    except Exception as error:
        cell.result.wrong.append(f"after it: {error!r}")


async def play(site: Site, fault: Fault, seed: int) -> dict[Operation, Result]:
    """Play a round; again where the machine stood still, so that a short timeout was over before its time."""
    if fault is Fault.CANCELLED:
        return {operation: await _cancel_everywhere(site, operation, seed) for operation in Operation}
    for _ in range(_TRIES):
        a_round = Round(site, fault, seed)
        await a_round.play(FAULT_DRIVERS[fault])
        await site.restore()
        results = a_round.results.values()
        if a_round.stall < _STALL or not a_round.told_wrong() or any(each.did_harm for each in results):
            break
    return a_round.results


async def _cancel_everywhere(site: Site, operation: Operation, seed: int) -> Result:
    """Cancel the caller at its first await, at its second one, and so on until it is done before."""
    result = Result(Fault.CANCELLED, operation)
    for step in range(1, _STEPS_AT_MOST):
        if await _cancel_at(step, site, operation, seed, result):
            return result
    result.wrong.append(f"more than {_STEPS_AT_MOST} awaits")
    return result


async def _cancel_at(step: int, site: Site, operation: Operation, seed: int, result: Result) -> bool:
    """Cancel the caller at an await; return whether it was done before."""
    before = asyncio.all_tasks()
    cell = Cell(site, Fault.CANCELLED, operation, seed, result=result)
    driver = DRIVERS[operation]
    stepping = CancelAt(driver.call(cell), step)

    async def call_stepwise() -> Any:
        return await stepping

    try:
        await cell.open(look_timeout=LONG, ping_every=None)
        await driver.prepare(cell)
        cell.struck.set()
        calling = asyncio.ensure_future(told(cell, call_stepwise()))
        if driver.waits:
            await driver.let_end(cell)
        verdict, got = await calling
        if stepping.is_cancelled:
            await _check(cell, verdict, got)
    finally:
        await cell.close()
    await _see_what_is_left(before, [result])
    return not stepping.is_cancelled
