"""Hosts: where the suite's workflows run, one for each transport."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import grctl

from .workflows import workflows

LIVE_URL = os.environ.get("GRCTL_TEST_URL", "")


@dataclass(frozen=True)
class Host:
    """Where the suite's workflows run.

    Attributes:
        name: shown in the ids of the cases.
        ours: our own engine runs them. A live server's may lack what only ours promises, and misbehave as PROTOCOL.md
            section 8 says.
    """

    name: str
    ours: bool

    async def open(self) -> Any:
        """Open a connection; whoever calls closes it."""
        if self.name == "memory":
            return await grctl.connect("memory://", workflows=workflows)
        return await grctl.connect(LIVE_URL)

    async def open_beside(self, connection: Any) -> Any:
        """Open one more connection, to the same server as another."""
        if self.name == "memory":
            return await grctl.connect("memory://", engine=connection.engine)
        return await grctl.connect(LIVE_URL)


HOSTS = [Host("live", ours=False)] if LIVE_URL else [Host("memory", ours=True)]
