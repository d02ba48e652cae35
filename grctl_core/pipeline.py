"""The pipeline: layers of middleware around what an operation does, composed once per client.

    operation layers            once per call, on values
      -> retry slot             at most one; the only layer whose proceed may be called again
        -> (reconcile, in grctl_core.reconcile)
          -> attempt layers     once per command on the wire
            -> connection.request

Layers become nested coroutines that run in the caller's task. With no layer there is nothing around the innermost
function: composing returns that function itself.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from grctl_core.attempt import Attempt
from grctl_core.calls import DEFAULT_RETRY, BaseCall, CommandCall
from grctl_core.commands import Reply
from grctl_core.errors import DeliveryUnknownError, EventLoopError, GrctlError, InvalidInputError, PluginError
from grctl_core.event_loop import CurrentTask
from grctl_core.notifications import Notifications
from grctl_core.outcome import Outcome
from grctl_core.run import RunInfo

__all__ = ["Layer", "Pipeline", "RetryProceed", "compose", "resolve_once"]

Inner: TypeAlias = Callable[[Any], Awaitable[Any]]

_RETURNS: Mapping[str, type | None] = {
    "start": RunInfo,
    "describe": RunInfo,
    "result": Outcome,
    "attempt": Reply,
    "send": None,
    "cancel": None,
    "terminate": None,
}
"""What the layers of an operation must return; None: what they return is ignored. A query returns anything."""


class Layer(msgspec.Struct, frozen=True):
    """What one hook of one plugin adds around an operation or an attempt.

    Attributes:
        plugin: the plugin's name.
        hook: the hook's name.
        function: ``async def function(call, proceed)``.
    """

    plugin: str
    hook: str
    function: Callable[[Any, Any], Awaitable[Any]]

    def __str__(self) -> str:
        return f"{self.plugin}.{self.hook}"


class RetryProceed(msgspec.Struct, eq=False):
    """The proceed of the retry slot: it may be called again and again, one call after the other.

    What an earlier attempt that is in doubt means for the next one is the core's affair (grctl_core.reconcile).

    Attributes:
        attempt: makes an attempt.
        layer: what stands in the slot.
        call: the call that it was given.
        task: the caller's.
        before: how many cancellations it had when the slot was entered.
        told: who is told of a retry.
        latest: the call of the latest attempt.
        count: how many there were.
        is_under_way: whether one is being made.
        is_over: whether the layer has returned.
    """

    attempt: Callable[[Any, asyncio.Task[Any]], Awaitable[Any]]
    layer: Layer
    call: Any
    task: asyncio.Task[Any]
    before: int
    told: Notifications
    latest: Any
    count: int = 0
    is_under_way: bool = False
    is_over: bool = False

    async def __call__(self, call: Any) -> Any:
        """Try; again, if it was tried before."""
        if self.task.cancelling() > self.before:
            raise asyncio.CancelledError  # whoever swallowed the cancellation does not go on with it
        if call is not self.call:
            _check_passed_on(self.layer, self.call, call)
            for name in call.values:
                if getattr(call, name) is not getattr(self.call, name):
                    raise PluginError(f"{self.layer} replaced {name}, which is encoded by then: do it in another hook")
        if self.is_under_way or self.is_over:
            why = "before the one before was done" if self.is_under_way else "after it had returned"
            raise PluginError(f"{self.layer} called proceed {why}: what an attempt may do depends on the one before")
        self.latest = call
        self.count += 1
        self.is_under_way = True
        try:
            return await self.attempt(call, self.task)
        finally:
            self.is_under_way = False

    def time(self) -> float:
        """Return the event loop's time, in seconds: what deadlines are counted by."""
        return self.task.get_loop().time()

    def announce(self, error: Exception, delay: float) -> None:
        """Say that it will be tried again: calls ``grctl_retry_scheduled`` of all plugins.

        Args:
            error: why.
            delay: in how many seconds.

        """
        self.told.retry_scheduled(self.call, error, delay, self.count + 1)


def _no_task() -> asyncio.Task[Any]:
    raise EventLoopError("a retry plugin needs a task of asyncio around the call: use asyncio.run() or create_task()")


def _check_passed_on(layer: Layer, given: Any, passed: Any) -> None:
    """Make sure that a layer goes on with the very call, or attempt, or one that was made of it by ``replace``."""
    if type(passed) is type(given):
        if isinstance(given, Attempt):
            if passed.call is given.call and passed.command.id == given.command.id:
                return
        elif not isinstance(given, BaseCall) or (passed.state is given.state and passed.run == given.run):
            return
    raise PluginError(
        f"{layer} passed {passed!r} on instead of {given!r}: pass what came, or what its replace(...) returned"
        if isinstance(passed, Attempt | BaseCall)
        else f"{layer} passed {type(passed).__name__} on instead of {given!r}"
    )


def _wrong_result(layer: Layer, call: Any, result: Any, returns: type, *, proceeded: bool) -> PluginError:
    return PluginError(
        f"{layer} returned {type(result).__name__}, not {returns.__name__}, "
        f"{'after' if proceeded else 'without'} calling proceed with {call!r}: "
        "does a 'return await proceed(call)' lack its return?"
    )


def _note(error: Exception, layer: Layer, call: Any, *, proceeded: bool) -> None:
    """Say where an error of somebody else's comes from; once, and not what was said when it was raised earlier."""
    if isinstance(error, GrctlError):
        return
    said, begin = repr(call), "raised through "
    notes = [note for note in getattr(error, "__notes__", ()) if not (note.startswith(begin) and said not in note)]
    if not any(note.startswith(begin) for note in notes):
        notes.append(f"{begin}{layer} {'after' if proceeded else 'before'} it called proceed with {said}")
    error.__notes__ = notes


def _not_done(layer: Layer, going: Any, call: Any) -> PluginError:
    """Return what a layer ends in that leaves before what it began is done: it would be done later, or never."""
    if inspect.iscoroutine(going) and inspect.getcoroutinestate(going) == inspect.CORO_CREATED:
        going.close()
    return PluginError(f"{layer} returned before proceed was done with {call!r}: write 'await proceed(call)'")


def _around(layer: Layer, inner: Inner, what: str, *, outermost: bool) -> Inner:
    """Return ``inner`` with a layer around it. The outermost raises a cancellation again that a layer swallowed."""
    function = layer.function
    returns = _RETURNS.get(what)
    returns_nothing = what in _RETURNS and returns is None
    current_task = CurrentTask() if outermost else None

    async def enter(call: Any) -> Any:
        going: Any = None  # the coroutine that proceed began
        is_over = False

        def proceed(passed: Any) -> Awaitable[Any]:
            """Go on, once: a second time would do the operation twice. A closure costs half of what an object does."""
            nonlocal going
            if going is not None or is_over:
                when = "a second time" if going is not None else "after it had returned"
                raise PluginError(f"{layer} called proceed {when}: only grctl_retry may do that again, while it runs")
            if passed is not call:
                _check_passed_on(layer, call, passed)
            begun = going = inner(passed)
            return begun

        task = None if current_task is None else current_task()
        before = 0 if task is None else task.cancelling()
        try:
            result = await function(call, proceed)
        except Exception as error:
            _note(error, layer, call, proceeded=going is not None)
            if task is not None and task.cancelling() > before:
                raise asyncio.CancelledError from error
            raise
        finally:
            is_over = True
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
        if going is not None and going.cr_frame is not None:
            raise _not_done(layer, going, call)
        if returns_nothing:
            return None
        if returns is not None and not isinstance(result, returns):
            raise _wrong_result(layer, call, result, returns, proceeded=going is not None)
        return result

    return enter


def compose(layers: Sequence[Layer], innermost: Inner, what: str) -> Inner:
    """Return ``innermost`` with the layers around it, the first listed outermost.

    Args:
        layers: what stands around it.
        innermost: what the operation does.
        what: the operation's name, or ``"attempt"``: says what the layers must return.

    """
    composed = innermost
    for position, layer in reversed(list(enumerate(layers))):
        composed = _around(layer, composed, what, outermost=position == 0)
    return composed


def _looks(call: CommandCall) -> bool:
    """Whether a doubt is looked into once without being asked."""
    return call.changes_state and call.settles_doubt


async def resolve_once(call: Any, proceed: Inner) -> Any:
    """Fill an empty retry slot, for operations that can be looked into: a doubt is looked into once.

    The second proceed reaches the reconcile step, which knows of the doubt: it looks, and repeats only what
    it found not done. What it cannot resolve raises the doubt again.
    """
    try:
        return await proceed(call)
    except DeliveryUnknownError:
        return await proceed(call)


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """The layers of one client.

    Attributes:
        operations: for each operation's name, its layers, outermost first.
        retry: what stands in the retry slot; None for nothing.
        attempts: layers around each command on the wire, outermost first.
        notifications: who is told what.
        current_task: finds the caller's task.
    """

    operations: Mapping[str, Sequence[Layer]] = {}
    retry: Layer | None = None
    attempts: Sequence[Layer] = ()
    notifications: Notifications = Notifications()
    current_task: CurrentTask = msgspec.field(default_factory=CurrentTask)

    def around_operation(self, operation: str, innermost: Inner) -> Inner:
        """Compose one operation's layers around what it does."""
        return compose(self.operations.get(operation, ()), innermost, operation)

    def around_attempt(self, innermost: Inner) -> Inner:
        """Compose the attempt layers around what sends a command."""
        return compose(self.attempts, innermost, "attempt")

    def check_retry(self, retry: object) -> object:
        """Return what a caller passed as ``retry=``.

        Raises:
            InvalidInputError: it asks for retries, and there is no retry plugin.

        """
        if self.retry is None and retry is not None and retry is not DEFAULT_RETRY:
            raise InvalidInputError("retry= needs a retry plugin: Client(connection=..., plugins=['retry'])")
        return retry

    def try_with(self, attempt: Callable[..., Awaitable[Any]], call: CommandCall) -> Awaitable[Any]:
        """Make the attempts that the retry slot wants; where it leaves a doubt that it never looked into, one look."""
        if self.retry is not None and call.retry is not None:
            return self._retry(self.retry, attempt, call)
        return resolve_once(call, attempt) if _looks(call) else attempt(call)

    async def _retry(self, layer: Layer, attempt: Callable[..., Awaitable[Any]], call: CommandCall) -> Any:
        task = self.current_task() or _no_task()
        before = task.cancelling()
        proceed = RetryProceed(attempt, layer, call, task, before, self.notifications, call)
        try:
            result = await layer.function(call, proceed)
        except Exception as error:
            if task.cancelling() > before:
                raise asyncio.CancelledError from error
            if not isinstance(error, DeliveryUnknownError) or proceed.count > 1 or not _looks(call):
                _note(error, layer, call, proceeded=proceed.count > 0)
                raise
            return await attempt(proceed.latest, task)
        finally:
            proceed.is_over = True
        if task.cancelling() > before:  # it swallowed the cancellation
            raise asyncio.CancelledError
        if proceed.is_under_way:
            raise _not_done(layer, None, call)
        returns = _RETURNS.get(call.operation)
        if returns is not None and not isinstance(result, returns):
            raise _wrong_result(layer, call, result, returns, proceeded=proceed.count > 0)
        return result
