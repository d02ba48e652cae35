"""The relay: a process between client and broker, whose connections can be cut while the broker goes on.

    python -m benchmarks.relay BROKER_PORT

Prints its port. A line ``cut`` on its standard input ends all connections and refuses new ones, ``open`` takes them
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys


class Relay:
    """Passes bytes on, both ways."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_open = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        if not self._is_open:
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        finally:
            self._writers -= {writer, back}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                writer.write(data)
                await writer.drain()
        writer.close()

    def tell(self, line: str) -> None:
        """Do what a line says."""
        self._is_open = line == "open"
        if not self._is_open:
            for writer in self._writers:
                writer.transport.abort()


async def main(port: int) -> None:
    """Relay until the standard input ends."""
    relay = Relay(port)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        relay.tell(line.strip())
        print("done", flush=True)
    server.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1])))
