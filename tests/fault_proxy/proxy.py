"""FaultProxy: the TCP proxy itself. Tests only: it reads plain connections, on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Self
from urllib.parse import urlsplit

from .frames import Direction, Frame, FrameReader
from .rules import Action, Faults, Rule

__all__ = ["FaultProxy", "FaultProxyError"]

Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

_PIECE = 1 << 16
_REMEMBERED = 100_000


class FaultProxyError(ExceptionGroup[Exception]):
    """Something in the proxy itself went wrong, so the test has shown nothing."""

    def derive(self, excs: Sequence[Exception]) -> FaultProxyError:  # type: ignore[override]
        return FaultProxyError(self.message, excs)


class FaultProxy:
    """Stands before a server, at :attr:`url`. Use it with ``async with``; leaving closes all that it has open.

    Leaving raises FaultProxyError when the proxy broke, and AssertionError when a rule has struck nothing and should
    have. What the test raised is told the rules and their seed.

    Args:
        target: URL of the server, as ``nats://127.0.0.1:4222``.
        faults: what goes wrong; more can be added at any time.
        receive_buffer: bytes that the kernel keeps of what comes from the server, about; None for its own choice. With
            a small one a server soon notices that nobody reads.
    """

    def __init__(self, target: str, faults: Faults | None = None, *, receive_buffer: int | None = None) -> None:
        parts = urlsplit(target)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"{target!r} has no host and port")
        self.faults = Faults() if faults is None else faults
        self.errors: list[Exception] = []
        self.accepted = 0
        self._target = (parts.hostname, parts.port)
        self._receive_buffer = receive_buffer
        self._port = 0
        self._server: asyncio.Server | None = None
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._closing = False

    def __repr__(self) -> str:
        return f"<FaultProxy at {self.url}, {len(self._connections)} connections, {self.faults!r}>"

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def open_connections(self) -> int:
        """How many connections there are through it now, half-open ones too."""
        return len(self._connections)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        await self._close()
        if error is not None:
            error.add_note(f"{self.faults!r}")
        if self.errors:
            raise FaultProxyError(f"the fault proxy broke; {self.faults!r}", self.errors)
        if error is None and (idle := self.faults.idle()):
            raise AssertionError(f"these faults have not struck, so nothing was tested: {idle}; {self.faults!r}")

    def cut(self) -> None:
        """Cut all connections that are open now."""
        for connection in list(self._connections):
            connection.abort()

    async def _close(self) -> None:
        assert self._server is not None
        self._closing = True
        self._server.close()
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closing:
            writer.transport.abort()
            return
        self.accepted += 1
        connection = _Connection(self.faults, self.errors, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            await connection.run(self._dial)
        except asyncio.CancelledError:  # by _close() alone; asyncio.streams would log it
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            del self._connections[connection]

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._receive_buffer is None:
            return await asyncio.open_connection(*self._target)
        dialling = socket.socket()
        try:
            dialling.setblocking(False)
            dialling.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)  # before connecting
            await asyncio.get_running_loop().sock_connect(dialling, self._target)
            return await asyncio.open_connection(sock=dialling)
        except BaseException:
            dialling.close()
            raise


class _Side:
    """What is written towards one end."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.turn = asyncio.Lock()

    async def write(self, data: bytes) -> None:
        async with self.turn:
            with contextlib.suppress(OSError):  # that end is gone; whoever reads from it sees it too
                self.writer.write(data)
                await self.writer.drain()

    async def write_slowly(self, data: bytes, pause: Callable[[], Awaitable[object]]) -> None:
        """Write a byte at a time, and let nothing come between them."""
        async with self.turn:
            for number in range(len(data)):
                await pause()
                with contextlib.suppress(OSError):
                    self.writer.write(data[number : number + 1])
                    await self.writer.drain()

    def end(self) -> None:
        """Say that nothing more comes, after what was written."""
        with contextlib.suppress(OSError):
            if self.writer.can_write_eof() and not self.writer.transport.is_closing():
                self.writer.write_eof()

    def abort(self) -> None:
        self.writer.transport.abort()


class _Connection:
    """One connection of a client, and the one to the server that belongs to it."""

    def __init__(
        self,
        faults: Faults,
        errors: list[Exception],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._faults = faults
        self._errors = errors  # the proxy's: what goes there is never lost, however the connection ends
        self._reader = reader
        self._client = _Side(writer)
        self._server: _Side | None = None
        self._requests: dict[str, Frame] = {}
        self._silent = False  # half-open
        self._ending = False  # cut: nothing more is passed on
        self._later: set[asyncio.Task[None]] = set()

    def abort(self) -> None:
        """Cut both sides, at once."""
        self._client.abort()
        if self._server is not None:
            self._server.abort()

    async def run(self, dial: Dial) -> None:
        """Pass on what comes until one side is gone."""
        try:
            try:
                reader, writer = await dial()
            except OSError:
                return  # no server: the client finds its connection closed
            server = self._server = _Side(writer)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(self._reader, server, Direction.TO_SERVER))
                pumps.create_task(self._pump(reader, self._client, Direction.TO_CLIENT))
        finally:
            for task in self._later:
                task.cancel()
            await asyncio.gather(*self._later, return_exceptions=True)
            self.abort()
            for side in (self._client, self._server):
                if side is not None:
                    with contextlib.suppress(OSError):
                        await side.writer.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, to: _Side, direction: Direction) -> None:
        """Pass on what comes from one side until it ends, and then that it has ended."""
        frames = FrameReader(direction)
        try:
            while data := await reader.read(_PIECE):
                if not (self._silent or self._ending):
                    await self._pass(frames.feed(data), to)
        except OSError:  # that side is gone, and not in good order
            if not self._silent:
                self.abort()
        except Exception as error:
            self._errors.append(error)
            self.abort()
        if self._silent:
            if direction is Direction.TO_SERVER:
                self.abort()  # the client has given up
            return
        if frames.rest and not self._ending:
            await to.write(frames.rest)
        to.end()

    async def _pass(self, frames: list[Frame], to: _Side) -> None:
        passing = bytearray()
        for frame in frames:
            seen = self._remember(frame)
            rule = self._faults.strike(seen)
            if rule is None:
                passing += frame.raw
                continue
            await to.write(bytes(passing))
            passing.clear()
            await self._strike(rule, seen, to)
            if self._silent or self._ending:
                return
        await to.write(bytes(passing))

    def _remember(self, frame: Frame) -> Frame:
        """Remember a request by its reply subject; tell a reply what it answers."""
        if frame.direction is Direction.TO_SERVER and frame.reply_to:
            self._requests[frame.reply_to] = frame
            if len(self._requests) > _REMEMBERED:
                del self._requests[next(iter(self._requests))]
        elif frame.verb in {"MSG", "HMSG"} and (request := self._requests.get(frame.subject)) is not None:
            return replace(frame, request=request)
        return frame

    async def _strike(self, rule: Rule, frame: Frame, to: _Side) -> None:
        match rule.action:
            case Action.DROP:
                pass
            case Action.DUPLICATE:
                await to.write(frame.raw * 2)
            case Action.CORRUPT:
                changed = rule.change(frame)
                await to.write(changed.raw if isinstance(changed, Frame) else changed)
            case Action.HALF_OPEN:
                self._silent = True
            case Action.CUT:
                await self._cut(rule, frame, to)
            case Action.THROTTLE:
                await to.write_slowly(frame.raw, lambda: self._faults.sleep(1 / rule.bytes_per_second))
            case Action.DELAY | Action.HOLD:
                if rule.in_order:
                    await self._pass_later(rule, frame, to)
                else:
                    task = asyncio.ensure_future(self._pass_later(rule, frame, to))
                    self._later.add(task)
                    task.add_done_callback(self._was_passed)

    async def _pass_later(self, rule: Rule, frame: Frame, to: _Side) -> None:
        if rule.action is Action.DELAY:
            await self._faults.sleep(rule.seconds)
        else:
            await rule.released()
        if not self._silent and not self._ending:
            await to.write(frame.raw)

    def _was_passed(self, task: asyncio.Task[None]) -> None:
        self._later.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._errors.append(error)
            self.abort()

    async def _cut(self, rule: Rule, frame: Frame, to: _Side) -> None:
        """Cut both sides. What is passed on before must arrive, so that end hears of the end in order.

        Aborting it could take back from it what it has not read yet; it closes by itself when it sees the end.
        """
        if not rule.after:
            self._ending = True
            self.abort()
            return
        await to.write(frame.raw)
        self._ending = True
        to.end()
        (self._server if to is self._client else self._client).abort()  # type: ignore[union-attr]
