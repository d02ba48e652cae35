"""NatsConnection: to a Ground Control server over NATS."""

from __future__ import annotations

from typing import NoReturn

from grctl_core.errors import UnsupportedOperationError

__all__ = ["NatsConnection", "open_url"]


class NatsConnection:
    """A connection to a Ground Control server over NATS. This version cannot make one yet."""

    @classmethod
    async def connect(cls, servers: str | list[str] | None = None) -> NoReturn:  # noqa: ARG003 - the documented call
        """Refuse: this version has no NATS transport yet.

        Raises:
            UnsupportedOperationError: always.

        """
        raise UnsupportedOperationError(
            "this version of grctl-client cannot connect over NATS yet: use the embedded engine, "
            "await grctl.connect('memory://', workflows=[...])"
        )


async def open_url(url: str) -> NoReturn:
    """Refuse, as :meth:`NatsConnection.connect`."""
    await NatsConnection.connect(url)
