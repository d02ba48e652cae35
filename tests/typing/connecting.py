"""Connections: opened by url or by their class, used with `async with`, and listened to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import assert_type

import grctl
from grctl.client.client import Client
from grctl.protocols import Capabilities, Connection, ConnectionEvent
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_memory import MemoryConnection

wf = Workflow(workflow_type="Approval")


@wf.start()
async def start(ctx: Context, order_id: str) -> Directive:
    ctx.store.put("order_id", order_id)
    return ctx.next.wait()


@wf.event()
async def approve(ctx: Context, by: str = "nobody") -> Directive:
    return ctx.next.complete({"approved_by": by})


async def by_url() -> None:
    async with await grctl.connect("memory://", workflows=[wf]) as connection:
        client = Client(connection=connection)
        assert_type(client.connection, Connection)
        assert_type(connection.capabilities, Capabilities)


async def by_class() -> None:
    async with await MemoryConnection.open(workflows=[wf]) as connection:
        assert_type(connection, MemoryConnection)
        heard: list[ConnectionEvent] = []
        remove = connection.add_listener(heard.append)
        assert_type(remove, Callable[[], None])
        print(Client(connection=connection))


async def by_hand() -> None:
    connection = await grctl.connect("memory://", workflows=[wf])
    await connection.close(grace=1.0)


async def main() -> None:
    await by_url()
    await by_class()
    await by_hand()


if __name__ == "__main__":
    asyncio.run(main())
