"""connection.ping(): a round trip to the server, from any thread."""

from __future__ import annotations

from datetime import timedelta

import pytest

from grctl import ConnectionClosedError, InvalidInputError


def test_it_says_how_long_it_took(connection):
    assert timedelta(0) <= connection.ping(timeout=30) < timedelta(seconds=30)


def test_its_errors_are_those_of_the_asynchronous_one(connection):
    with pytest.raises(InvalidInputError, match="timeout"):
        connection.ping(timeout="soon")
    connection.close()
    with pytest.raises(ConnectionClosedError):
        connection.ping()
