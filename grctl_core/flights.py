"""Flights: at most one cancel or terminate on its way for each run; who asks for the same one joins it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from grctl_core.errors import DeliveryUnknownError, NotSentError, own_copy
from grctl_core.run import RunRef

__all__ = ["Flights"]

_Landed = tuple[bool, Exception | None]
"""Whether it was carried through (not when its leader was cancelled), and the error that it ended in."""


class Flights:
    """The cancels and terminates on their way, by workflow id and run id: clients make run ids, twice the same too."""

    __slots__ = ("_flying",)

    def __init__(self) -> None:
        self._flying: dict[tuple[str, str], tuple[str, asyncio.Future[_Landed]]] = {}

    def is_under_way(self, run: RunRef, operation: str) -> bool:
        """Whether a flight of this operation is on its way."""
        flying = self._flying.get((run.wf_id, run.run_id))
        return flying is not None and flying[0] == operation

    async def join(self, run: RunRef, operation: str, fly: Callable[[], Awaitable[None]], patience: float) -> None:
        """Fly, or wait for a flight of the same operation and end as it does. Another operation waits its turn.

        When the caller that leads a flight is cancelled, one of those that joined it leads anew.

        Args:
            run: the run.
            operation: cancel or terminate.
            fly: carries it through.
            patience: seconds to wait at most for flights of others. One's own takes what it takes.

        Raises:
            DeliveryUnknownError: the flight that was joined takes longer.
            NotSentError: one of another operation does.
            Exception: what the flight ended in; for each that joined it a copy.

        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        key = run.wf_id, run.run_id
        while (current := self._flying.get(key)) is not None:
            kind, landing = current
            await asyncio.wait([landing], timeout=max(0.0, deadline - loop.time()))
            if not landing.done():
                late = f"a {kind} of run {run.run_id} is on its way and has not been answered within {patience:g} s"
                if kind != operation:
                    raise NotSentError(f"{operation} not sent: {late}")
                raise DeliveryUnknownError(late, operation=operation, run=run)
            carried_through, error = landing.result()
            if kind != operation or not carried_through:
                continue
            if error is not None:
                raise own_copy(error) from error
            return
        landing = loop.create_future()
        self._flying[key] = (operation, landing)
        landed: _Landed = (False, None)
        try:
            await fly()
            landed = (True, None)
        except Exception as error:
            landed = (True, error)
            raise
        finally:
            del self._flying[key]
            landing.set_result(landed)
