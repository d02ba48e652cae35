"""A proxy between a client and nats-server that reads the NATS protocol, and makes go wrong what a test asks for.

    faults = Faults(seed=7)
    lost = faults.drop(replies("grctl_api.>"), nth=1)
    async with FaultProxy(broker.url, faults) as proxy, await NatsConnection.open(proxy.url) as connection:
        ...

``import fault_proxy`` works in every folder of tests.
"""

from .frames import Direction, Frame, FrameReader, UnreadableError
from .matching import Match, frames, replies, requests, subject_matches
from .proxy import FaultProxy, FaultProxyError
from .rules import Action, Faults, Rule

__all__ = [
    "Action",
    "Direction",
    "FaultProxy",
    "FaultProxyError",
    "Faults",
    "Frame",
    "FrameReader",
    "Match",
    "Rule",
    "UnreadableError",
    "frames",
    "replies",
    "requests",
    "subject_matches",
]
