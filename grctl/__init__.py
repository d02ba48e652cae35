"""grctl-client: start durable workflows on Ground Control, send them events, wait for their results.

>>> import grctl
>>> connection = await grctl.connect("memory://", workflows=[...])
>>> client = grctl.Client(connection=connection)

Every public name is here, and loads what it needs when it is first used.

PYTEST_DONT_REWRITE: it may be imported before pytest is, which marks all packages of a plugin's distribution.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from grctl_core import __version__
from grctl_core.collision import refuse_collision

if TYPE_CHECKING:
    from grctl.connecting import connect as connect
    from grctl_core.client import WorkflowClient as Client
    from grctl_core.client import WorkflowClient as WorkflowClient
    from grctl_core.durations import Duration as Duration
    from grctl_core.errors import AccessDeniedError as AccessDeniedError
    from grctl_core.errors import ConnectionClosedError as ConnectionClosedError
    from grctl_core.errors import ConnectionFailedError as ConnectionFailedError
    from grctl_core.errors import DecodeError as DecodeError
    from grctl_core.errors import DeliveryUnknownError as DeliveryUnknownError
    from grctl_core.errors import EventLoopError as EventLoopError
    from grctl_core.errors import GrctlError as GrctlError
    from grctl_core.errors import InvalidInputError as InvalidInputError
    from grctl_core.errors import NotDeliveredError as NotDeliveredError
    from grctl_core.errors import NotSentError as NotSentError
    from grctl_core.errors import PluginError as PluginError
    from grctl_core.errors import RefusedError as RefusedError
    from grctl_core.errors import ServerError as ServerError
    from grctl_core.errors import UnsupportedOperationError as UnsupportedOperationError
    from grctl_core.errors import WorkflowAlreadyRunningError as WorkflowAlreadyRunningError
    from grctl_core.errors import WorkflowCancelledError as WorkflowCancelledError
    from grctl_core.errors import WorkflowError as WorkflowError
    from grctl_core.errors import WorkflowFinishedError as WorkflowFinishedError
    from grctl_core.errors import WorkflowNotFoundError as WorkflowNotFoundError
    from grctl_core.errors import WorkflowTerminatedError as WorkflowTerminatedError
    from grctl_core.errors import WorkflowTimeoutError as WorkflowTimeoutError
    from grctl_core.errors import WorkflowTypeNotRegisteredError as WorkflowTypeNotRegisteredError
    from grctl_core.handle import WorkflowHandle as WorkflowHandle
    from grctl_core.history import HistoryEvent as HistoryEvent
    from grctl_core.hooks import Plugin as Plugin
    from grctl_core.hooks import hookimpl as hookimpl
    from grctl_core.outcome import ErrorDetails as ErrorDetails
    from grctl_core.outcome import Outcome as Outcome
    from grctl_core.run import RunInfo as RunInfo
    from grctl_core.run import RunRef as RunRef
    from grctl_core.run import RunStatus as RunStatus
    from grctl_core.workflow_ref import WorkflowRef as WorkflowRef

_HOMES = {
    "grctl.connecting": ("connect",),
    "grctl_core.client": ("WorkflowClient",),
    "grctl_core.durations": ("Duration",),
    "grctl_core.errors": (
        "AccessDeniedError",
        "ConnectionClosedError",
        "ConnectionFailedError",
        "DecodeError",
        "DeliveryUnknownError",
        "EventLoopError",
        "GrctlError",
        "InvalidInputError",
        "NotDeliveredError",
        "NotSentError",
        "PluginError",
        "RefusedError",
        "ServerError",
        "UnsupportedOperationError",
        "WorkflowAlreadyRunningError",
        "WorkflowCancelledError",
        "WorkflowError",
        "WorkflowFinishedError",
        "WorkflowNotFoundError",
        "WorkflowTerminatedError",
        "WorkflowTimeoutError",
        "WorkflowTypeNotRegisteredError",
    ),
    "grctl_core.handle": ("WorkflowHandle",),
    "grctl_core.history": ("HistoryEvent",),
    "grctl_core.hooks": ("Plugin", "hookimpl"),
    "grctl_core.outcome": ("ErrorDetails", "Outcome"),
    "grctl_core.run": ("RunInfo", "RunRef", "RunStatus"),
    "grctl_core.workflow_ref": ("WorkflowRef",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: PLE0604 - the names of the table above
    "Client",
    "__version__",
    *_HOME_OF,
]

refuse_collision(__file__)


def __getattr__(name: str) -> Any:
    if name == "Client":
        value = __getattr__("WorkflowClient")
    elif name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'grctl' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
