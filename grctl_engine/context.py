"""Context: what a handler gets as its first parameter."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import MutableMapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, overload

from grctl_core.codec import decode, encode
from grctl_core.durations import Duration, to_seconds
from grctl_core.errors import DecodeError
from grctl_core.ids import check_id
from grctl_core.run import RunInfo
from grctl_engine.child import ChildHandle
from grctl_engine.children import run_child, send_to_parent, start_child
from grctl_engine.directive import NextBuilder, StepReference
from grctl_engine.scope import StepScope, new_operation_id

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)

__all__ = ["Context", "Store"]

_log = logging.getLogger("grctl.workflow")
_log.addHandler(logging.NullHandler())  # a library prints nothing of its own accord


class Store:
    """The run's values. What a step puts in is kept when the step completes, and dropped when it does not."""

    __slots__ = ("_scope", "_updates")

    def __init__(self, scope: StepScope) -> None:
        self._scope = scope
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
        self._scope.check("ctx.store.put()")
        _check_key(key)
        if self._updates is None:
            self._updates = {}
        self._updates[key] = encode(f"store[{key!r}]", value)

    @overload
    async def get(self, key: str, *, default: Any = ...) -> Any: ...
    @overload
    async def get(self, key: str, type: type[T]) -> T | None: ...
    @overload
    async def get(self, key: str, type: type[T], default: T) -> T: ...
    @overload
    async def get(self, key: str, type: Any, default: Any = ...) -> Any: ...
    async def get(self, key: str, type: Any = Any, default: Any = None) -> Any:
        """Return a value: what this step has put, else what earlier ones have.

        Args:
            key: the key.
            type: what to decode to; without it a tuple comes back as a list, a dataclass as a dict.
            default: what to return when there is no such key; None when left out.

        Raises:
            DecodeError: the value is not of the type.
            StepEndedError: the step has ended.

        """
        self._scope.check_reading("ctx.store.get()")
        _check_key(key)
        encoded = self._updates.get(key) if self._updates else None
        if encoded is None and self._scope.run.store is not None:
            encoded = self._scope.run.store.get(key)
        if encoded is None:
            return default
        try:
            return decode(encoded, type)
        except DecodeError as error:
            raise DecodeError(f"store[{key!r}]: {error}") from None

    def take(self) -> dict[str, bytes] | None:
        """Return what was put, and forget it."""
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

    __slots__ = ("_logger", "_scope", "next", "store")

    def __init__(self, scope: StepScope) -> None:
        self._scope = scope
        self._logger: _RunLogger | None = None
        self.next: NextBuilder = scope.run.definition.next
        self.store = Store(scope)

    @property
    def run(self) -> RunInfo:
        """The run's record."""
        return self._scope.run.info

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger, ``grctl.workflow``, whose records have ``wf_id``, ``run_id``, ``wf_type`` and ``step_name``."""
        if self._logger is None:
            info = self._scope.run.info
            extra = {
                "wf_id": info.wf_id,
                "run_id": info.id,
                "wf_type": info.wf_type,
                "step_name": self._scope.step_name,
            }
            self._logger = _RunLogger(_log, extra)
        return self._logger

    async def now(self) -> datetime:
        """Return the time, aware, in UTC, and record it in the history."""
        now = self._scope.host.clock.now()
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
        self._scope.check("ctx.sleep()")
        seconds = 0.0 if duration in (0, timedelta(0)) else to_seconds("duration", duration)
        await self._scope.sleep(seconds)
        self._record("sleep", "sleep.recorded", {"duration_ms": round(seconds * 1000)})

    async def start_child(
        self,
        workflow_type: str,
        workflow_id: str,
        workflow_input: object = None,
        workflow_timeout: Duration | None = None,
        on_completed_step: StepReference | None = None,
    ) -> ChildHandle:
        """Start another workflow as a child of this run, and do not wait for it.

        It begins at once, whatever this step decides, and goes on when this run ends.

        Args:
            workflow_type: the child's type.
            workflow_id: the child's id, of its own.
            workflow_input: the child's input.
            workflow_timeout: how long the child may take, a ``timedelta`` or seconds; without limit when left out.
            on_completed_step: the step of this workflow, or its name, that gets the child's outcome, however it ends:
                ``async def booked(ctx: Context, outcome: ChildOutcome) -> Directive``. It comes as an event named like
                the step, so this run has to be, or to come, into a wait. When this run has ended it comes to nobody.

        Raises:
            InvalidInputError: an id, the input, the timeout or the step is wrong. Nothing was started.
            WorkflowAlreadyRunningError: the id has an active run.
            WorkflowTypeNotRegisteredError: there is no such type.
            ServerError: the engine has as many active runs as it may.
            StepEndedError: the step has ended.

        """
        self._scope.check("ctx.start_child()")
        callback = None
        if on_completed_step is not None:
            callback = self.next.name_of(on_completed_step, "ctx.start_child(on_completed_step=...)")
        return start_child(
            self._scope,
            workflow_type,
            workflow_id,
            input=workflow_input,
            timeout=workflow_timeout,
            callback_step=callback,
        )

    async def run_child(
        self,
        workflow_type: str,
        workflow_id: str,
        workflow_input: object = None,
        workflow_timeout: Duration | None = None,
    ) -> Any:
        """Start another workflow as a child of this run, wait for its end, and return its result, as plain values.

        The step's timeout goes on meanwhile, and a cancel of this run waits for the step. For a child that takes
        long: ``start_child`` with ``on_completed_step``. When the waiting ends early the child goes on.

        Args:
            workflow_type: the child's type.
            workflow_id: the child's id, of its own.
            workflow_input: the child's input.
            workflow_timeout: how long the child may take, a ``timedelta`` or seconds; without limit when left out.

        Raises:
            WorkflowError: the child did not complete: it failed, timed out, was cancelled or terminated. Always its
                subclass ``grctl_engine.ChildFailedError``, whose ``outcome.status`` tells these apart. Uncaught it
                fails this run too.
            InvalidInputError: and others as ``start_child``.

        """
        self._scope.check("ctx.run_child()")
        handle = start_child(self._scope, workflow_type, workflow_id, input=workflow_input, timeout=workflow_timeout)
        return await run_child(self._scope, handle)

    async def send_to_parent(self, event_name: str, payload: object = None) -> None:
        """Send an event to the run that started this one.

        Args:
            event_name: an event that the parent's workflow handles.
            payload: what its handler gets.

        Raises:
            NoParentError: this run is nobody's child.
            WorkflowFinishedError: the parent has ended.
            InvalidInputError: the parent has no such event, or the payload cannot be encoded. Nothing was sent.
            ServerError: the parent's inbox is full.
            StepEndedError: the step has ended.

        """
        self._scope.check("ctx.send_to_parent()")
        send_to_parent(self._scope, event_name, payload)

    def _record(self, operation: str, kind: str, body: dict[str, Any]) -> None:
        self._scope.check(f"ctx.{operation}()")
        self._scope.record(kind, body, new_operation_id(operation))


def _check_key(key: object) -> None:
    if isinstance(key, str) and "." in key:
        for part in key.split("."):
            check_id("the store's key", part)
    else:
        check_id("the store's key", key)
