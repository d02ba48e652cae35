"""The development server: a real nats-server with the embedded engine behind it, answering the wire protocol.

In code: ``from grctl.testing import DevServer``. In a shell: ``grctl-client dev``.
"""

from grctl.dev_server.errors import DevServerError
from grctl.dev_server.server import DevServer

__all__ = ["DevServer", "DevServerError"]
