"""The way to Ground Control: one connection for each process, opened when it is first used."""

from __future__ import annotations

import functools

from grctl.sync import Client, Connection

__all__ = ["client"]


def client() -> Client:
    """Return the client of this process; its first call connects.

    A connection has a thread, which a fork does not take along. A server that loads the application and then forks
    (``gunicorn --preload``) would fork one that is opened while modules load; so the first request opens it. All
    threads share it, and it is closed when the process exits.
    """
    return _client_of(Connection.connect())


@functools.lru_cache(maxsize=1)
def _client_of(connection: Connection) -> Client:
    return Client(connection=connection)  # its plugins are those that GRCTL_PLUGINS names
