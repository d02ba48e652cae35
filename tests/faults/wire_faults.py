"""What goes wrong between a client and its broker, and with the client's clock."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from fault_proxy import Direction, Match, Rule, frames

import grctl_core.commands
import grctl_core.ids
import grctl_core.operations

from .cell import Cell
from .driver import ASK_NOTHING, SOON, FaultDriver
from .operations import DRIVERS
from .table import Fault

if TYPE_CHECKING:
    from .rounds import Round

__all__ = ["WIRE_FAULTS"]


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
        return cell.faults.cut(request, nth=1, may_rest=cell.operation in ASK_NOTHING)

    async def before(self, a_round: Round) -> None:
        for cell in a_round.cells:
            if cell.operation in ASK_NOTHING:  # they send nothing
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
        if cell.operation in ASK_NOTHING:
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


WIRE_FAULTS: tuple[FaultDriver, ...] = (
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
)
