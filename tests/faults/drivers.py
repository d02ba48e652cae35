"""Drivers of the faults: how each is brought about, and taken back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import ExitStack
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import patch

import nats.errors
from fault_proxy import Direction, Frame, Match, Rule, frames

import grctl_core.commands
import grctl_core.ids
import grctl_core.operations
from grctl_nats import subjects

from .cell import Cell
from .form import FULL
from .operations import DRIVERS
from .site import PATIENCE, Cluster, Site
from .table import Fault, Operation

if TYPE_CHECKING:
    from .rounds import Round

__all__ = ["FAULT_DRIVERS", "SOON", "FaultDriver"]

SOON = 1.0
"""Seconds after which a caller gives up whose answer does not come, where it is not to come."""

_CLOSES = (Operation.CLOSE,)


class FaultDriver:
    """How one fault is brought about. By default: at the proxy, when the operation's message comes by.

    Attributes:
        site: what it needs.
        timeout: seconds for one attempt of the operations, and one look at the records.
        pings: seconds between pings, for operations that wait until the link is found to be dead.
    """

    fault: ClassVar[Fault]
    site: ClassVar[type[Site]] = Site
    timeout: ClassVar[float] = PATIENCE
    pings: ClassVar[float | None] = None

    def arm(self, cell: Cell, a_round: Round) -> None:
        """Lay the rules at the proxy, before the operation begins."""

    async def before(self, a_round: Round) -> None:
        """Strike before the operations begin."""

    async def strike(self, a_round: Round) -> None:
        """Strike, with all operations under way."""
        await a_round.all_struck()

    async def lift(self, a_round: Round) -> None:
        """Take it back."""


class _AtTheProxy(FaultDriver):
    """The rule at the proxy is all of it."""

    def rule(self, cell: Cell, request: Match, reply: Match) -> Rule:
        raise NotImplementedError

    def arm(self, cell: Cell, a_round: Round) -> None:
        driver = DRIVERS[cell.operation]
        cell.rule = self.rule(cell, driver.request(), driver.reply())


class RequestLost(_AtTheProxy):
    fault = Fault.REQUEST_LOST
    timeout = SOON

    def rule(self, cell: Cell, request: Match, reply: Match) -> Rule:
        return cell.faults.drop(request, nth=1)


class ReplyLost(_AtTheProxy):
    fault = Fault.REPLY_LOST
    timeout = SOON

    def rule(self, cell: Cell, request: Match, reply: Match) -> Rule:
        return cell.faults.drop(reply, nth=1)


class ReplyTwice(_AtTheProxy):
    fault = Fault.REPLY_TWICE

    def rule(self, cell: Cell, request: Match, reply: Match) -> Rule:
        return cell.faults.duplicate(reply, nth=1)


class ReplyLate(_AtTheProxy):
    fault = Fault.REPLY_LATE
    timeout = SOON

    def rule(self, cell: Cell, request: Match, reply: Match) -> Rule:
        return cell.faults.hold(reply, nth=1)

    async def lift(self, a_round: Round) -> None:
        await a_round.given_up()
        a_round.release()


class ReplyGarbled(_AtTheProxy):
    fault = Fault.REPLY_GARBLED

    def rule(self, cell: Cell, request: Match, reply: Match) -> Rule:
        return cell.faults.corrupt(reply, nth=1)


class CutBeforeSend(_AtTheProxy):
    fault = Fault.CUT_BEFORE_SEND

    def rule(self, cell: Cell, request: Match, reply: Match) -> Rule:
        return cell.faults.cut(request, nth=1, may_rest=cell.operation in _CLOSES)

    async def before(self, a_round: Round) -> None:
        for cell in a_round.cells:
            if cell.operation in _CLOSES:  # they send nothing
                cell.proxy.cut()


class CutAfterSend(_AtTheProxy):
    fault = Fault.CUT_AFTER_SEND

    def rule(self, cell: Cell, request: Match, reply: Match) -> Rule:
        return cell.faults.cut(request, after=True, nth=1)


class CutBeforeReply(_AtTheProxy):
    fault = Fault.CUT_BEFORE_REPLY

    def rule(self, cell: Cell, request: Match, reply: Match) -> Rule:
        return cell.faults.cut(reply, nth=1)


class HalfOpen(_AtTheProxy):
    fault = Fault.HALF_OPEN
    timeout = SOON
    pings = 0.3

    def rule(self, cell: Cell, request: Match, reply: Match) -> Rule:
        if cell.operation in _CLOSES:
            return cell.faults.half_open(frames(Direction.TO_SERVER), nth=1, may_rest=True)
        return cell.faults.half_open(request, nth=1)


class Throttled(_AtTheProxy):
    fault = Fault.THROTTLED

    def rule(self, cell: Cell, request: Match, reply: Match) -> Rule:
        return cell.faults.throttle(20_000, Direction.TO_CLIENT, nth=(1, 2, 3), may_rest=True)


class _Stepped:
    """Stands for the class datetime in a module that asks it for the time."""

    def __init__(self, step: float) -> None:
        self.step = timedelta(seconds=step)

    def now(self, zone: tzinfo | None = None) -> datetime:
        return datetime.now(zone) + self.step


class ClockStepped(FaultDriver):
    """The client's clock, and the broker's as the client is told of it. Runs have a timeout that is not over."""

    fault = Fault.CLOCK_STEPPED

    def __init__(self) -> None:
        self._clock = ExitStack()
        self._step = 0.0

    def arm(self, cell: Cell, a_round: Round) -> None:
        cell.workflow_timeout = 1_000.0

    async def before(self, a_round: Round) -> None:
        self._step = a_round.chance.choice([-3_600.0, 3_600.0])
        stepped = _Stepped(self._step)
        real = time.time_ns
        for module in (grctl_core.operations, grctl_core.commands):
            self._clock.enter_context(patch.object(module, "datetime", stepped))
        clock = _Clock(lambda: real() + int(self._step * 1e9))
        self._clock.enter_context(patch.object(grctl_core.ids, "time", clock))

    async def strike(self, a_round: Round) -> None:
        a_round.struck_all()

    async def lift(self, a_round: Round) -> None:
        await a_round.given_up()
        self._clock.close()


class _Clock:
    def __init__(self, time_ns: Any) -> None:
        self.time_ns = time_ns


class _OnTheWay(FaultDriver):
    """It strikes while the request is on its way, or the reply is, by chance; the proxy holds that back."""

    moments: ClassVar[tuple[str, ...]] = ("request", "reply")

    def arm(self, cell: Cell, a_round: Round) -> None:
        if cell.operation in _CLOSES:
            return
        driver = DRIVERS[cell.operation]
        moment = a_round.chance.choice(self.moments)
        cell.rule = cell.faults.hold(driver.request() if moment == "request" else driver.reply(), nth=1)


class Killed(_OnTheWay):
    fault = Fault.KILLED

    async def strike(self, a_round: Round) -> None:
        await a_round.all_struck()
        a_round.site.near.kill()

    async def lift(self, a_round: Round) -> None:
        await a_round.site.near.start()
        await a_round.site.ready()


class Away(FaultDriver):
    fault = Fault.AWAY
    timeout = PATIENCE

    def arm(self, cell: Cell, a_round: Round) -> None:
        cell.connect_timeout = SOON

    async def before(self, a_round: Round) -> None:
        a_round.site.near.kill()
        for cell in a_round.cells:
            if cell.connection is not None:
                await asyncio.wait_for(cell.lost.wait(), PATIENCE)

    async def strike(self, a_round: Round) -> None:
        a_round.struck_all()
        await a_round.given_up()

    async def lift(self, a_round: Round) -> None:
        await a_round.site.near.start()
        await a_round.site.ready()


class Stopped(_OnTheWay):
    """In the full form for 30 s: the pings find out meanwhile, and dialling anew is in vain."""

    fault = Fault.STOPPED
    timeout = SOON
    moments = ("request",)
    for_seconds = 30.0 if FULL else 0.0

    def arm(self, cell: Cell, a_round: Round) -> None:
        super().arm(cell, a_round)
        cell.connect_timeout = 2 * SOON

    async def strike(self, a_round: Round) -> None:
        begun = time.monotonic()
        await a_round.all_struck()
        a_round.site.near.freeze()
        a_round.release()
        await a_round.given_up()
        await asyncio.sleep(max(0.0, begun + self.for_seconds - time.monotonic()))

    async def lift(self, a_round: Round) -> None:
        a_round.site.near.thaw()
        await a_round.site.ready()


class SlowConsumer(_OnTheWay):
    """The proxy stops reading at the reply, while the broker has megabytes for the client."""

    fault = Fault.SLOW_CONSUMER

    def arm(self, cell: Cell, a_round: Round) -> None:
        cell.rule = cell.faults.hold(DRIVERS[cell.operation].reply(), nth=1, in_order=True)

    async def strike(self, a_round: Round) -> None:
        await a_round.all_struck()
        await asyncio.gather(*(self._flood(cell, a_round.site) for cell in a_round.cells))

    async def _flood(self, cell: Cell, site: Site) -> None:
        assert cell.rule is not None
        held: Frame = cell.rule.struck[0]
        assert held.request is not None
        inbox = held.request.reply_to.rpartition(".")[0]
        piece = bytes(128 * 1024)
        async with site.raw() as client, asyncio.timeout(PATIENCE):
            with contextlib.suppress(nats.errors.NoRespondersError):  # nobody hears it any more
                while True:
                    for _ in range(16):
                        await client.publish(f"{inbox}.flood", piece)
                    with contextlib.suppress(nats.errors.TimeoutError):
                        await client.request(f"{inbox}.flood", b"", timeout=0.2)

    async def lift(self, a_round: Round) -> None:
        a_round.release()


class Purged(_OnTheWay):
    fault = Fault.PURGED
    moments = ("request",)

    async def strike(self, a_round: Round) -> None:
        await a_round.all_struck()
        for cell in a_round.cells:
            cell.purged = True
        answer = await a_round.site.call(f"STREAM.PURGE.{subjects.STREAM}")
        assert answer["success"]

    async def lift(self, a_round: Round) -> None:
        a_round.release()
        await a_round.given_up(everybody=True)


class LameDuck(_OnTheWay):
    fault = Fault.LAME_DUCK
    site = Cluster

    async def strike(self, a_round: Round) -> None:
        await a_round.all_struck()
        assert isinstance(a_round.site, Cluster)
        a_round.site.retire()
        async with asyncio.timeout(PATIENCE):
            while any(cell.proxy.open_connections for cell in a_round.cells):
                await asyncio.sleep(0.02)


class NodeKilled(_OnTheWay):
    fault = Fault.NODE_KILLED
    site = Cluster

    async def strike(self, a_round: Round) -> None:
        await a_round.all_struck()
        a_round.site.near.kill()


class LeaderMoved(_OnTheWay):
    fault = Fault.LEADER_MOVED
    site = Cluster

    async def strike(self, a_round: Round) -> None:
        await a_round.all_struck()
        assert isinstance(a_round.site, Cluster)
        await a_round.site.move_leader()

    async def lift(self, a_round: Round) -> None:
        a_round.release()


FAULT_DRIVERS: dict[Fault, FaultDriver] = {
    driver.fault: driver
    for driver in (
        RequestLost(),
        ReplyLost(),
        ReplyTwice(),
        ReplyLate(),
        ReplyGarbled(),
        CutBeforeSend(),
        CutAfterSend(),
        CutBeforeReply(),
        HalfOpen(),
        Throttled(),
        ClockStepped(),
        Killed(),
        Away(),
        Stopped(),
        SlowConsumer(),
        Purged(),
        LameDuck(),
        NodeKilled(),
        LeaderMoved(),
    )
}
