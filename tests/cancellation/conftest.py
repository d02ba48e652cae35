from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from .places import Place, ServerThread, open_place


@pytest.fixture(scope="session")
def server() -> Iterator[ServerThread]:
    server = ServerThread()
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["memory", "nats"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue("server").url


@pytest.fixture
async def place(url: str | None) -> AsyncIterator[Place]:
    place = await open_place(url)
    yield place
    await place.connection.close(grace=0)


@pytest.fixture
def is_full() -> bool:
    """Whether the long form was asked for."""
    return int(os.environ.get("GRCTL_TEST_EXAMPLES", "1")) > 1
