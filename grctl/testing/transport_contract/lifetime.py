"""A connection from its opening to its closing, and after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from grctl.testing.transport_contract.bench import WAITS, Bench, collect
from grctl.testing.transport_contract.cases import Contract, case
from grctl_core.commands import (
    DescribeCommand,
    Reply,
)
from grctl_core.errors import (
    ConnectionClosedError,
    DeliveryUnknownError,
    EventLoopError,
    InvalidInputError,
    NotSentError,
)
from grctl_core.protocols import ConnectionEvent
from grctl_core.run import RunFilter

__all__ = ["LifetimeCases"]


class LifetimeCases(Contract):
    """Cases about opening and closing."""

    @case
    async def test_two_connections_to_one_server(self, bench: Bench) -> None:
        """They reach the same runs, and closing one leaves the other open."""
        other = await bench.open()
        run = await bench.active()
        reply = await bench.ask(DescribeCommand(wf_id=run.wf_id), other)
        assert reply.run is not None
        assert reply.run.id == run.run_id
        watch = other.watch(run)
        await bench.finish(run)
        assert (await watch).run.id == run.run_id
        await other.close()
        assert (await bench.latest(run.wf_id)).id == run.run_id

    @case
    async def test_async_with_closes(self, bench: Bench) -> None:
        """Also when an error leaves the block."""
        with pytest.raises(ZeroDivisionError):
            async with await bench.open() as connection:
                raise ZeroDivisionError
        with pytest.raises(ConnectionClosedError):
            await bench.ask(DescribeCommand(wf_id=bench.new_id()), connection)

    @case
    async def test_closing_again_and_at_once(self, bench: Bench) -> None:
        """Closing is idempotent; listeners hear of it once, and one that raises disturbs nobody."""
        connection = await bench.open()
        seen: list[ConnectionEvent] = []
        removed: list[ConnectionEvent] = []

        def broken(_: ConnectionEvent) -> None:
            raise RuntimeError("raised by a listener, on purpose")

        connection.add_listener(broken)
        connection.add_listener(seen.append)
        remove = connection.add_listener(removed.append)
        remove()
        remove()
        await asyncio.gather(connection.close(), connection.close(grace=timedelta(seconds=1)))
        await connection.close(grace=0)
        assert seen == [ConnectionEvent.CLOSED]
        assert removed == []

    @case
    async def test_closing_with_no_duration(self, bench: Bench) -> None:
        """A grace that is none is refused, and nothing was closed."""
        run = await bench.ended()
        for grace in (-1, "soon"):
            with pytest.raises(InvalidInputError):
                await bench.connection.close(grace=grace)  # type: ignore[arg-type]
        assert (await bench.latest(run.wf_id)).id == run.run_id

    @case
    async def test_after_closing(self, bench: Bench) -> None:
        """Whatever is asked for ends in a ConnectionClosedError."""
        run = await bench.ended()
        connection = await bench.open()
        await connection.close()

        async def watched() -> object:
            return await connection.watch(run)

        async def followed() -> object:
            return await collect(connection.history(run, follow=False))

        uses: dict[str, Callable[[], Awaitable[object]]] = {
            "request": lambda: connection.request(DescribeCommand(wf_id=run.wf_id), timeout=5),
            "ping": lambda: connection.ping(timeout=5),
            "watch": watched,
            "find_run": lambda: connection.find_run(run),
            "has_begun": lambda: connection.has_begun(run),
            "find_type": lambda: connection.find_type(WAITS),
            "history": followed,
            "list_runs": lambda: collect(connection.list_runs(RunFilter())),
        }
        for name, use in uses.items():
            try:
                result = await use()
            except ConnectionClosedError:
                continue
            pytest.fail(f"{name} gave {result!r} on a connection that was closed")

    @case
    async def test_closing_ends_what_waits(self, bench: Bench) -> None:
        """Watches and histories end in a ConnectionClosedError."""
        run = await bench.active()
        connection = await bench.open()
        watches = [connection.watch(run) for _ in range(3)]
        history = connection.history(run, follow=True)
        await anext(history)
        following = asyncio.create_task(collect(history))
        await connection.close(grace=0)
        ended: list[asyncio.Future[Any]] = [*watches, following]
        for waiting in ended:
            with pytest.raises(ConnectionClosedError):
                await waiting
        await bench.terminate(run)

    @case
    async def test_closing_lets_requests_end(self, bench: Bench) -> None:
        """Whatever the grace, each has one of the fates that there are, and none waits for ever."""
        run = await bench.ended()
        for grace in (30, 0):
            connection = await bench.open()
            asked = [asyncio.create_task(bench.ask(DescribeCommand(wf_id=run.wf_id), connection)) for _ in range(10)]
            await asyncio.sleep(0)
            await connection.close(grace=grace)
            fates = (Reply, ConnectionClosedError, DeliveryUnknownError, NotSentError)
            for result in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(result, fates), f"a request that closing met ended in {result!r}"

    @case
    async def test_another_event_loop(self, bench: Bench) -> None:
        """Refused with an EventLoopError; the connection goes on in its own."""
        run = await bench.ended()

        async def use() -> Any:
            return await bench.connection.request(DescribeCommand(wf_id=run.wf_id), timeout=5)

        async def ping() -> Any:
            return await bench.connection.ping(timeout=5)

        for used in (use, ping):
            with pytest.raises(EventLoopError):
                await asyncio.to_thread(asyncio.run, used())
        assert (await bench.latest(run.wf_id)).id == run.run_id
