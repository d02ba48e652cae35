"""Processes: interrupted, forked, or at their end with a connection that nobody closed. None hangs or complains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import grctl.sync

from .conftest import NATS, open_on

HEAD = """
import os, sys, threading, time
import grctl
from grctl.sync import Client, Connection, connect
from contract.workflows import workflows

def open_connection():
    return connect("memory://", workflows=workflows) if url == "memory://" else connect(url)

url = sys.argv[1]
"""
on_each = pytest.mark.parametrize("url", ["memory://", "nats://"])
FORKS = ["-W", "ignore:This process .* is multi-threaded:DeprecationWarning"]
"""Python warns of each fork beside other threads, from 3.12 on. It is what is tested here."""


def start(url, code, *arguments, options=()):
    return subprocess.Popen(
        [sys.executable, "-W", "error", *options, "-c", HEAD + textwrap.dedent(code), _address(url), *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def run(url, code, *arguments, options=()):
    """Run a program; it must end by itself, and write nothing to stderr. Return what it printed."""
    process = start(url, code, *arguments, options=options)
    try:
        printed, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
    assert complaints == ""
    assert process.returncode == 0
    return printed.splitlines()


def _address(url):
    return NATS.url() if url == "nats://" else url


@on_each
@pytest.mark.parametrize("wait", ["handle.result()", "handle.future.result()", "list(handle.history(follow=True))"])
def test_ctrl_c(url, wait, unique_id):
    code = f"""
        client = Client(connection=open_connection())
        handle = client.start_workflow("WaitsForApproval", sys.argv[2])
        def say_when_it_waits():
            while sys._current_frames()[threading.main_thread().ident].f_code.co_name != "wait":
                time.sleep(0.001)
            print("waiting", flush=True)

        try:
            threading.Thread(target=say_when_it_waits).start()
            {wait}
        except KeyboardInterrupt:
            print(handle.describe().status, flush=True)
            raise
        """
    name = unique_id()
    process = start(url, code, name)
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    printed, complaints = process.communicate(timeout=60)
    assert printed == "running\n"
    assert complaints.startswith("Traceback")
    assert complaints.endswith("\nKeyboardInterrupt\n")
    assert "Exception ignored" not in complaints
    assert process.returncode == -signal.SIGINT
    if url == "nats://":
        with open_on(NATS) as connection:
            handle = grctl.sync.Client(connection=connection).get_handle(name)
            assert handle.run_info.status is grctl.RunStatus.RUNNING
            handle.terminate()


EVERYTHING_AT_ONCE = """
        import atexit

        atexit.register(lambda: print(handle.describe().status))
        future, events = handle.future, handle.history(follow=True)
        next(events)

        def ask_again_and_again():
            while True:
                handle.describe()

        def follow():
            for event in client.get_handle(sys.argv[2]).history(follow=True):
                pass

        for wait in (handle.result, handle.future.result, follow, ask_again_and_again):
            threading.Thread(target=wait, daemon=True).start()
        connection.itself = connection
        dropped = open_connection()
        dropped.itself = dropped
        """


@on_each
@pytest.mark.parametrize("more", ["", EVERYTHING_AT_ONCE], ids=["idle", "everything at once"])
def test_exit_without_close(url, unique_id, more):
    code = """
        connection = open_connection()
        client = Client(connection=connection)
        handle = client.start_workflow("WaitsForApproval", sys.argv[2])
        """
    assert run(url, code + more, unique_id()) == (["running"] if more else [])


def test_exit_while_the_loop_is_blocked():
    """A step that blocks the embedded engine's loop holds up the exit, for a bounded time."""
    code = """
        import grctl.worker, grctl.workflow
        from grctl.sync import loop_thread
        loop_thread._AT_EXIT = 0.2
        wf = grctl.workflow.Workflow(workflow_type="Blocks")
        began = threading.Event()

        @wf.start()
        async def start(ctx: grctl.worker.Context):
            began.set()
            time.sleep(3600)

        client = Client(connection=connect("memory://", workflows=[wf]))
        client.start_workflow("Blocks", "id")
        began.wait()

        import atexit
        atexit.unregister(loop_thread._end_all)
        atexit.register(client.connection.close)  # runs after the next one
        atexit.register(loop_thread._end_all)
        """
    assert run("memory://", code) == []


def test_exit_while_the_broker_is_away():
    code = """
        from grctl.testing import DevServer
        import asyncio
        loop = asyncio.new_event_loop()
        server = DevServer(workflows)
        loop.run_until_complete(server.__aenter__())
        serving = threading.Thread(target=loop.run_forever, daemon=True)
        serving.start()
        client = Client(connection=connect(server.url.replace("127.0.0.1", "localhost")))
        lost = threading.Event()
        client.connection.add_listener(lambda event: event.name == "DISCONNECTED" and lost.set())
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        serving.join()
        loop.close()
        lost.wait()
        """
    assert run("memory://", code) == []


@on_each
def test_a_fork(url, unique_id):
    code = """
        connection = open_connection()
        client = Client(connection=connection)
        handle = client.start_workflow("WaitsForApproval", sys.argv[2])
        future, events = handle.future, handle.history(follow=True)
        next(events)
        child = os.fork()
        if not child:
            connection.close()
            for call in (handle.result, lambda: handle.future, lambda: next(events),
                         lambda: client.start_workflow("WaitsForApproval", "id")):
                try:
                    call()
                except grctl.EventLoopError as error:
                    print(type(error).__name__, "open a new connection here" in str(error), flush=True)
            del events, handle, client, connection
            with open_connection() as own:
                handle = Client(connection=own).start_workflow("WaitsForApproval", sys.argv[2] + "-child")
                handle.send("approve")
                print("child", handle.result()["approved"], flush=True)
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        handle.send("approve")
        print("parent", handle.result()["approved"], future.result()["approved"], len(list(events)) > 3)
        """
    assert run(url, code, unique_id(), options=FORKS) == ["EventLoopError True"] * 4 + [
        "child True",
        "parent True True True",
    ]


def test_multiprocessing_by_fork(unique_id):
    code = """
        import multiprocessing

        def work(name):
            client = Client(connection=Connection.connect(url))
            return client.run_workflow("ReturnsItsInput", name, name)

        if __name__ == "__main__":
            mine = Connection.connect(url)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                names = [sys.argv[2] + str(number) for number in range(4)]
                print(pool.map(work, names) == names)
                pool.close()
                pool.join()
            print(Connection.connect() is mine, work(sys.argv[2]) == sys.argv[2])
        """
    assert run("nats://", code, unique_id(), options=FORKS) == ["True", "True True"]


def test_dropped_without_close():
    code = """
        import gc, warnings
        connection = open_connection()
        client = Client(connection=connection)
        handle = client.start_workflow("WaitsForApproval", "id")
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "grctl-sync"]
        del client, connection
        gc.collect()
        print(handle.describe().status, "the handle keeps it open")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del handle
            gc.collect()
        print(*[(warning.category.__name__, str(warning.message)[-16:]) for warning in caught])
        thread.join()
        """
    assert run("memory://", code) == [
        "running the handle keeps it open",
        "('ResourceWarning', 'was never closed')",
    ]
