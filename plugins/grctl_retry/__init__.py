"""Retry for grctl clients: what failed is tried again where that is safe. docs/plugins/retry.md tells it to users.

>>> client = grctl.Client(connection=connection, plugins=["retry"])
"""

from grctl_retry.plugin import RetryPlugin
from grctl_retry.policy import Retry

__all__ = ["Retry", "RetryPlugin"]
