"""The examples are imported as they are when they run in the repository: as the package `examples`."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def repository(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.delenv("GRCTL_NATS_SERVERS", raising=False)
