"""Helpers for tests of programs that use this library."""

from grctl.dev_server import DevServer, DevServerError
from grctl.dev_server.faults import Fault, Faults, What

__all__ = ["DevServer", "DevServerError", "Fault", "Faults", "What"]
