"""The synchronous client: the same calls without ``await``, from any thread. For Django, Flask and scripts.

>>> from grctl.sync import Client, connect
>>> with connect("nats://localhost:4225") as connection:
...     receipt = Client(connection=connection).run_workflow("ProcessOrder", "order-1", {"qty": 2})

The asynchronous client does the work, in an event loop that runs in a thread of the connection's own.
"""

from grctl.sync.client import Client
from grctl.sync.connection import Connection, connect
from grctl.sync.handle import Handle

__all__ = ["Client", "Connection", "Handle", "connect"]
