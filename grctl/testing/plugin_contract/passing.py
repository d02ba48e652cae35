"""What a plugin lets through: values, results and errors, as they are, and once."""

from __future__ import annotations

import copy
from typing import Any

from grctl.testing.plugin_contract.cases import Contract, case
from grctl.testing.plugin_contract.operations import OPERATIONS, SECRET, Stage, ends_of, plain_end
from grctl.testing.plugin_contract.watched import Recorder, watched

__all__ = ["PassingCases"]


class PassingCases(Contract):
    """Cases about results and errors."""

    async def _ending(self, plugins: list[object], operation: str, how: str | None = None) -> Any:
        stage = Stage(plugins)
        await stage.begin(operation, answers_start="start" in self.answers)
        if how is None:
            plain_end(operation, stage.transport, {"card": SECRET})
        else:
            ends_of(operation)[how](stage.transport, operation)
        ending = await stage.ending(operation, {"card": SECRET})
        await stage.transport.close()
        return ending

    @case
    async def test_results_come_through(self) -> None:
        """Every operation gives what it gives without the plugin."""
        for operation in filter(self.compares, OPERATIONS):
            expected = await self._ending([], operation)
            found = await self._ending([self.new_plugin()], operation)
            assert found == expected, f"{operation} gave {found!r} instead of {expected!r}"

    @case
    async def test_errors_come_through(self) -> None:
        """Every operation ends in the class of error that it ends in without the plugin."""
        for operation in filter(self.compares, OPERATIONS):
            for how in ends_of(operation):
                expected = await self._ending([], operation, how)
                found = await self._ending([self.new_plugin()], operation, how)
                assert found == expected, f"{operation}, {how}: {found!r} instead of {expected!r}"

    @case
    async def test_proceed_is_called_once(self) -> None:
        """Whether it goes well or not; not at all only where the author says so. A retry slot may, again and again."""
        faults: list[str] = []
        for operation in OPERATIONS:
            for how in (None, *ends_of(operation)):
                await self._ending([watched(self.new_plugin(), faults, self.answers)], operation, how)
        assert not faults, "\n".join(dict.fromkeys(faults))

    @case
    async def test_the_callers_values_stay_as_they_are(self) -> None:
        """What the caller passed is the caller's: a plugin that changes something passes on a copy."""
        value = {"card": SECRET, "items": [1, {"deep": [2]}]}
        before = copy.deepcopy(value)
        for operation in OPERATIONS:
            stage = Stage([self.new_plugin()])
            await stage.begin(operation, answers_start="start" in self.answers)
            plain_end(operation, stage.transport)
            await stage.ending(operation, value)
            assert value == before, f"the plugin changed what was passed to {operation}"
            await stage.transport.close()

    @case
    async def test_its_repr_shows_no_payload(self) -> None:
        """Neither in the middle of a call nor later: a repr ends up in logs."""
        plugin = self.new_plugin()
        shown: list[str] = []

        def look(_: object) -> None:
            shown.append(f"{plugin!r} {plugin}")

        for operation in OPERATIONS:
            stage = Stage([plugin, Recorder(look=look)])
            await stage.begin(operation, answers_start="start" in self.answers)
            plain_end(operation, stage.transport)
            await stage.ending(operation, {"card": SECRET})
            look(None)
            await stage.transport.close()
            assert not any(SECRET in each for each in shown), f"after a {operation} its repr is {shown[-1]}"
