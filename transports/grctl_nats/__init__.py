"""The NATS transport, not yet able to connect."""

from grctl_nats.connection import NatsConnection

__all__ = ["NatsConnection"]
