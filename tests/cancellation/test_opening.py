"""Connecting, closing and a development server are given up at any moment: no task, no socket, no process is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import grctl
from grctl import Client
from grctl.dev_server import temporary as temporary_module
from grctl.testing import DevServer
from grctl_nats import NatsConnection

from .flows import workflows
from .places import PATIENCE, ServerThread
from .stepping import Moment, Stepped


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files: of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(temporary_module, "_ENOUGH_MEMORY", 2**80)  # not in memory: that is no folder of this test's
    return tmp_path


def moments(*, is_full: bool, first: int = 12, most: int = 100_000) -> Iterator[int]:
    """Yield after how many turns of the event loop to interrupt: all of the first, then ever fewer."""
    turn = 0
    while turn < most:
        yield turn
        turn += 1 if turn < (200 if is_full else first) else max(1, turn // (10 if is_full else 2))


def sockets() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(f"{entry.name} {entry.readlink()}")
    return {name for name in found if "socket:" in name}


def children() -> set[str]:
    """Return the processes that this one has started, and they."""
    try:
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
    except OSError:
        return set()


@contextlib.asynccontextmanager
async def nothing_left(temporary: Path) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Give a function that waits until all is as it was."""
    tasks, files, processes = asyncio.all_tasks(), sockets(), children()

    async def check() -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            left: list[Any] = [
                asyncio.all_tasks() - tasks - {asyncio.current_task()},
                sockets() - files,
                children() - processes,
                set(temporary.iterdir()),
            ]
            if not any(left):
                return
            assert asyncio.get_running_loop().time() < deadline, f"left behind: {left}"
            await asyncio.sleep(0.005)

    yield check
    await check()


async def given_up(opening: Awaitable[Any], turns: int) -> Any:
    """Cancel after so many turns of the loop; return what it came to, None where it was cancelled."""
    task = asyncio.ensure_future(opening)
    for _ in range(turns):
        if task.done():
            break
        await asyncio.sleep(0)
    was_done = task.done()
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.done(), "a cancellation did not end it"
    if task.cancelled():
        assert not was_done
        return None
    return task.result()


@pytest.mark.parametrize("kind", ["connect", "Connection.open", "Connection.connect"])
async def test_opening(temporary: Path, server: ServerThread, is_full: bool, kind: str) -> None:
    openers: dict[str, Callable[[str], Awaitable[Any]]] = {
        "connect": grctl.connect,
        "Connection.open": NatsConnection.open,
        "Connection.connect": NatsConnection.connect,
    }
    async with nothing_left(temporary) as check:
        for turns in moments(is_full=is_full):
            opened = await given_up(openers[kind](server.url), turns)
            if kind == "Connection.connect":  # the attempt is everybody's: it goes on
                assert await openers[kind](server.url) is (opened or await openers[kind](server.url))
                opened = opened or await openers[kind](server.url)
                await opened.close()
                if turns > 12:
                    break
            elif opened is not None:
                await opened.close()
                break
            await check()


async def test_opening_where_nobody_answers(temporary: Path, is_full: bool) -> None:
    """Something takes the connection and says nothing."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    listener = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with nothing_left(temporary):
        for turns in moments(is_full=is_full, most=200):
            assert await given_up(NatsConnection.open(url, connect_timeout=PATIENCE), turns) is None
    listener.close()
    await listener.wait_closed()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "with work in flight"])
async def test_closing(temporary: Path, url: str | None, busy: bool) -> None:
    """It goes on when its caller is cancelled: who asks again waits for the same end."""
    for at in range(1, 5):
        for moment in Moment:
            async with nothing_left(temporary):
                connection = await grctl.connect(url or "memory://", **({} if url else {"workflows": workflows}))
                client = Client(connection=connection, plugins=[])
                work: list[asyncio.Future[Any]] = []
                if busy:
                    handle = await client.start_workflow("Order", f"close-{os.urandom(4).hex()}")
                    work = [
                        asyncio.ensure_future(handle.outcome()),
                        asyncio.ensure_future(handle.send("note")),
                        asyncio.ensure_future(client.get_handle(handle.run_info.wf_id)),
                        handle.future,
                        asyncio.ensure_future(followed(handle)),
                    ]
                    await asyncio.sleep(0)

                async def close(connection: Any = connection) -> None:
                    await connection.close(grace=5)

                async def stepped(at: int = at, moment: Moment = moment) -> None:
                    await Stepped(close(), at, moment, lambda: closing.cancel())  # noqa: B023, PLW0108

                closing = asyncio.ensure_future(stepped())
                await asyncio.wait([closing], timeout=PATIENCE)
                assert closing.done()
                await asyncio.wait_for(connection.close(), PATIENCE)
                async with asyncio.timeout(PATIENCE):
                    for error in await asyncio.gather(*work, return_exceptions=True):
                        assert error is None or not isinstance(error, Exception) or isinstance(error, grctl.GrctlError)
                with pytest.raises(grctl.ConnectionClosedError):
                    await client.get_handle("any")


async def followed(handle: Any) -> None:
    async for _ in handle.history(follow=True):
        pass


async def test_leaving_a_block_that_is_cancelled(temporary: Path, url: str | None) -> None:
    async with nothing_left(temporary):
        entered = asyncio.Event()

        async def block() -> None:
            async with await grctl.connect(
                url or "memory://", **({} if url else {"workflows": workflows})
            ) as connection:
                handle = await Client(connection=connection).start_workflow("Order", f"b-{os.urandom(4).hex()}")
                entered.set()
                await handle.result()

        task = asyncio.ensure_future(block())
        await entered.wait()
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.cancelled()


async def test_a_development_server(temporary: Path, is_full: bool) -> None:
    """Its broker is a process, and its files are a folder."""

    async def enter() -> bool:
        async with DevServer(workflows):
            pass
        return True

    async with nothing_left(temporary) as check:
        for turns in moments(is_full=is_full, first=3):
            if await given_up(enter(), turns):
                break
            await check()


@pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.name.lower())
async def test_stopping_a_development_server(temporary: Path, moment: Moment) -> None:
    """It goes on when its caller is cancelled: who asks again waits for the same end."""
    async with nothing_left(temporary):
        server = DevServer(workflows)
        await server.start()
        stopping: asyncio.Task[None] = asyncio.ensure_future(
            as_coroutine(Stepped(server.stop(), 1, moment, lambda: stopping.cancel()))  # noqa: PLW0108
        )
        await asyncio.wait([stopping], timeout=PATIENCE)
        assert stopping.done()
        await asyncio.wait_for(server.stop(), PATIENCE)
        assert not server.broker.running


async def as_coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
