"""Keeper: removes a temporary folder when whoever made it is gone, however that ended.

A program of its own, as only another process survives a SIGKILL of ours: it waits for the end of its standard input,
which the kernel closes with us. It needs nothing but the standard library, and is started without ``site``.

    python -I -S keeper.py FOLDER LOCK
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NOW = b"."
"""Written by one who has stopped the broker."""

_BROKER_STOPS_WITHIN = 6.0


def main(folder: str, lock: str) -> None:
    """Wait until the folder is to go, then remove it.

    Args:
        folder: what to remove.
        lock: path of the file that is locked as long as a broker is in the folder.

    """
    if not os.read(0, 1):  # nobody has told us: the broker may be there still
        if fcntl is None:
            time.sleep(_BROKER_STOPS_WITHIN)
        elif os.path.exists(lock):  # noqa: PTH110 - pathlib takes long to load
            with open(lock, "ab") as file:  # noqa: PTH123
                fcntl.flock(file, fcntl.LOCK_EX)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    # Ctrl-C in a terminal goes to all: the one who started us decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(*sys.argv[1:])
