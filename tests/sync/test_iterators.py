"""Iterators that nobody finishes leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading

import pytest

from grctl import WorkflowNotFoundError
from grctl.sync.iteration import iterate

from .conftest import tasks_of, until


@pytest.fixture
def idle(client):
    """Check that the event loop comes to rest again, with nothing that follows a run."""
    before = _followers(client.connection)
    yield
    gc.collect()
    until(lambda: _followers(client.connection) <= before)


def _followers(connection) -> int:
    """Count the asynchronous generators of the loop that are open."""
    return len(connection._thread._loop._asyncgens)


def test_left_by_break(client, unique_id, idle):
    handle = client.start_workflow("WaitsForApproval", unique_id())
    for _ in handle.history(follow=True):
        break


def test_left_by_an_exception(client, unique_id, idle):
    handle = client.start_workflow("WaitsForApproval", unique_id())
    with pytest.raises(ZeroDivisionError):
        for _ in handle.history(follow=True):
            _ = 1 / 0


def test_closed(client, unique_id, idle):
    handle = client.start_workflow("WaitsForApproval", unique_id())
    with contextlib.closing(handle.history(follow=True)) as events:
        assert next(events).kind
    with pytest.raises(StopIteration):
        next(events)


def test_never_begun(client, unique_id, idle):
    handle = client.start_workflow("WaitsForApproval", unique_id())
    handle.history(follow=True)
    client.list_workflows()


def test_in_a_cycle(client, unique_id, idle):
    handle = client.start_workflow("WaitsForApproval", unique_id())
    cycle = [handle.history(follow=True)]
    cycle.append(cycle)
    next(cycle[0])
    del cycle


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_items_at_once(memory, at_once):
    """Each comes once, in its order; an error comes after all that came before it."""

    async def five(error):
        for number in range(5):
            yield number
        if error:
            raise WorkflowNotFoundError("its records are gone")

    assert list(iterate(memory.connection, lambda: five(error=False), at_once=at_once)) == [0, 1, 2, 3, 4]
    items = iterate(memory.connection, lambda: five(error=True), at_once=at_once)
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(WorkflowNotFoundError):
        next(items)
    assert list(items) == []


def test_its_error_ends_it(memory):
    async def breaks():
        yield 1
        raise WorkflowNotFoundError("its records are gone")

    items = iterate(memory.connection, breaks)
    assert next(items) == 1
    with pytest.raises(WorkflowNotFoundError):
        next(items)
    with pytest.raises(StopIteration):
        next(items)


def test_closing_waits_for_a_step_that_was_given_up(memory):
    """It is still cleaning up when the iterator is to be closed."""
    done = threading.Event()

    async def slow():
        try:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            await asyncio.get_running_loop().create_future()
            yield 1
        finally:
            await asyncio.sleep(0.01)
            done.set()

    with pytest.raises(KeyboardInterrupt):
        next(iterate(memory.connection, slow))
    assert done.wait(60)
    until(lambda: not tasks_of(memory.connection))
