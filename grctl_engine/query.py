"""Queries: handlers that look at a run and change nothing, while it goes on and after its end."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any, NoReturn

from grctl_core.codec import encode
from grctl_core.commands import QueryCommand, Reply
from grctl_core.errors import InvalidInputError
from grctl_engine import replies
from grctl_engine.context import Context, Store
from grctl_engine.definition import Handler
from grctl_engine.effects import Step
from grctl_engine.errors import InputMismatchError, ReadOnlyError
from grctl_engine.executor import StepExecution
from grctl_engine.failure import describe_exception
from grctl_engine.run import Run
from grctl_engine.scope import StepHost, StepScope, current_scope

__all__ = ["QueryDesk"]

_CLOSING = 1.0
"""Seconds that :meth:`QueryDesk.close` gives cancelled handlers to go."""


class _QueryScope(StepScope):
    """The scope of a query: it lets read, and nothing else."""

    __slots__ = ()

    def check(self, what: str) -> None:
        raise ReadOnlyError(
            f"{what}: query {self.step_name!r} of workflow type {self.run.info.wf_type!r} can only read: ctx.run, "
            "ctx.store.get() and ctx.logger. To change something, send the run an event"
        )

    def check_reading(self, what: str) -> None:
        super().check(what)


class _QueryContext(Context):
    """What the handler of a query gets."""

    __slots__ = ()

    def __init__(self, scope: StepScope) -> None:
        self._scope = scope
        self._logger = None
        self.store = Store(scope)

    @property
    def next(self) -> NoReturn:  # type: ignore[override]  # a query has no decision to make
        self._scope.check("ctx.next")
        raise AssertionError("not reached")


class QueryDesk:
    """Answers queries. Each runs as a task of its own, in no step's slot, so many at once and so long at most.

    Attributes:
        activity: rises with every query that begins or ends.
    """

    def __init__(self, host: StepHost) -> None:
        self._host = host
        self._running: set[asyncio.Task[Reply]] = set()
        self.activity = 0

    @property
    def running(self) -> int:
        """How many handlers are at work. One that was given up counts until it is gone."""
        return len(self._running)

    async def answer(self, run: Run, command: QueryCommand) -> Reply:
        """Return the answer of the run's handler, or why there is none. Cancelled, it cancels the handler."""
        handler = run.definition.queries.get(command.query_name)
        if handler is None:
            return replies.unknown_query(run.info.wf_type, command.query_name, run.definition.queries)
        limits = self._host.limits
        if len(self._running) >= limits.running_queries:
            return replies.too_many_queries(limits.running_queries)
        loop = asyncio.get_running_loop()
        # Of its own making, and in an empty context, as the tasks of steps are.
        task = asyncio.Task(
            _perform(self._host, run, handler, command.arguments),
            loop=loop,
            context=contextvars.Context(),
            name="grctl-query",
        )
        self._running.add(task)
        self.activity += 1
        task.add_done_callback(self._finished)
        waiter: asyncio.Future[None] = loop.create_future()
        task.add_done_callback(lambda _: _release(waiter))
        timer = self._host.clock.call_later(limits.query_timeout.total_seconds(), lambda: _release(waiter))
        try:
            await waiter  # and not the task: one that will not be cancelled must hold nobody up
        finally:
            timer.cancel()
            if not task.done():
                task.cancel("the query was given up")
        if not task.done():
            return replies.query_timed_out(command.query_name, limits.query_timeout)
        if task.cancelled():
            return replies.query_failed(command.query_name, "CancelledError: its handler was cancelled")
        return task.result()

    async def close(self) -> None:
        """Cancel what is at work."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel("the engine was closed")
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSING)

    def _finished(self, task: asyncio.Task[Reply]) -> None:
        self._running.discard(task)
        self.activity += 1
        if not task.cancelled():
            task.exception()  # SystemExit and KeyboardInterrupt have gone through the loop already


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _perform(host: StepHost, run: Run, handler: Handler, arguments: bytes | None) -> Reply:
    """Call the handler of a query."""
    name = handler.name
    scope = _QueryScope(host, run, StepExecution(run, Step(name, arguments, 0, host.clock.now())))
    current_scope.set(scope)  # so that a task that it calls is refused
    try:
        if handler.binder is None:
            raise RuntimeError(f"query {name!r} is not bound")
        args, kwargs = handler.binder.bind(arguments)
        function: Callable[..., Any] = handler.function
        answer = await function(_QueryContext(scope), *args, **kwargs)
        return Reply(success=True, payload=None if answer is None else encode("the answer", answer))
    except InputMismatchError as error:
        return replies.query_failed(name, str(error))
    except InvalidInputError as error:
        return replies.query_failed(name, f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is its query's failure alone
        details = describe_exception(error)
        return replies.query_failed(name, f"{details.type}: {details.message}")
    finally:
        scope.open = False
