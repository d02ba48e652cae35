"""TemporaryFolder: a broker's store that goes with the server, also when the server's process is killed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from grctl.dev_server import keeper
from grctl.dev_server.broker import LOCK

__all__ = ["TemporaryFolder"]

_ENOUGH_MEMORY = 1024**3


class TemporaryFolder:
    """A folder that a keeper process removes, at :meth:`remove` or when our process is gone.

    Attributes:
        path: where it is.
    """

    def __init__(self) -> None:
        # In memory where there is plenty: a batch takes a third of the time.
        memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of our own in it
        folder: str | None = None
        with contextlib.suppress(OSError):
            if shutil.disk_usage(memory).free > _ENOUGH_MEMORY:
                folder = str(memory)
        self.path = Path(tempfile.mkdtemp(prefix="grctl-dev-", dir=folder))
        command = [sys.executable, "-I", "-S", keeper.__file__, str(self.path), str(self.path / LOCK)]
        self._keeper = subprocess.Popen(  # noqa: S603 - our own command line
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )

    def __repr__(self) -> str:
        return f"<TemporaryFolder: {self.path}>"

    async def remove(self) -> None:
        """Remove it. Its broker has been stopped. Idempotent."""
        if self._keeper.stdin is not None and not self._keeper.stdin.closed:
            # Not by closing alone: a process that ours has forked may hold the other end too.
            with contextlib.suppress(OSError):  # somebody has ended the keeper
                self._keeper.stdin.write(keeper.NOW)
                self._keeper.stdin.close()
        await asyncio.shield(asyncio.to_thread(self._keeper.wait))
        shutil.rmtree(self.path, ignore_errors=True)
