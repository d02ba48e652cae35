"""Helpers for tests of programs that use this library."""

from grctl.dev_server import DevServer, DevServerError

__all__ = ["DevServer", "DevServerError"]
