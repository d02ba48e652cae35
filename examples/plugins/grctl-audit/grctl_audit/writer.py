"""Writer: a thread that writes to an SQLite file, in order, as many rows at once as have queued up."""

from __future__ import annotations

import atexit
import contextlib
import queue
import sqlite3
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TypeAlias

__all__ = ["Writer"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS starts (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    who TEXT,
    workflow_type TEXT,
    workflow_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    result TEXT
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS starts_run_id ON starts (run_id)"
_MOST_AT_ONCE = 1_000

Work: TypeAlias = "tuple[str, tuple[object, ...], Future[None]]"


class Writer:
    """Writes statements in the order in which they come. Nothing is opened before the first.

    Args:
        file: the database.
        patience: seconds to wait while another program has it locked; how long an exit waits for what is queued.
    """

    def __init__(self, file: Path, patience: float) -> None:
        self._file = file
        self._patience = patience
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ending: threading.Thread | None = None  # closed, and perhaps still at work on what it had
        self._lock = threading.Lock()

    def write(self, statement: str, values: tuple[object, ...]) -> Future[None]:
        """Have a statement carried out; the future is done when it is on the disk, or has failed."""
        done: Future[None] = Future()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, args=(self._ending,), name="grctl-audit", daemon=True)
                self._thread.start()
                atexit.register(self._at_exit)
            self._queue.put((statement, values, done))
        return done

    def close(self) -> None:
        """Wait until all that was asked for is done, and end the thread. It can be used again, meanwhile too."""
        with self._lock:
            if self._thread is not None:
                self._queue.put(None)
                self._ending, self._thread = self._thread, None
            ending = self._ending
        if ending is not None:
            ending.join()
        with self._lock:
            if self._thread is None:
                atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        with self._lock:
            if self._thread is not None:
                self._queue.put(None)
                self._ending, self._thread = self._thread, None
        if self._ending is not None:
            self._ending.join(self._patience)

    def _run(self, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()  # or the order would be lost
        database: sqlite3.Connection | None = None
        last = False
        while not last:
            batch, last = self._next_batch()
            try:
                if database is None:
                    database = self._open()
                with database:  # one transaction: all of it or nothing
                    for statement, values, _ in batch:
                        database.execute(statement, values)
            except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
                if database is not None:
                    with contextlib.suppress(sqlite3.Error):
                        database.close()
                    database = None
                for _, _, done in batch:
                    done.set_exception(error)
            else:
                for _, _, done in batch:
                    done.set_result(None)
        if database is not None:
            database.close()

    def _next_batch(self) -> tuple[list[Work], bool]:
        """Return what is queued, once there is something; and whether that is the last."""
        work = self._queue.get()
        batch: list[Work] = []
        while work is not None:
            # From here on it cannot be cancelled any more; what was cancelled before is left out.
            if work[2].set_running_or_notify_cancel():
                batch.append(work)
            if len(batch) == _MOST_AT_ONCE:
                return batch, False
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._file, timeout=self._patience)
        try:
            with database:
                database.execute("PRAGMA journal_mode = WAL")  # who reads does not lock us out
                database.execute("PRAGMA synchronous = FULL")  # on the disk when a transaction has ended
                database.execute(_SCHEMA)
                database.execute(_INDEX)
        except BaseException:
            database.close()
            raise
        return database
