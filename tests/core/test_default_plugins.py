"""grctl_core.plugins.add_default_plugin: plugins that stand before every client's list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from grctl_core.client import WorkflowClient
from grctl_core.errors import InvalidInputError
from grctl_core.plugins import add_default_plugin

from .scripted import ScriptedConnection


class Counting:
    """Counts the operations that pass."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen = 0

    async def grctl_operation(self, call: Any, proceed: Any) -> Any:
        self.seen += 1
        return await proceed(call)


@pytest.fixture
def outside() -> Iterator[Counting]:
    plugin = Counting("outside")
    remove = add_default_plugin(plugin)
    yield plugin
    remove()


def names(connection: ScriptedConnection, plugins: Any = None) -> tuple[str, ...]:
    return WorkflowClient(connection=connection, plugins=plugins).plugins.names


async def test_it_runs_around_the_operations_of_every_client(
    connection: ScriptedConnection, outside: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRCTL_PLUGINS", raising=False)
    inner = Counting("inner")
    assert names(connection, [inner]) == ("outside", "inner")
    assert names(connection, []) == ("outside",)
    await WorkflowClient(connection=connection).start_workflow("Order", "order-1")
    await WorkflowClient(connection=connection, plugins=[inner]).start_workflow("Order", "order-2")
    assert (outside.seen, inner.seen) == (2, 1)


async def test_a_client_that_lists_one_of_the_same_name_keeps_its_own(
    connection: ScriptedConnection, outside: Counting
) -> None:
    own = Counting("outside")
    client = WorkflowClient(connection=connection, plugins=[own])
    await client.start_workflow("Order", "order-1")
    assert list(client.plugins) == [own]
    assert (outside.seen, own.seen) == (0, 1)


async def test_taken_back_it_is_gone_for_clients_made_after_that(connection: ScriptedConnection) -> None:
    first, second = Counting("first"), Counting("second")
    remove_first, remove_second = add_default_plugin(first), add_default_plugin(second)
    before = WorkflowClient(connection=connection, plugins=[])
    assert before.plugins.names == ("first", "second")
    remove_first()
    remove_first()
    assert names(connection, []) == ("second",)
    assert before.plugins.names == ("first", "second")
    remove_second()
    assert names(connection, []) == ()


def test_what_cannot_work_is_refused_where_it_is_added(connection: ScriptedConnection, outside: Counting) -> None:
    with pytest.raises(InvalidInputError, match="Counting is a class"):
        add_default_plugin(Counting)
    with pytest.raises(InvalidInputError, match="two plugins are named 'outside'"):
        add_default_plugin(Counting("outside"))
    assert names(connection, []) == ("outside",)


async def test_a_client_with_two_of_a_name_is_still_refused(connection: ScriptedConnection, outside: Counting) -> None:
    with pytest.raises(InvalidInputError, match="two plugins are named 'outside'"):
        names(connection, [Counting("outside"), Counting("outside")])
    with pytest.raises(InvalidInputError, match="is no plugin, or lacks a name"):
        names(connection, [object()])
