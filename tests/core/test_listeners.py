"""grctl_core.listeners: who is told of a connection."""

from __future__ import annotations

import asyncio
import logging

import pytest

from grctl_core.listeners import Listeners
from grctl_core.protocols import ConnectionEvent

LOST, UP, CLOSED = ConnectionEvent.DISCONNECTED, ConnectionEvent.CONNECTED, ConnectionEvent.CLOSED


@pytest.fixture
def listeners() -> Listeners:
    return Listeners(logging.getLogger("grctl.test"))


def test_all_are_told_in_order_until_they_are_removed(listeners: Listeners) -> None:
    heard: list[tuple[str, ConnectionEvent]] = []
    remove = listeners.add(lambda event: heard.append(("one", event)))
    listeners.add(lambda event: heard.append(("two", event)))
    listeners.tell(LOST)
    remove()
    remove()
    listeners.tell(UP)
    assert heard == [("one", LOST), ("two", LOST), ("two", UP)]


@pytest.mark.parametrize("error", [RuntimeError("mine"), asyncio.CancelledError("mine")])
def test_what_one_raises_is_logged_and_the_next_is_told(
    listeners: Listeners, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def bad(_: ConnectionEvent) -> None:
        raise error

    heard: list[ConnectionEvent] = []
    listeners.add(bad)
    listeners.add(heard.append)
    listeners.tell(LOST)
    assert heard == [LOST]
    assert "mine" in caplog.text


def test_the_close_is_told_once(listeners: Listeners) -> None:
    heard: list[ConnectionEvent] = []
    remove = listeners.add(heard.append)
    listeners.tell(CLOSED)
    listeners.tell(CLOSED)
    remove()
    assert heard == [CLOSED]
