"""The protocols: what clients, handles and connections promise, whatever stands behind them."""

from grctl_core.protocols import (
    Capabilities,
    Client,
    Connection,
    ConnectionEvent,
    ConnectionListener,
    Handle,
    OnConflict,
)

__all__ = [
    "Capabilities",
    "Client",
    "Connection",
    "ConnectionEvent",
    "ConnectionListener",
    "Handle",
    "OnConflict",
]
