"""The memory transport: a connection to an embedded engine in this process.

PYTEST_DONT_REWRITE: it may be imported before pytest is, which marks all packages of a plugin's distribution.
"""

from grctl_memory.connection import MemoryConnection, open_url

__all__ = ["MemoryConnection", "open_url"]
