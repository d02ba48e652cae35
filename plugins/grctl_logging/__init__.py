"""Logging for grctl clients: one record for each operation, retry, end of a run and change of the connection.

docs/plugins/logging.md has the records, their levels, and how to get the caller's own records to name the run.

PYTEST_DONT_REWRITE: it may be imported before pytest is, which marks all packages of a plugin's distribution.
"""

from grctl_logging.context import RunContextFilter
from grctl_logging.plugin import LoggingPlugin

__all__ = ["LoggingPlugin", "RunContextFilter"]
