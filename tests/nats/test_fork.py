"""A process that forks while it has a connection: parent and child are told apart, and do each other no harm."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from broker import Broker
from fake_server import FakeServer

PROGRAM = Path(__file__).with_name("forking_program.py")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


async def test_a_child_is_refused_the_parents_connection_opens_its_own_and_disturbs_nobody():
    async with Broker() as broker, FakeServer(broker.url) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", str(PROGRAM), broker.url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, errors = await process.communicate()
        assert errors.decode() == ""
        assert process.returncode == 0
        assert out.decode().splitlines() == [
            "child, same loop: EventLoopError",
            "child, old connection in a new loop: EventLoopError",
            "child, close of the old connection: EventLoopError",
            "child, connect() is another connection: True",
            "child, its own connection: True",
            "child, of multiprocessing: True",
            "parent, while children were there: True",
            "parent, afterwards: True",
        ]
        assert len(server.commands) == 5
