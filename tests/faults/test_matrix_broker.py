"""The fault matrix: what happens to a broker, and to what it stores."""

from __future__ import annotations

import pytest
import pytest_asyncio

from .matrix import Rounds, assert_cell, cells
from .site import Site
from .table import Fault, Operation

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAULTS = (Fault.KILLED, Fault.AWAY, Fault.STOPPED, Fault.SLOW_CONSUMER, Fault.PURGED)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rounds():
    async with Site() as site:
        yield Rounds(site)


@cells(FAULTS)
async def test_cell(rounds: Rounds, fault: Fault, operation: Operation, record_property) -> None:
    await assert_cell(rounds, fault, operation, record_property)
