"""Connection: to a Ground Control server over NATS."""

from grctl_nats.connection import NatsConnection as Connection

__all__ = ["Connection"]
