"""The fault matrix: what happens to a cluster of three brokers."""

from __future__ import annotations

import pytest
import pytest_asyncio

from .matrix import Rounds, assert_cell, cells
from .site import Cluster
from .table import Fault, Operation

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAULTS = (Fault.LEADER_MOVED, Fault.NODE_KILLED, Fault.LAME_DUCK)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rounds():
    async with Cluster() as site:
        yield Rounds(site)


@cells(FAULTS)
async def test_cell(rounds: Rounds, fault: Fault, operation: Operation, record_property) -> None:
    await assert_cell(rounds, fault, operation, record_property)
