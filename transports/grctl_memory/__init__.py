"""The memory transport: a connection to an embedded engine in this process."""

from grctl_memory.connection import MemoryConnection, open_url

__all__ = ["MemoryConnection", "open_url"]
