"""The fault matrix: what goes wrong between a client and its broker, and with the client itself."""

from __future__ import annotations

import pytest
import pytest_asyncio

from .matrix import Rounds, assert_cell, cells
from .site import Site
from .table import Fault, Operation

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAULTS = (
    Fault.REQUEST_LOST,
    Fault.REPLY_LOST,
    Fault.REPLY_TWICE,
    Fault.REPLY_LATE,
    Fault.REPLY_GARBLED,
    Fault.CUT_BEFORE_SEND,
    Fault.CUT_AFTER_SEND,
    Fault.CUT_BEFORE_REPLY,
    Fault.HALF_OPEN,
    Fault.THROTTLED,
    Fault.CLOCK_STEPPED,
    Fault.CANCELLED,
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rounds():
    async with Site() as site:
        yield Rounds(site)


@cells(FAULTS)
async def test_cell(rounds: Rounds, fault: Fault, operation: Operation, record_property) -> None:
    await assert_cell(rounds, fault, operation, record_property)
