"""The NATS transport."""

from grctl_nats.connection import NatsConnection
from grctl_nats.safeguards import Safeguards

__all__ = ["NatsConnection", "Safeguards"]
