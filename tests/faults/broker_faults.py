"""What happens to a broker, to a cluster of them, and to what they store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, ClassVar

import nats.errors
from fault_proxy import Frame

from grctl_nats import subjects

from .cell import Cell
from .driver import ASK_NOTHING, SOON, FaultDriver
from .form import FULL
from .operations import DRIVERS
from .site import PATIENCE, Cluster, Site
from .table import Fault

if TYPE_CHECKING:
    from .rounds import Round

__all__ = ["BROKER_FAULTS"]


class _OnTheWay(FaultDriver):
    """It strikes while the request is on its way, or the reply is, by chance; the proxy holds that back."""

    moments: ClassVar[tuple[str, ...]] = ("request", "reply")

    def arm(self, cell: Cell, a_round: Round) -> None:
        if cell.operation in ASK_NOTHING:
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
    """A leader that gives up may answer no more what it was asked."""

    fault = Fault.LEADER_MOVED
    look_timeout = 5.0
    site = Cluster

    async def strike(self, a_round: Round) -> None:
        await a_round.all_struck()
        assert isinstance(a_round.site, Cluster)
        await a_round.site.move_leader()

    async def lift(self, a_round: Round) -> None:
        a_round.release()


BROKER_FAULTS: tuple[FaultDriver, ...] = (
    Killed(),
    Away(),
    Stopped(),
    SlowConsumer(),
    Purged(),
    LameDuck(),
    NodeKilled(),
    LeaderMoved(),
)
