"""What the modules of the matrix share: a test for each cell, and one round of all operations for each fault."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from .form import SEED, in_form
from .rounds import play
from .site import Site
from .table import TABLE, Fault, Operation
from .tally import CELL, told

__all__ = ["Rounds", "assert_cell", "cells"]

_TIMES = in_form(1, 3)


def cells(faults: Iterable[Fault]) -> Any:
    """Parametrise a test by the cells of some faults."""
    faults = tuple(faults)
    return pytest.mark.parametrize(
        ("fault", "operation"),
        [cell for cell in TABLE if cell[0] in faults],
        ids=lambda value: value.name.lower(),
    )


class Rounds:
    """The rounds that were played at a site. The first cell of a fault that is asked for has all of them played."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._played: dict[Fault, list[Any]] = {}

    async def results(self, fault: Fault, operation: Operation) -> list[Any]:
        if fault not in self._played:
            self._played[fault] = []  # a round that breaks breaks once
            for number in range(_TIMES):
                self._played[fault].append(await play(self._site, fault, SEED * 1_000 + number))
        played = self._played[fault]
        assert len(played) == _TIMES, "the round broke: see the first cell of this fault"
        return [results[operation] for results in played]


async def assert_cell(rounds: Rounds, fault: Fault, operation: Operation, record_property: Any) -> None:
    """Assert that what a caller is told is right, and that nothing hung, was lost or done twice."""
    results = await rounds.results(fault, operation)
    for result in results:
        record_property(CELL, told(result))
    if troubles := [trouble for result in results for trouble in result.troubles()]:
        pytest.fail("\n".join(troubles), pytrace=False)
