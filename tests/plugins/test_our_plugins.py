"""The suite for plugins of other people, on our own three."""

from __future__ import annotations

import asyncio

from grctl.testing import PluginContract
from grctl_logging import LoggingPlugin
from grctl_retry import Retry, RetryPlugin
from grctl_tracing import TracingPlugin


class TestTracing(PluginContract):
    def make_plugin(self):
        return TracingPlugin()


class TestLogging(PluginContract):
    def make_plugin(self):
        return LoggingPlugin()


class TestRetry(PluginContract):
    def make_plugin(self):
        return RetryPlugin(Retry(attempts=3), sleep=lambda _: asyncio.sleep(0))
