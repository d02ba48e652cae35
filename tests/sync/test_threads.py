"""One client, many threads: no deadlock, no leak, and an end for everybody when it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from grctl import ConnectionClosedError, InvalidInputError, WorkflowError
from grctl.sync import Client, connect, loop_thread

from .conftest import MEMORY, NATS, open_on, tasks_of, until


def in_threads(count, function):
    """Run a function with the numbers up to ``count``, each in a thread of its own, begun at the same time."""
    begin = threading.Barrier(count)

    def run(number):
        begin.wait()
        return function(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize(("host", "threads", "each"), [(MEMORY, 50, 40), (NATS, 10, 8)], ids=["memory", "nats"])
def test_many_threads(host, threads, each, unique_id):
    with open_on(host) as connection:
        client = Client(connection=connection, request_timeout=60)
        idle = len(tasks_of(connection))
        prefix = unique_id()

        def work(thread):
            ended = []
            for number in range(each):
                handle = client.start_workflow("WaitsForApproval", f"{prefix}-{thread}-{number}", {"qty": number})
                future = handle.future if number % 4 == 0 else None
                if number % 4 == 1:
                    handle.cancel("odd")
                else:
                    handle.send("approve")
                outcome = handle.outcome()
                assert future is None or future.result() == outcome.result
                ended.append((handle.run_info.id, outcome.result and outcome.result["qty"]))
            return ended

        ended = [one for thread in in_threads(threads, work) for one in thread]
        assert len({run for run, _ in ended}) == threads * each
        assert [qty for _, qty in ended] == [None if number % 4 == 1 else number for number in range(each)] * threads
        gc.collect()
        # The watcher of a NATS connection stays for a while after the last wait, with tasks of its own.
        until(lambda: len(tasks_of(connection)) <= idle + 2)
    assert not connection._thread._thread.is_alive()
    assert connection._thread._loop.is_closed()


def test_all_look_at_one_future(memory):
    handle = memory.start_workflow("WaitsForApproval", "watched")
    futures = in_threads(20, lambda _: handle.future)
    assert len(set(futures)) == 1
    handle.send("approve")
    assert in_threads(20, lambda _: handle.result()["approved"]) == [True] * 20


def test_events_of_one_thread_keep_their_order(client, unique_id):
    handle = client.start_workflow("CollectsEvents", unique_id())
    for number in range(10):
        handle.send("add", number)
    handle.send("done")
    assert handle.result() == list(range(10))


def test_all_close_at_once(connection):
    in_threads(8, lambda _: connection.close())
    connection.close()
    assert repr(connection)


def test_closing_ends_all_waits(connection, unique_id):
    client = Client(connection=connection)
    handles = [client.start_workflow("WaitsForApproval", unique_id()) for _ in range(4)]
    ways = [
        handles[0].result,
        handles[1].outcome,
        lambda: list(handles[2].history(follow=True)),
        handles[3].future.result,
    ]
    ended = []

    def wait(way):
        with pytest.raises(ConnectionClosedError):
            way()
        ended.append(way)

    threads = [threading.Thread(target=wait, args=(way,)) for way in ways]
    busy = len(tasks_of(connection))
    for thread in threads:
        thread.start()
    until(lambda: len(tasks_of(connection)) >= busy + 3)
    connection.close(grace=0.1)
    for thread in threads:
        thread.join(60)
    assert len(ended) == 4


def test_use_after_close(connection, unique_id):
    client = Client(connection=connection)
    handle = client.start_workflow("WaitsForApproval", unique_id())
    listing, history = client.list_workflows(), handle.history(follow=True)
    assert next(history).kind
    with pytest.raises(InvalidInputError, match="grace must be above zero"):
        connection.close(grace=-1)
    assert handle.describe()
    connection.close()
    for call in (
        lambda: client.start_workflow("WaitsForApproval", unique_id()),
        lambda: client.get_handle(handle.run_info.wf_id),
        client.list_workflows,
        lambda: Client(connection=connection),
        handle.describe,
        handle.result,
        lambda: handle.send("approve"),
        lambda: next(history),
        lambda: next(listing),
        connection.__enter__,
    ):
        with pytest.raises(ConnectionClosedError, match=r"open a new one with grctl\.sync\.connect"):
            call()
    assert handle.run_info.wf_type == "WaitsForApproval"


def test_two_connections_have_two_threads():
    with connect("memory://") as first, connect("memory://") as second:
        assert first._thread is not second._thread
        assert [thread.name for thread in threading.enumerate()].count("grctl-sync") >= 2


def test_closed_connections_leave_nothing():
    def open_and_close():
        for _ in range(20):
            with open_on(MEMORY) as connection:
                Client(connection=connection).run_workflow("ReturnsItsInput", "id", 7)
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), len(loop_thread._alive)

    before = open_and_close()
    assert all(now <= then for now, then in zip(open_and_close(), before, strict=True))


def test_the_process_has_one_connection_over_nats(monkeypatch, unique_id):
    from grctl.sync import Connection

    monkeypatch.setenv("GRCTL_NATS_SERVERS", NATS.url())
    found = set(in_threads(5, lambda _: Connection.connect()))
    (connection,) = found
    with pytest.warns(UserWarning, match="for a second one call Connection.open"):
        assert Connection.connect("nats://127.0.0.1:1") is connection
    with Connection.open() as other:
        assert other is not connection
    with connection:
        assert Client(connection=connection).run_workflow("ReturnsItsInput", unique_id(), 7) == 7
    with Connection.connect() as anew:
        assert anew is not connection
        assert Client(connection=anew).run_workflow("ReturnsItsInput", unique_id(), 7) == 7


def test_what_exits_in_the_loop_ends_neither_it_nor_a_wait(memory):
    """asyncio lets SystemExit through, out of the loop."""

    async def exits():
        sys.exit("from a callback")

    reported = []
    memory.connection._thread._loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    with pytest.raises(SystemExit, match="from a callback"):
        memory.connection._thread.run(exits)

    async def exits_later():
        asyncio.get_running_loop().call_soon(sys.exit, "from a callback")

    memory.connection._thread.run(exits_later)
    assert memory.run_workflow("ReturnsItsInput", "id", 7) == 7
    assert [type(error) for error in reported] == [SystemExit]


def test_errors_are_freed_at_once(memory):
    handle = memory.start_workflow("FailsByException", "id")
    handle.outcome()
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(WorkflowError):
            handle.result()
        with pytest.raises(WorkflowError) as caught:
            handle.result()
        error = weakref.ref(caught.value)
        del caught
        assert error() is None
    finally:
        gc.enable()
