"""Retry for grctl clients: what failed is tried again where that is safe. docs/plugins/retry.md tells it to users.

>>> client = grctl.Client(connection=connection, plugins=["retry"])

PYTEST_DONT_REWRITE: it may be imported before pytest is, which marks all packages of a plugin's distribution.
"""

from grctl_retry.plugin import RetryPlugin
from grctl_retry.policy import Retry

__all__ = ["Retry", "RetryPlugin"]
