"""Hooks: what a plugin may implement. docs/plugins/reference.md has the table of what fires when.

A plugin is an object with a ``name`` and some of these methods. :class:`Plugin` is an optional base class: with it a
type checker knows the signatures. A method that is named ``grctl_...`` is a hook; the marker ``hookimpl`` may stand on
it and changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import pluggy

from grctl_core.attempt import Attempt
from grctl_core.calls import Call, CommandCall, ResultCall, SendCall, StartCall
from grctl_core.commands import Reply
from grctl_core.outcome import Outcome
from grctl_core.run import RunInfo, RunRef

if TYPE_CHECKING:
    from grctl_core.protocols import Connection, ConnectionEvent

__all__ = ["Plugin", "Proceed", "RetryingProceed", "hookimpl"]

hookimpl = pluggy.HookimplMarker("grctl")
"""Marks a method as a hook; optional. It takes no options: the order is that of the plugin list."""

_hookspec = pluggy.HookspecMarker("grctl")

Call_contra = TypeVar("Call_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Proceed(Protocol[Call_contra, Result_co]):
    """What goes on with a call: ``result = await proceed(call)``. May be called once."""

    def __call__(self, call: Call_contra, /) -> Awaitable[Result_co]:
        """Go on with the call, or with what ``call.replace(...)`` returned."""


class RetryingProceed(Protocol):
    """The proceed of ``grctl_retry``: may be called again."""

    def __call__(self, call: CommandCall, /) -> Awaitable[Any]:
        """Try, or try again."""

    def time(self) -> float:
        """Return the event loop's time, in seconds: what ``call.deadline`` is counted by."""

    def announce(self, error: Exception, delay: float) -> None:
        """Tell all plugins that the call will be tried again in ``delay`` seconds, because of ``error``."""


class Plugin:
    """Base class of plugins, optional. Implement what you need; nothing is called that you do not implement.

    Attributes:
        name: a name of its own: it stands in errors, in ``client.plugins``, and in a plugin list.
        listed_after: names of plugins that have to stand before this one in a list; a warning says if they do not.
    """

    name: str
    listed_after: ClassVar[tuple[str, ...]] = ()

    @_hookspec
    async def grctl_operation(self, call: Call, proceed: Proceed[Any, Any]) -> Any:
        """Around every operation: start, send, cancel, terminate, describe, query, result. Once per call."""

    @_hookspec
    async def grctl_start(self, call: StartCall, proceed: Proceed[StartCall, RunInfo]) -> RunInfo:  # type: ignore[empty-body]
        """Around a start. Returns the record of the run; the handle is made of it."""

    @_hookspec
    async def grctl_send(self, call: SendCall, proceed: Proceed[SendCall, None]) -> None:
        """Around a send."""

    @_hookspec
    async def grctl_result(self, call: ResultCall, proceed: Proceed[ResultCall, Outcome[Any]]) -> Outcome[Any]:  # type: ignore[empty-body]
        """Around the waiting of ``result()``, ``outcome()`` and ``run_workflow``. The end comes as data."""

    @_hookspec
    async def grctl_retry(self, call: CommandCall, proceed: RetryingProceed) -> Any:
        """Around the attempts of a call, all operations but result: may proceed again. One plugin at most has it."""

    @_hookspec
    async def grctl_attempt(self, attempt: Attempt, proceed: Proceed[Attempt, Reply]) -> Reply:  # type: ignore[empty-body]
        """Around each command on the wire."""

    @_hookspec
    def grctl_run_ended(self, run: RunInfo, outcome: Outcome[Any], waited: float, state: Mapping[str, Any]) -> None:
        """A handle that somebody keeps has learned how its run ended.

        Args:
            run: the run's record.
            outcome: how it ended.
            waited: seconds since somebody first looked at the handle's end.
            state: what plugins kept with the start, or get_handle, that made the handle.

        """

    @_hookspec
    def grctl_retry_scheduled(self, call: CommandCall, error: Exception, delay: float, attempt: int) -> None:
        """A call will be tried again.

        Args:
            call: the call.
            error: what the last try ended in.
            delay: in how many seconds.
            attempt: which try it will be: 2 for the first repetition.

        """

    @_hookspec
    def grctl_connection_changed(self, connection: Connection, event: ConnectionEvent) -> None:
        """The client's connection is up again, lost or closed."""

    @_hookspec
    def grctl_log_context(self, run: RunRef) -> AbstractContextManager[object]:  # type: ignore[empty-body]
        """Return what ``with handle.log_context():`` enters."""
