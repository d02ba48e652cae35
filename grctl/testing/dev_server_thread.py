"""DevServerThread: a development server in a thread of its own, for tests that are synchronous or share one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from grctl.dev_server import DevServer, DevServerError
from grctl.testing.run_report import runs_report
from grctl_core.errors import InvalidInputError
from grctl_engine.definition import Workflow

__all__ = ["DevServerThread"]

T = TypeVar("T")

_STOP_SECONDS = 30.0
"""How long stopping may take, until the thread is left to itself."""


class DevServerThread:
    """A :class:`grctl.testing.DevServer` with an event loop and a thread of its own: nothing of it has to be awaited.

    The pytest fixture ``grctl_dev_server`` is one. It starts when it is first asked for its :attr:`url`, and can be
    shared by any number of event loops and threads. The workflows run in its thread.

    >>> with DevServerThread([order]) as server:
    ...     connection = Connection.connect(server.url)
    """

    def __init__(self, workflows: Iterable[Workflow] = (), **options: Any) -> None:
        """Prepare a server.

        Args:
            workflows: the workflow types that it hosts; :meth:`host` adds more.
            **options: as for ``DevServer``.

        """
        self._workflows = list(workflows)
        self._options = options
        self._server: DevServer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "not started" if self._server is None else repr(self._server)
        return f"<DevServerThread: {state}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def host(self, *workflows: Workflow) -> None:
        """Run these workflow types too; to be said before the server starts.

        Raises:
            InvalidInputError: it has started: types are registered at its start.

        """
        if self._server is not None:
            raise InvalidInputError("the server has started, and hosts what it was given by then: host() comes first")
        for workflow in workflows:
            if not any(workflow is hosted for hosted in self._workflows):
                self._workflows.append(workflow)

    @property
    def url(self) -> str:
        """Where clients connect to. The server is started by the first look.

        Raises:
            DevServerError: it cannot start, as nats-server is not installed; or it was stopped.

        """
        return self.start()

    def start(self) -> str:
        """Start, where that was not done; return when commands are answered. Errors as :attr:`url`."""
        with self._lock:
            if self._stopped:
                raise DevServerError("this server was stopped: make another one")
            if self._server is None:
                self._server = self._launch()
            return self._server.url

    def stop(self) -> None:
        """Stop the server and its broker: running steps are cancelled, and what is stored is gone. Idempotent."""
        with self._lock:
            self._stopped = True
            server, thread = self._server, self._thread
            if server is None or thread is None or not thread.is_alive():
                return
            try:
                self._call(server.stop(grace=0)).result(_STOP_SECONDS)
            finally:
                self._end_thread()

    def kill_broker(self) -> None:
        """Kill the broker, as a crash would."""
        self._call(self._running().kill_broker()).result()

    def restart_broker(self) -> None:
        """Start the broker again, on the same port and the same store; stop it first if it runs."""
        self._call(self._running().restart_broker()).result()

    def pause(self) -> None:
        """Stop the broker from doing anything, without any connection noticing."""
        self._running().pause()

    def resume(self) -> None:
        """Let the broker go on."""
        self._running().resume()

    def report(self, width: int = 100) -> str:
        """Draw the timelines of the runs, those that did not complete first, five at most."""
        server = self._server
        if server is None or self._stopped:
            return ""

        async def report() -> str:
            engine = server.engine
            return runs_report([(info, engine.events(info.ref)) for info in engine.runs()], engine.clock.now(), width)

        return self._call(report()).result(_STOP_SECONDS)

    def _running(self) -> DevServer:
        self.start()
        if self._server is None:
            raise AssertionError("start() has made it")
        return self._server

    def _launch(self) -> DevServer:
        begun: Future[asyncio.AbstractEventLoop] = Future()

        def run() -> None:
            with asyncio.Runner() as runner:
                loop = runner.get_loop()
                loop.call_soon(begun.set_result, loop)
                loop.run_forever()

        self._thread = threading.Thread(target=run, name="grctl-dev-server", daemon=True)
        self._thread.start()
        self._loop = begun.result()
        try:
            return self._call(self._open()).result()
        except BaseException:
            self._end_thread()
            raise

    async def _open(self) -> DevServer:
        server = DevServer(self._workflows, **self._options)
        await server.start()
        return server

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        if self._loop is None:
            coroutine.close()
            raise DevServerError("this server does not run")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _end_thread(self) -> None:
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_STOP_SECONDS)
