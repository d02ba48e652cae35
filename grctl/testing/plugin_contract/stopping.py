"""Cancellation: at each await of each operation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

from grctl.testing.plugin_contract.cases import Contract, case, settled
from grctl.testing.plugin_contract.operations import OPERATIONS, SECRET, Stage, plain_end
from grctl.testing.plugin_contract.watched import watched

__all__ = ["StoppingCases"]

_MOST_AWAITS = 1_000


class _CancelledAt:
    """Awaits a coroutine, and has the task that does so cancelled at its n-th await, from 0.

    Attributes:
        happened: whether there was such an await.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], position: int) -> None:
        self._coroutine = coroutine
        self._position = position
        self.happened = False

    def __await__(self) -> Generator[Any, Any, Any]:
        waits = self._coroutine.__await__()
        position = 0
        error: BaseException | None = None
        while True:
            try:
                waited_for = next(waits) if error is None else waits.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            if position == self._position:
                task = asyncio.current_task()
                assert task is not None
                task.cancel("the contract")  # takes effect at the await that follows
                self.happened = True
            position += 1
            try:
                yield waited_for
            except BaseException as thrown:  # noqa: BLE001 - it is passed on
                error = thrown


async def _run(stopped: _CancelledAt) -> Any:
    return await stopped


class StoppingCases(Contract):
    """Cases about cancellation."""

    @case
    async def test_cancellation_passes_through(self) -> None:
        """At each await: the caller gets its CancelledError, and nothing is left behind."""
        faults: list[str] = []
        for operation in OPERATIONS:
            position = await self._cancel_everywhere(operation, faults)
            assert position or operation in self.answers
        assert not faults, "\n".join(dict.fromkeys(faults))

    async def _cancel_everywhere(self, operation: str, faults: list[str]) -> int:
        for position in range(_MOST_AWAITS):
            plugin = self.new_plugin()
            stage = Stage([watched(plugin, faults, self.answers)])
            await stage.begin(operation, answers_start="start" in self.answers)
            if operation != "result":
                plain_end(operation, stage.transport)
            stopped = _CancelledAt(stage.perform(operation, {"card": SECRET}), position)
            calling = asyncio.ensure_future(_run(stopped))
            if operation == "result":  # the end comes while it is waited for, or there would be no await
                await settled(lambda: calling.done() or stage.transport.live_watches > 0)  # noqa: B023
                if not calling.done():
                    plain_end(operation, stage.transport)
            await asyncio.wait([calling])
            await stage.transport.close()
            await self.close_plugin(plugin)
            self.made.remove(plugin)
            where = f"{operation}, cancelled at its await number {position + 1}"
            if not stopped.happened:
                if not calling.cancelled():
                    calling.exception()
                return position
            assert calling.cancelled(), f"{where}: ended in {calling.exception() or calling.result()!r}"
        raise AssertionError(f"{operation} awaits more than {_MOST_AWAITS} times")
