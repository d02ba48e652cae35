"""What is wrong with the synchronous client: the comments say what each checker says of the statement below them."""

from __future__ import annotations

from concurrent.futures import Future

import grctl.sync
from grctl.protocols import Connection
from grctl.sync import Client, Handle, connect
from grctl_engine import ManualClock


def wrong_calls(client: Client, handle: Handle[str], connection: Connection) -> None:
    # expect mypy: Argument "connection" to "Client" has incompatible type "grctl_core.protocols.Connection"; expected "grctl.sync.connection.Connection"
    # expect pyright: "grctl_core.protocols.Connection" is not assignable to "grctl.sync.connection.Connection"
    Client(connection=connection)
    # expect mypy: has incompatible type "int"; expected "str"
    # expect pyright: "Literal[7]" is not assignable to "str"
    handle.send(7)
    # expect mypy: Too few arguments
    # expect pyright: Argument missing for parameter "event_name"
    handle.send()
    # expect mypy: Unexpected keyword argument "wait"
    # expect pyright: No parameter named "wait"
    handle.cancel("enough", wait=True)
    # expect mypy: has incompatible type "int"; expected "bool"
    # expect pyright: "Literal[7]" is not assignable to "bool"
    handle.history(follow=7)
    # expect mypy: has incompatible type "int"; expected "str | None"
    # expect pyright: "Literal[7]" is not assignable to "str"
    client.list_workflows(workflow_type=7)
    # expect mypy: No overload variant of "start_workflow" of "Client" matches argument types "str", "str", "str"
    # expect pyright: "Literal['ignore']" is not assignable to type "OnConflict"
    client.start_workflow("ProcessOrder", "order-1", on_conflict="ignore")


def in_its_loop(connection: grctl.sync.Connection) -> None:
    # expect mypy: Argument "days" to "run" of "Connection" has incompatible type "str"; expected "float"
    # expect pyright: "Literal['thirty']" is not assignable to "float"
    connection.run(ManualClock().advance, days="thirty")
    # expect mypy: Argument 1 to "run" of "Connection" has incompatible type "Callable[[], datetime]"
    # expect pyright: Function return type "datetime" is incompatible with type "Awaitable[R@run]"
    connection.run(ManualClock().now)


def wrong_results(handle: Handle[str]) -> None:
    # expect mypy: Incompatible types in assignment (expression has type "str", variable has type "int")
    # expect pyright: "str" is not assignable to "int"
    _number: int = handle.result()
    # expect mypy: Incompatible types in assignment (expression has type "Future[str]", variable has type "Future[int]")
    # expect pyright: "Future[str]" is not assignable to "Future[int]"
    _future: Future[int] = handle.future


async def awaited(handle: Handle[str]) -> None:
    # expect mypy: Incompatible types in "await" (actual type "str", expected type "Awaitable[Any]")
    # expect pyright: "str" is not awaitable
    await handle.result()
    # expect mypy: "Connection" has no attribute "__aexit__"
    # expect pyright: Object of type "Connection" cannot be used with "async with"
    async with connect("memory://"):
        pass
