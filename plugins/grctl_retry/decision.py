"""Decision: is a call worth another try, by what its error says was known."""

from __future__ import annotations

from grctl_core.calls import CommandCall
from grctl_core.commands import ErrorCode
from grctl_core.errors import (
    AccessDeniedError,
    ConnectionClosedError,
    DeliveryUnknownError,
    EventLoopError,
    GrctlError,
    InvalidInputError,
    NotDeliveredError,
    NotSentError,
    PluginError,
    RefusedError,
    ServerError,
    UnsupportedOperationError,
)

__all__ = ["is_answer", "is_worth_another_try", "sent_nothing"]

_SERVER_FAILED = frozenset({ErrorCode.INTERNAL, ErrorCode.PANIC})
"""The server failed at it, and may do better the next time. All other codes say that the command cannot be done."""

_FINAL = (
    AccessDeniedError,
    ConnectionClosedError,
    EventLoopError,
    InvalidInputError,
    PluginError,
    UnsupportedOperationError,
)
"""A doubt stays where the last try met one of these, and so will the next."""


def is_worth_another_try(error: GrctlError, call: CommandCall) -> bool:
    """Whether trying again is safe, and may help."""
    match error:
        case NotSentError() | NotDeliveredError():
            return True
        case DeliveryUnknownError():
            return call.settles_doubt and not isinstance(_met(error), _FINAL)
        case ServerError():  # at a read, or at the look before a cancel: a change that it fails at is a doubt
            return error.code in _SERVER_FAILED
    return False


def sent_nothing(error: GrctlError) -> bool:
    """Whether the last try cost neither the broker nor the server anything: there was no connection."""
    return isinstance(_met(error), NotSentError)


def is_answer(error: GrctlError) -> bool:
    """Whether the server is well, and said no."""
    return isinstance(error, RefusedError) and error.code not in _SERVER_FAILED


def _met(error: GrctlError) -> GrctlError:
    """Return what the last try met: what the operation makes of that is around it."""
    while isinstance(error.__cause__, GrctlError):
        error = error.__cause__
    return error
