from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from core.scripted import ScriptedConnection

from .recorder import Recorder


@pytest.fixture
def connection() -> ScriptedConnection:
    return ScriptedConnection()


@pytest.fixture
def recording() -> Iterator[Callable[..., Recorder]]:
    made: list[Recorder] = []

    def record(**options: Any) -> Recorder:
        made.append(Recorder(**options))
        return made[-1]

    yield record
    for recorder in made:
        recorder.close()


@pytest.fixture
def recorder(recording: Callable[..., Recorder]) -> Recorder:
    return recording()
