"""Helpers for tests of programs, plugins and transports that use this library.

:class:`ManualEngine` is an embedded engine whose time a test moves; :class:`DevServer` a whole server, and
:class:`DevServerThread` one in a thread of its own; :class:`RecordingTransport` a connection that answers as a test
has written down. :class:`PluginContract` and :class:`TransportContract` are suites to run on a plugin or a transport of
one's own (they need pytest). The pytest plugin, package ``grctl_pytest``, has fixtures of the first three.

Each name loads what it needs when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grctl.dev_server import DevServer as DevServer
    from grctl.dev_server import DevServerError as DevServerError
    from grctl.dev_server.faults import Fault as Fault
    from grctl.dev_server.faults import Faults as Faults
    from grctl.dev_server.faults import What as What
    from grctl.testing.answers import Answer as Answer
    from grctl.testing.answers import accept as accept
    from grctl.testing.answers import answer as answer
    from grctl.testing.answers import delay as delay
    from grctl.testing.answers import duplicate as duplicate
    from grctl.testing.answers import fail as fail
    from grctl.testing.answers import hold as hold
    from grctl.testing.answers import lose_reply as lose_reply
    from grctl.testing.answers import lose_request as lose_request
    from grctl.testing.answers import refuse as refuse
    from grctl.testing.dev_server_thread import DevServerThread as DevServerThread
    from grctl.testing.engine_run import EngineRun as EngineRun
    from grctl.testing.manual_engine import ManualEngine as ManualEngine
    from grctl.testing.plugin_contract import PluginContract as PluginContract
    from grctl.testing.recording import RecordedAttempt as RecordedAttempt
    from grctl.testing.recording import RecordingTransport as RecordingTransport
    from grctl.testing.transport_contract import TransportContract as TransportContract

_HOMES = {
    "grctl.dev_server": ("DevServer", "DevServerError"),
    "grctl.dev_server.faults": ("Fault", "Faults", "What"),
    "grctl.testing.answers": (
        "Answer",
        "accept",
        "answer",
        "delay",
        "duplicate",
        "fail",
        "hold",
        "lose_reply",
        "lose_request",
        "refuse",
    ),
    "grctl.testing.dev_server_thread": ("DevServerThread",),
    "grctl.testing.engine_run": ("EngineRun",),
    "grctl.testing.manual_engine": ("ManualEngine",),
    "grctl.testing.plugin_contract": ("PluginContract",),
    "grctl.testing.recording": ("RecordedAttempt", "RecordingTransport"),
    "grctl.testing.transport_contract": ("TransportContract",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_SUITES = ("grctl.testing.plugin_contract", "grctl.testing.transport_contract")

__all__ = [  # noqa: PLE0604 - the names of the table above
    *_HOME_OF,
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'grctl.testing' has no attribute {name!r}")
    if home in _SUITES and home not in sys.modules:
        try:
            import pytest
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                f"{name} is a suite for pytest: install pytest to use it", name="pytest"
            ) from None

        pytest.register_assert_rewrite(home)  # its asserts then say what they have compared
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
