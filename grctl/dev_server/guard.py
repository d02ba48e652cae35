"""Guard: starts the broker and stops it when whoever asked for it is gone, however that ended.

A program of its own, as only another process survives a SIGKILL of ours: it waits for the end of its standard input,
which the kernel closes with us. It needs nothing but the standard library, and is started without ``site``.

    python -I -S guard.py nats-server -c nats.conf
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

STOP_SECONDS = 5.0
"""How long the broker may take to stop by itself."""

STOP = b"."
"""Written to stop the broker: the end of the input does not come while a process that ours has forked holds it too."""


def main(command: list[str]) -> int:
    """Run the broker; print its process id first. Return its exit code.

    Args:
        command: the broker's command line.

    """
    broker = subprocess.Popen(  # noqa: S603 - our own command line
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    print(broker.pid, flush=True)  # noqa: T201 - read by the one who started us
    threading.Thread(target=_stop_at_end_of_input, args=(broker,), daemon=True).start()
    return broker.wait()


def _stop_at_end_of_input(broker: subprocess.Popen[bytes]) -> None:
    # Not through sys.stdin: a thread that waits in it holds up the interpreter's end for a second.
    os.read(0, 1)
    if hasattr(signal, "SIGCONT"):
        broker.send_signal(signal.SIGCONT)  # one that was paused could not stop
    broker.terminate()
    try:
        broker.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        broker.kill()


if __name__ == "__main__":
    # Ctrl-C in a terminal goes to all: the one who started us decides when the broker stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(main(sys.argv[1:]))
