"""Context: what a handler gets as its first parameter."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import uuid
from collections.abc import MutableMapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, overload

from grctl_core.codec import decode, encode
from grctl_core.durations import Duration, to_seconds
from grctl_core.errors import DecodeError
from grctl_core.ids import check_id
from grctl_core.run import RunInfo
from grctl_engine.clock import Clock
from grctl_engine.directive import NextBuilder
from grctl_engine.errors import StepEndedError
from grctl_engine.executor import Executor, StepExecution
from grctl_engine.run import Run

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)

__all__ = ["Context", "StepHost", "Store"]

_log = logging.getLogger("grctl.workflow")
_log.addHandler(logging.NullHandler())  # a library prints nothing of its own accord


class StepHost(Protocol):
    """What a context needs of its engine."""

    clock: Clock
    executor: Executor

    def record(
        self, run: Run, kind: str, body: dict[str, Any], *, worker: bool = False, operation_id: str | None = None
    ) -> None:
        """Append to the run's history."""


class Store:
    """The run's values. What a step puts in is kept when the step completes, and dropped when it does not."""

    __slots__ = ("_context", "_run", "_updates")

    def __init__(self, context: Context, run: Run) -> None:
        self._context = context
        self._run = run
        self._updates: dict[str, bytes] | None = None

    def put(self, key: str, value: object) -> None:
        """Keep a value. It is encoded now: what is done to it later changes nothing.

        Args:
            key: an id, or several with dots between them.
            value: whatever can be sent.

        Raises:
            InvalidInputError: the key is none, or the value cannot be encoded; the message has the path.
            StepEndedError: the step has ended.

        """
        self._context._check_open("store.put()")  # noqa: SLF001 - two halves of one thing
        _check_key(key)
        if self._updates is None:
            self._updates = {}
        self._updates[key] = encode(f"store[{key!r}]", value)

    @overload
    async def get(self, key: str) -> Any: ...
    @overload
    async def get(self, key: str, type: type[T], default: T | None = None) -> T: ...
    @overload
    async def get(self, key: str, type: Any = ..., default: Any = None) -> Any: ...
    async def get(self, key: str, type: Any = Any, default: Any = None) -> Any:
        """Return a value: what this step has put, else what earlier ones have.

        Args:
            key: the key.
            type: what to decode to; without it a tuple comes back as a list, a dataclass as a dict.
            default: what to return when there is no such key.

        Raises:
            DecodeError: the value is not of the type.
            StepEndedError: the step has ended.

        """
        self._context._check_open("store.get()")  # noqa: SLF001 - two halves of one thing
        _check_key(key)
        encoded = self._updates.get(key) if self._updates else None
        if encoded is None and self._run.store is not None:
            encoded = self._run.store.get(key)
        if encoded is None:
            return default
        try:
            return decode(encoded, type)
        except DecodeError as error:
            raise DecodeError(f"store[{key!r}]: {error}") from None

    def _take(self) -> dict[str, bytes] | None:
        updates, self._updates = self._updates, None
        return updates


class _RunLogger(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class Context:
    """What a handler does its work with. Valid until its step ends.

    Attributes:
        next: makes the decision that the handler returns.
        store: the run's values.
    """

    __slots__ = ("_execution", "_host", "_logger", "_open", "_run", "next", "store")

    def __init__(self, host: StepHost, run: Run, execution: StepExecution) -> None:
        self._host = host
        self._run = run
        self._execution = execution
        self._logger: _RunLogger | None = None
        self._open = True
        self.next: NextBuilder = run.definition.next
        self.store = Store(self, run)

    @property
    def run(self) -> RunInfo:
        """The run's record."""
        return self._run.info

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger, ``grctl.workflow``, whose records have ``wf_id``, ``run_id``, ``wf_type`` and ``step_name``."""
        if self._logger is None:
            info = self._run.info
            extra = {
                "wf_id": info.wf_id,
                "run_id": info.id,
                "wf_type": info.wf_type,
                "step_name": self._execution.step.name,
            }
            self._logger = _RunLogger(_log, extra)
        return self._logger

    async def now(self) -> datetime:
        """Return the time, aware, in UTC, and record it in the history."""
        now = self._host.clock.now()
        self._record("now", "timestamp.recorded", {"value": now})
        return now

    async def random(self) -> float:
        """Return a random number from 0 to below 1, and record it in the history."""
        number = random.random()
        self._record("random", "random.recorded", {"value": number})
        return number

    async def uuid4(self) -> uuid.UUID:
        """Return a random UUID, and record it in the history."""
        value = uuid.uuid4()
        self._record("uuid4", "uuid.recorded", {"value": str(value)})
        return value

    async def sleep(self, duration: Duration) -> None:
        """Sleep, on the engine's clock, and then record it in the history.

        The step's timeout goes on meanwhile: to wait for long, return ``ctx.next.wait()``.

        Args:
            duration: a ``timedelta`` or seconds, 0 or more.

        Raises:
            InvalidInputError: it is no duration.

        """
        self._check_open("sleep()")
        seconds = 0.0 if duration in (0, timedelta(0)) else to_seconds("duration", duration)
        future = asyncio.get_running_loop().create_future()
        executor, execution = self._host.executor, self._execution
        asleep = True

        def wake_up() -> None:
            nonlocal asleep
            if asleep:
                asleep = False
                executor.wake_up(execution)
            if not future.done():
                future.set_result(None)

        executor.fall_asleep(execution)
        timer = self._host.clock.call_later(seconds, wake_up)
        try:
            await future
        finally:
            timer.cancel()
            wake_up()
        self._record("sleep", "sleep.recorded", {"duration_ms": round(seconds * 1000)})

    def _record(self, operation: str, kind: str, body: dict[str, Any]) -> None:
        self._check_open(f"{operation}()")
        operation_id = f"{operation}:{os.urandom(8).hex()}"
        self._host.record(self._run, kind, body, worker=True, operation_id=operation_id)

    def _check_open(self, what: str) -> None:
        if not self._open or self._execution.abandoned:
            ended = "was abandoned" if self._execution.abandoned else "has ended"
            raise StepEndedError(
                f"ctx.{what}: step {self._execution.step.name!r} of workflow {self._run.info.wf_id!r} {ended}. "
                "A context is for the handler that got it, until it returns; await what it starts"
            )

    def _close(self) -> dict[str, bytes] | None:
        """End the context; return what was put into the store."""
        self._open = False
        return self.store._take()  # noqa: SLF001 - two halves of one thing


def _check_key(key: object) -> None:
    if isinstance(key, str) and "." in key:
        for part in key.split("."):
            check_id("the store's key", part)
    else:
        check_id("the store's key", key)
