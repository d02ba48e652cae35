"""What authors of plugins import: the base class, the marker, and the types of what hooks are given.

docs/plugins/writing.md leads from nothing to an installable plugin.
"""

from grctl_core.attempt import Attempt
from grctl_core.calls import (
    DEFAULT_RETRY,
    Call,
    CallState,
    CancelCall,
    CommandCall,
    DescribeCall,
    QueryCall,
    ResultCall,
    SendCall,
    StartCall,
    TerminateCall,
)
from grctl_core.commands import Reply
from grctl_core.errors import PluginError
from grctl_core.hooks import Plugin, Proceed, RetryingProceed, hookimpl
from grctl_core.outcome import Outcome
from grctl_core.plugin_list import PluginList
from grctl_core.plugins import add_default_plugin
from grctl_core.protocols import Connection, ConnectionEvent
from grctl_core.run import RunInfo, RunRef

__all__ = [
    "DEFAULT_RETRY",
    "Attempt",
    "Call",
    "CallState",
    "CancelCall",
    "CommandCall",
    "Connection",
    "ConnectionEvent",
    "DescribeCall",
    "Outcome",
    "Plugin",
    "PluginError",
    "PluginList",
    "Proceed",
    "QueryCall",
    "Reply",
    "ResultCall",
    "RetryingProceed",
    "RunInfo",
    "RunRef",
    "SendCall",
    "StartCall",
    "TerminateCall",
    "add_default_plugin",
    "hookimpl",
]
