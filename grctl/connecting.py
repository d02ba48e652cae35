"""connect: the door to every transport."""

from __future__ import annotations

from grctl_core.protocols import Connection
from grctl_core.transports import open_connection

__all__ = ["connect"]

_OURS = {
    "memory": "grctl_memory.connection:open_url",
    "nats": "grctl_nats.connection:open_url",
    "tls": "grctl_nats.connection:open_url",
}


async def connect(url: str, **options: object) -> Connection:
    """Open a connection; the URL's scheme chooses the transport.

    ``memory://`` is the embedded engine, in this process: ``await connect("memory://", workflows=[...])``.
    ``nats://host:port`` and ``tls://host:port`` are a Ground Control server.

    Use the connection in this event loop alone, and close it: ``async with await connect(...) as connection``.

    Args:
        url: where to.
        **options: the transport's own; unknown ones are refused.

    Raises:
        InvalidInputError: the URL or an option is wrong.
        ConnectionFailedError: nobody answers there.
        AccessDeniedError: the login is refused.

    """
    opening = open_connection(url, options, _OURS)
    del url, options  # no traceback is to show what is in them
    return await opening
