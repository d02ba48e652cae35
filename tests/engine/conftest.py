"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from .rig import Rig


@pytest.fixture
async def make_rig() -> AsyncIterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(*workflows, **options) -> Rig:
        rigs.append(Rig(*workflows, **options))
        return rigs[-1]

    yield make
    for rig in rigs:
        await rig.engine.close(grace=0)
