"""The NATS transport.

PYTEST_DONT_REWRITE: it may be imported before pytest is, which marks all packages of a plugin's distribution.
"""

from grctl_nats.connection import NatsConnection
from grctl_nats.safeguards import Safeguards

__all__ = ["NatsConnection", "Safeguards"]
