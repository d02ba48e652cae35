"""Calls: one frozen object for each operation by the user, on its way through the layers.

Layers of plugins see calls, and may pass another one on: ``proceed(call.replace(payload=...))``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias, TypeVar

import msgspec

from grctl_core.durations import optional_timedelta, to_seconds
from grctl_core.errors import InvalidInputError
from grctl_core.headers import NO_HEADERS, check_headers
from grctl_core.notifications import NO_STATE
from grctl_core.protocols import OnConflict
from grctl_core.run import RunRef
from grctl_core.run_end import RunEnd

__all__ = [
    "DEFAULT_RETRY",
    "BaseCall",
    "Call",
    "CallState",
    "CancelCall",
    "CommandCall",
    "DescribeCall",
    "QueryCall",
    "ResultCall",
    "RetryChoice",
    "SendCall",
    "StartCall",
    "TerminateCall",
]


class RetryChoice(Enum):
    """What ``retry=`` says besides an option of the retry plugin's own."""

    DEFAULT = "default"


DEFAULT_RETRY: Final[Literal[RetryChoice.DEFAULT]] = RetryChoice.DEFAULT
"""As the retry plugin is configured; with none, not at all."""


class CallState(dict[str, Any]):
    """What plugins keep with one call: a dict, by the plugin's name. A replaced call has the same one.

    Attributes:
        attempts: how many commands have been sent for the call so far, looks at the run included.
    """

    __slots__ = ("attempts",)

    def __init__(self) -> None:
        self.attempts = 0


_NUMBERS = (float, int)
PartT = TypeVar("PartT", bound="CommandCall")


class BaseCall(msgspec.Struct, frozen=True, kw_only=True):
    """What all calls have.

    Attributes:
        run: the run that it is for; of a start, the run that it would make.
        state: what plugins keep with this call.
        handle_state: what they kept with the start, or get_handle, that made the handle.
    """

    operation: ClassVar[str]
    replaceable: ClassVar[tuple[str, ...]] = ()
    """The fields that :meth:`replace` takes."""
    values: ClassVar[tuple[str, ...]] = ()
    """Those of them that are encoded before the retry slot: it may not replace them."""

    run: RunRef
    state: CallState = msgspec.field(default_factory=CallState)
    handle_state: Mapping[str, Any] = NO_STATE

    @property
    def workflow_id(self) -> str:
        """The workflow id."""
        return self.run.wf_id

    @property
    def run_id(self) -> str:
        """The run id, a ULID; empty where the call is for whichever run is the latest (get_handle)."""
        return self.run.run_id

    @property
    def workflow_type(self) -> str | None:
        """The workflow type; None where it is not known (get_handle)."""
        return self.run.wf_type

    @property
    def attempts(self) -> int:
        """How many commands have been sent for it so far, looks at the run included."""
        return self.state.attempts

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values: those that :attr:`replaceable` names.

        Raises:
            InvalidInputError: a field cannot be replaced, or not by this value.

        """
        for name, value in changes.items():
            if name not in self.replaceable:
                raise InvalidInputError(
                    f"{name!r} of a {self.operation} call cannot be replaced: what can is "
                    f"{', '.join(self.replaceable) or 'nothing'}"
                )
            if name == "headers":
                changes[name] = check_headers(value)
            elif name == "request_timeout":
                changes[name] = to_seconds(name, value)
            elif name == "workflow_timeout":
                changes[name] = optional_timedelta(name, value)
            elif name == "deadline" and not (value is None or (isinstance(value, _NUMBERS) and not math.isnan(value))):
                raise InvalidInputError(f"deadline must be a number, by loop.time(), not {type(value).__name__}")
        return msgspec.structs.replace(self, **changes)

    def __repr__(self) -> str:
        """Show ids, never a payload."""
        kind = f" of type {self.workflow_type!r}" if self.workflow_type else ""
        run = f" run {self.run_id}" if self.run_id else ""
        return f"<{type(self).__name__} workflow {self.workflow_id!r}{kind}{run}>"


class CommandCall(BaseCall, frozen=True, kw_only=True):
    """What all calls have that send commands.

    Attributes:
        request_timeout: seconds that one attempt may take.
        deadline: when the call is given up at the latest, also in the middle of an attempt, by the event loop's clock
            (``loop.time()``); None for never. A retry plugin sets it.
        headers: message headers of the operation's own commands. Ground Control ignores them.
        retry: what the caller passed as ``retry=``.
    """

    changes_state: ClassVar[bool] = True
    """Whether the operation changes something; a describe and a query do not."""
    settles_doubt: ClassVar[bool] = True
    """Whether proceeding again after a DeliveryUnknownError can settle it."""
    replaceable: ClassVar[tuple[str, ...]] = ("request_timeout", "deadline", "headers")

    request_timeout: float
    deadline: float | None = None
    headers: Mapping[str, str] = NO_HEADERS
    retry: object = DEFAULT_RETRY

    def part(self, kind: type[PartT], **fields: Any) -> PartT:
        """Return a call of another operation that is a part of this one: with its state, headers and bounds."""
        return kind(
            state=self.state,
            request_timeout=self.request_timeout,
            deadline=self.deadline,
            headers=self.headers,
            retry=self.retry,
            **fields,
        )


class StartCall(CommandCall, frozen=True, kw_only=True):
    """Start a run. ``workflow_input`` is the value, not yet encoded."""

    operation: ClassVar[str] = "start"
    values: ClassVar[tuple[str, ...]] = ("workflow_input", "workflow_timeout")
    replaceable: ClassVar[tuple[str, ...]] = (*CommandCall.replaceable, *values)

    workflow_input: object = None
    workflow_timeout: timedelta | None = None
    on_conflict: OnConflict = "raise"


class SendCall(CommandCall, frozen=True, kw_only=True):
    """Send an event. ``payload`` is the value, not yet encoded."""

    operation: ClassVar[str] = "send"
    values: ClassVar[tuple[str, ...]] = ("payload",)
    replaceable: ClassVar[tuple[str, ...]] = (*CommandCall.replaceable, *values)

    event_name: str
    payload: object = None
    check_event: bool = True
    idempotent: bool = False

    @property
    def settles_doubt(self) -> bool:  # type: ignore[override]  # a send's depends on the caller's word
        """Whether proceeding again after a DeliveryUnknownError can settle it: only where it may arrive twice."""
        return self.idempotent


class CancelCall(CommandCall, frozen=True, kw_only=True):
    """Cancel a run."""

    operation: ClassVar[str] = "cancel"

    reason: str = ""


class TerminateCall(CommandCall, frozen=True, kw_only=True):
    """Terminate a run."""

    operation: ClassVar[str] = "terminate"

    reason: str = ""


class DescribeCall(CommandCall, frozen=True, kw_only=True):
    """Ask for a run's record; of the latest run of the id where ``run_id`` is empty."""

    operation: ClassVar[str] = "describe"
    changes_state: ClassVar[bool] = False


class QueryCall(CommandCall, frozen=True, kw_only=True):
    """Ask a query handler. ``arguments`` are values, not yet encoded."""

    operation: ClassVar[str] = "query"
    changes_state: ClassVar[bool] = False
    values: ClassVar[tuple[str, ...]] = ("arguments",)
    replaceable: ClassVar[tuple[str, ...]] = (*CommandCall.replaceable, *values)

    query_name: str
    arguments: dict[str, Any]


class ResultCall(BaseCall, frozen=True, kw_only=True):
    """Wait for a run's end. ``end`` is where the handle keeps it, and nothing for plugins."""

    operation: ClassVar[str] = "result"

    end: RunEnd


Call: TypeAlias = StartCall | SendCall | CancelCall | TerminateCall | DescribeCall | QueryCall | ResultCall
