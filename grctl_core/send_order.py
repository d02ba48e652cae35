"""SendOrder: the events of one handle leave in the order of the calls."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from grctl_core.errors import NotSentError

__all__ = ["SendOrder"]


class SendOrder:
    """Gives turns, first come, first served.

    When a turn ends in an error or a cancellation, those queued behind it get NotSentError instead of a turn: sending
    them would deliver events over a hole. Who asks for a turn afterwards starts afresh.
    """

    __slots__ = ("_busy", "_queue")

    def __init__(self) -> None:
        self._busy = False
        self._queue: deque[asyncio.Future[None]] | None = None  # made by the first that queues: it is half a kilobyte

    async def __aenter__(self) -> None:
        if not self._busy:
            self._busy = True
            return
        turn = asyncio.get_running_loop().create_future()
        if self._queue is None:
            self._queue = deque()
        queue = self._queue
        queue.append(turn)
        try:
            await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # cancelled as its turn came
                self._busy = False
                self._spoil(error)
            elif turn in queue:
                behind = len(queue) - queue.index(turn) - 1
                self._spoil(error, last=behind)
                queue.remove(turn)
            raise

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._busy = False
            self._spoil(error)
            return
        if not self._queue:
            self._busy = False
        elif (turn := self._queue.popleft()).cancelled():  # in this loop iteration: its owner has not yet noticed
            self._busy = False
            self._spoil(asyncio.CancelledError())
        else:
            turn.set_result(None)

    def _spoil(self, cause: BaseException, last: int | None = None) -> None:
        """Fail the last so many of the queue, all by default."""
        queue = self._queue or deque()
        for _ in range(len(queue) if last is None else last):
            turn = queue.pop()
            if not turn.done():
                error = NotSentError(
                    "not sent: an earlier event of this handle did not get through "
                    f"({type(cause).__name__}{f': {cause}' if str(cause) else ''}), and events keep their order"
                )
                error.__cause__ = cause if isinstance(cause, Exception) else None
                turn.set_exception(error)
