"""Forks with a connection open, and says what parent and children can do. Run by test_fork.py."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import traceback

from grctl_core.commands import DescribeCommand
from grctl_core.errors import EventLoopError
from grctl_nats import NatsConnection

url = sys.argv[1]


async def ask(connection: NatsConnection) -> bool:
    await connection.request(DescribeCommand(wf_id="w"), timeout=30)
    return True


async def own() -> bool:
    asyncio.get_running_loop().slow_callback_duration = 1_000.0
    async with await NatsConnection.open(url) as connection:
        return await ask(connection)


def in_child(connection: NatsConnection) -> None:
    try:
        ask(connection).send(None)  # the coroutine of the parent would go on like this
    except EventLoopError as error:
        print("child, same loop:", type(error).__name__)

    async def with_the_old() -> None:
        asyncio.get_running_loop().slow_callback_duration = 1_000.0
        for name, call in (
            ("old connection in a new loop", ask(connection)),
            ("close of the old connection", connection.close()),
        ):
            try:
                await call
            except EventLoopError as error:
                print(f"child, {name}:", type(error).__name__)
        another = await NatsConnection.connect(url)
        print("child, connect() is another connection:", another is not connection)
        print("child, its own connection:", await ask(another))
        await another.close()

    asyncio.run(with_the_old())
    sys.stdout.flush()


def in_multiprocessing() -> None:
    print("child, of multiprocessing:", asyncio.run(own()), flush=True)


async def main() -> None:
    asyncio.get_running_loop().slow_callback_duration = 1_000.0  # a busy machine is no finding
    connection = await NatsConnection.connect(url)
    await ask(connection)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            in_child(connection)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    while os.waitpid(child, os.WNOHANG)[0] == 0:  # noqa: ASYNC222 - it does not wait
        await asyncio.sleep(0.01)
    process = multiprocessing.get_context("fork").Process(target=in_multiprocessing)
    process.start()
    while process.is_alive():
        await asyncio.sleep(0.01)
    process.join()
    print("parent, while children were there:", await ask(connection))
    await asyncio.sleep(0.2)
    print("parent, afterwards:", await ask(connection))
    await connection.close()


asyncio.run(main())
