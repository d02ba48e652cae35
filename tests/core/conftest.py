"""Fixtures of the core's tests."""

from __future__ import annotations

import pytest
from grctl_core.client import WorkflowClient

from .scripted import ScriptedConnection, client_on


@pytest.fixture
def connection() -> ScriptedConnection:
    return ScriptedConnection()


@pytest.fixture
def client(connection: ScriptedConnection) -> WorkflowClient:
    return client_on(connection)
