"""Tasks: functions whose calls stand in the history, with their arguments, their results and their attempts.

@task(retry_policy=RetryPolicy(max_attempts=3))
async def charge(order_id: str, amount: float) -> str: ...

@wf.start()
async def start(ctx: Context, order_id: str) -> Directive:
    return ctx.next.complete(await charge(order_id, 49.99))
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
import typing
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar, overload

import msgspec

from grctl_core.codec import check_type, decode, encode
from grctl_core.errors import DecodeError, InvalidInputError
from grctl_engine.binding import read_signature
from grctl_engine.errors import TaskResultError
from grctl_engine.failure import describe_exception
from grctl_engine.retry_policy import RetryPolicy, qualified_name
from grctl_engine.scope import StepScope, current_scope, new_operation_id

__all__ = ["task"]

P = ParamSpec("P")
R = TypeVar("R")

_ONCE = RetryPolicy()


@overload
def task(function: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, Coroutine[Any, Any, R]]: ...
@overload
def task(
    *, retry_policy: RetryPolicy | None = None
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]: ...
def task(function: Any = None, /, *, retry_policy: RetryPolicy | None = None) -> Any:
    """Make a function a task. It is called as before.

    Called in a handler, also by way of other functions or ``asyncio.gather``, each call is recorded and tried as
    often as the policy says. What the caller gets is the result as the history has it, decoded to the function's
    return annotation: a tuple without annotation comes back as a list. Called outside of a handler, such as in a test
    of its own, it is the plain function: one attempt, no record.

    Args:
        function: an ``async def``; its arguments and its result can be sent.
        retry_policy: how often it is tried; once when left out.

    Raises:
        InvalidInputError: it is no ``async def`` function, or the policy is none.

    """
    if retry_policy is not None and not isinstance(retry_policy, RetryPolicy):
        raise InvalidInputError(f"@task: retry_policy must be a RetryPolicy, not {type(retry_policy).__name__}")
    if function is None:
        return lambda decorated: _decorate(decorated, retry_policy)
    return _decorate(function, retry_policy)


def _decorate(function: Any, retry_policy: RetryPolicy | None) -> Any:
    if not inspect.iscoroutinefunction(function) or not hasattr(function, "__name__"):
        raise InvalidInputError(f"@task: a task must be an 'async def' function, not {function!r}")
    definition = _Definition(function, retry_policy or _ONCE)

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        scope = current_scope.get()
        if scope is None:
            return await function(*args, **kwargs)
        return await _Call(scope, definition).run(args, kwargs)

    return call


class _Definition:
    """What is known of a task before it is called."""

    __slots__ = ("_result_type", "_signature", "function", "name", "policy")

    def __init__(self, function: Callable[..., Any], policy: RetryPolicy) -> None:
        self.function = function
        self.name: str = function.__name__
        self.policy = policy
        self._signature = read_signature(function)
        self._result_type: Any = None  # read at the first call, when the module is complete

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Return the arguments by name, encoded.

        Raises:
            TypeError: they do not fit the function.
            InvalidInputError: one cannot be encoded; the message has the path.

        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None
        bound.apply_defaults()
        return encode(f"arguments of task {self.name!r}", bound.arguments)

    def read_result_type(self) -> Any:
        """Return what results are decoded to: the return annotation.

        Raises:
            InvalidInputError: it cannot be resolved, or no value can be decoded to it.

        """
        if self._result_type is None:
            self._result_type = self._resolve(self._signature.return_annotation)
        return self._result_type

    def _resolve(self, annotation: Any) -> Any:
        if annotation is inspect.Signature.empty:
            return Any
        # It alone: what only type checkers know of the parameters must not change the result.
        scope = getattr(inspect.unwrap(self.function), "__globals__", {})
        holder = types.SimpleNamespace(__annotations__={"return": annotation})
        try:
            resolved = typing.get_type_hints(holder, globalns=scope, include_extras=True)["return"]
        except Exception as error:
            raise InvalidInputError(
                f"task {self.name!r}: its return annotation, {annotation!r}, cannot be resolved ({error}): it must be "
                "there at run time and at module level, not under TYPE_CHECKING or in a function"
            ) from error
        if resolved in (typing.Never, typing.NoReturn):
            return Any
        check_type(f"task {self.name!r}: return", resolved)
        return resolved

    def store_result(self, value: object) -> tuple[bytes, Any]:
        """Return the result encoded, and as whoever reads it gets it.

        Raises:
            TaskResultError: it cannot be encoded, or is not what the return annotation says.

        """
        try:
            encoded = encode("result", value)
        except InvalidInputError as error:
            raise TaskResultError(f"task {self.name!r} returned what cannot be recorded: {error}") from error
        try:
            return encoded, decode(encoded, self.read_result_type())
        except DecodeError as error:
            raise TaskResultError(
                f"task {self.name!r} returned what its return annotation does not say: {error}"
            ) from error


class _Call:
    """One call of a task in a step."""

    __slots__ = ("_began", "_definition", "_id", "_scope")

    def __init__(self, scope: StepScope, definition: _Definition) -> None:
        scope.check(f"task {definition.name!r}")
        self._scope = scope
        self._definition = definition
        self._id = new_operation_id(definition.name)
        self._began = scope.host.clock.now()

    async def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Try the task until it succeeds, or its policy gives up."""
        definition = self._definition
        definition.read_result_type()  # a wrong one is not to show when the work is done
        self._scope.hold_current_task()
        self._record("task.started", args=msgspec.Raw(definition.encode_arguments(args, kwargs)))
        attempt = 0
        while not self._scope.over:
            attempt += 1
            since = self._now()
            try:
                result = self._complete(await definition.function(*args, **kwargs))
            except GeneratorExit:  # the event loop is gone, and the coroutine is being disposed of
                raise
            except Exception as error:
                if self._scope.over and not isinstance(error, TaskResultError):
                    self._cancel()
                    raise
                if not self._is_tried_again(error, attempt):
                    self._give_up(error, since)
                    raise
                delay_ms = self._put_off(error, attempt, since)
            except asyncio.CancelledError:
                self._cancel()
                raise
            except BaseException as error:
                self._give_up(error, since)
                raise
            else:
                self._scope.check(f"task {definition.name!r}")  # it swallowed its cancellation: nobody waits for it
                return result
            await self._sleep(delay_ms)
        self._cancel()
        self._scope.check(f"task {definition.name!r}")
        raise AssertionError("not reached")

    def _complete(self, value: object) -> Any:
        encoded, result = self._definition.store_result(value)
        duration_ms = self._milliseconds(self._began)
        self._record("task.completed", output={"result": msgspec.Raw(encoded)}, duration_ms=duration_ms)
        return result

    def _is_tried_again(self, error: Exception, attempt: int) -> bool:
        policy = self._definition.policy
        # A result that cannot be recorded will be no better the next time, and the work is done already.
        return attempt < policy.attempts and not isinstance(error, TaskResultError) and policy.retries(error)

    def _put_off(self, error: Exception, attempt: int, since: datetime) -> int:
        """Record a failed attempt; return the delay of the next."""
        policy = self._definition.policy
        delay_ms = policy.delay_ms(attempt)
        self._record(
            "task.attempt_failed",
            attempt=attempt,
            max_attempts=policy.attempts,
            error=_details(error),
            next_retry_delay_ms=delay_ms,
            duration_ms=self._milliseconds(since),
        )
        return delay_ms

    async def _sleep(self, delay_ms: int) -> None:
        try:
            await self._scope.sleep(delay_ms / 1000)
        except asyncio.CancelledError:
            self._cancel()
            raise

    def _give_up(self, error: BaseException, since: datetime) -> None:
        # The duration is that of the last attempt, as in the fixture task_gave_up; task.completed has that of all.
        self._record("task.failed", error=_details(error), duration_ms=self._milliseconds(since))

    def _cancel(self) -> None:
        self._record("task.cancelled", duration_ms=self._milliseconds(self._began))

    def _record(self, kind: str, **body: Any) -> None:
        scope = self._scope
        names = {"task_id": self._id, "task_name": self._definition.name, "step_name": scope.step_name}
        scope.record(kind, {**names, **body}, self._id)

    def _now(self) -> datetime:
        return self._scope.host.clock.now()

    def _milliseconds(self, since: datetime) -> int:
        return max(0, (self._now() - since) // timedelta(milliseconds=1))


def _details(error: BaseException) -> dict[str, str]:
    details = describe_exception(error)
    return {
        "type": details.type,
        "message": details.message,
        "stack_trace": details.stack_trace,
        "qualified_type": qualified_name(error),
    }
