"""Executor: runs steps as tasks, so many at once, and abandons them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from grctl_engine.effects import Step

if TYPE_CHECKING:
    from grctl_engine.run import Run

__all__ = ["Executor", "StepExecution"]

_log = logging.getLogger("grctl.engine")

_ABANDONED_GRACE = 1.0
"""Seconds that :meth:`Executor.close` gives cancelled steps to go."""


class StepExecution:
    """One step on its way through the executor.

    Attributes:
        run: its run; None once it is abandoned before it began.
        step: the step, as the state machine has it.
        task: what runs it; None while it is queued.
        abandoned: whether nobody waits for it any more.
        sleeping: how many sleeps on the engine's clock, and waits for other steps, it is in.
        aside: how many waits for other steps it is in.
    """

    __slots__ = ("abandoned", "aside", "run", "sleeping", "step", "task")

    def __init__(self, run: Run, step: Step) -> None:
        self.run: Run | None = run
        self.step = step
        self.task: asyncio.Task[None] | None = None
        self.abandoned = False
        self.sleeping = 0
        self.aside = 0


class Executor:
    """Runs steps. What it was given beyond its limit waits for its turn, first come, first served."""

    def __init__(self, limit: int, perform: Callable[[StepExecution], Coroutine[None, None, None]]) -> None:
        """Run ``limit`` steps at once, each with ``perform``."""
        self._limit = limit
        self._perform = perform
        self._running: set[StepExecution] = set()
        self._queue: deque[StepExecution] = deque()
        self._abandoned_in_queue = 0
        self._returning: deque[tuple[StepExecution, asyncio.Future[None]]] = deque()
        self._sleeping = 0
        self._aside = 0
        self._closed = False

    @property
    def running(self) -> int:
        """How many steps have a task. An abandoned step counts until it is gone."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """How many steps wait for their turn."""
        return len(self._queue) - self._abandoned_in_queue

    @property
    def busy(self) -> bool:
        """Whether a step is running that does not just sleep on the engine's clock, or wait for another."""
        return len(self._running) > self._sleeping

    @property
    def _has_slot(self) -> bool:
        return len(self._running) - self._aside < self._limit

    def submit(self, execution: StepExecution) -> None:
        """Run a step now, or when its turn comes. Its code begins in a later turn of the event loop."""
        if self._closed:
            return
        if len(self._running) - self._aside < self._limit and not self._returning:
            self._launch(execution)
        else:
            self._queue.append(execution)

    def abandon(self, execution: StepExecution) -> None:
        """Cancel a step, or forget it if it has not begun. What it still does concerns nobody."""
        execution.abandoned = True
        if execution.task is not None:
            execution.task.cancel("the step was abandoned")
            return
        # It stays in the queue until its turn comes, or until half of the queue is like it.
        execution.run = None
        self._abandoned_in_queue += 1
        if self._abandoned_in_queue > 100 and self._abandoned_in_queue * 2 > len(self._queue):
            self._queue = deque(queued for queued in self._queue if not queued.abandoned)
            self._abandoned_in_queue = 0

    def fall_asleep(self, execution: StepExecution) -> None:
        """Note that a step sleeps on the engine's clock."""
        execution.sleeping += 1
        if execution.sleeping == 1:
            self._sleeping += 1

    def wake_up(self, execution: StepExecution) -> None:
        """Note that one sleep of a step is over."""
        execution.sleeping -= 1
        if execution.sleeping == 0:
            self._sleeping -= 1

    def step_aside(self, execution: StepExecution) -> None:
        """Give the slot of a step away, while it waits for other steps."""
        self.fall_asleep(execution)
        execution.aside += 1
        if execution.aside == 1:
            self._aside += 1
            self._fill()

    async def come_back(self, execution: StepExecution) -> None:
        """Wait until a step that stepped aside has a slot again, before those that have not begun."""
        if execution.aside == 1 and not self._has_slot and not execution.abandoned:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (execution, turn)
            self._returning.append(entry)
            try:
                await turn
                return  # _fill has done the rest, when it gave the slot
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    raise
                self._returning.remove(entry)
                self._is_back(execution)  # over the limit, until it is gone
                raise
        self._is_back(execution)

    def _is_back(self, execution: StepExecution) -> None:
        self.wake_up(execution)
        execution.aside -= 1
        if execution.aside == 0:
            self._aside -= 1

    async def close(self, grace: float, *, wait_for_sleepers: bool, closer: asyncio.Task[Any] | None = None) -> None:
        """Start nothing more, wait up to ``grace`` seconds for what is running, abandon the rest.

        Args:
            grace: seconds.
            closer: the task that closes: a step that does so cannot be waited for by itself.
            wait_for_sleepers: whether to wait for steps that sleep on the engine's clock.

        """
        self._closed = True
        self._queue.clear()
        self._abandoned_in_queue = 0
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        try:
            while (tasks := self._tasks(closer, sleepers=wait_for_sleepers, aside=False)) and (
                left := deadline - loop.time()
            ) > 0:
                # In short turns where one that goes to sleep meanwhile will sleep for ever.
                await asyncio.wait(tasks, timeout=left if wait_for_sleepers else min(left, 0.05))
        finally:
            tasks = self._tasks(closer, sleepers=True, aside=True)
            for execution in list(self._running):
                self.abandon(execution)
        if tasks:
            _, stubborn = await asyncio.wait(tasks, timeout=_ABANDONED_GRACE)
            if stubborn:
                _log.warning("%d steps go on although they were cancelled", len(stubborn))

    def _tasks(self, closer: asyncio.Task[Any] | None, *, sleepers: bool, aside: bool) -> list[asyncio.Task[None]]:
        return [
            execution.task
            for execution in self._running
            if execution.task is not None
            and execution.task is not closer
            and (sleepers or not execution.sleeping)
            and (aside or not execution.aside)
        ]

    def _launch(self, execution: StepExecution) -> None:
        # A task of its own making, as a loop's task factory may run it at once, in the middle of a transition; and in
        # an empty context, so that no step carries the span of whoever happened to send the command.
        task = asyncio.Task(
            self._perform(execution), loop=asyncio.get_running_loop(), context=contextvars.Context(), name="grctl-step"
        )
        execution.task = task
        self._running.add(execution)
        task.add_done_callback(lambda _: self._finished(execution))

    def _finished(self, execution: StepExecution) -> None:
        self._running.discard(execution)
        if execution.sleeping:
            self._sleeping -= 1
            execution.sleeping = 0
        if execution.aside:
            self._aside -= 1
            execution.aside = 0
        task, execution.task = execution.task, None
        error = None if task is None or task.cancelled() else task.exception()
        if isinstance(error, Exception):  # SystemExit and KeyboardInterrupt have gone through the loop already
            _log.error("step %r broke the engine", execution.step.name, exc_info=error)
        if self._queue or self._returning:
            self._fill()

    def _fill(self) -> None:
        """Give free slots away: first to steps that come back, then to those that have not begun."""
        while self._returning and self._has_slot:
            execution, turn = self._returning.popleft()
            self._is_back(execution)
            turn.set_result(None)
        while self._queue and self._has_slot:
            execution = self._queue.popleft()
            if execution.abandoned:
                self._abandoned_in_queue -= 1
            else:
                self._launch(execution)
