from __future__ import annotations

import pytest
from core.scripted import ScriptedConnection, run_info

from .rig import Clock


@pytest.fixture
def connection() -> ScriptedConnection:
    """Has one run, which goes on."""
    connection = ScriptedConnection()
    connection.record(run_info("R1"))
    return connection


@pytest.fixture
async def clock() -> Clock:
    return Clock()
