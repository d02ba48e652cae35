"""Ctrl-C ends the waiting at once and cancels the call; the run stays alive."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from grctl import RunStatus
from grctl.plugins import Plugin, hookimpl
from grctl.sync import Client, connect

from .conftest import tasks_of, until


class PressesCtrlC(Plugin):
    """Interrupts the main thread when an operation is under way, and says when that was cancelled."""

    name = "presses-ctrl-c"

    def __init__(self, operation):
        self.operation = operation
        self.cancelled = threading.Event()

    @hookimpl
    async def grctl_operation(self, call, proceed):
        if call.operation != self.operation:
            return await proceed(call)
        press_ctrl_c()
        try:
            return await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def press_ctrl_c():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@pytest.mark.parametrize("operation", ["start", "send", "describe", "cancel", "result"])
def test_the_call_is_cancelled(memory, operation):
    plugin = PressesCtrlC(operation)
    handle = memory.start_workflow("WaitsForApproval", "alive")
    client = Client(connection=memory.connection, plugins=[plugin])
    interrupted = (Client(connection=memory.connection) if operation == "start" else client).get_handle
    with pytest.raises(KeyboardInterrupt):
        if operation == "start":
            client.start_workflow("WaitsForApproval", "new")
        elif operation == "describe":
            interrupted("alive")
        elif operation == "result":
            _handle_of(client, "alive").result()
        elif operation == "send":
            _handle_of(client, "alive").send("approve")
        else:
            _handle_of(client, "alive").cancel()
    assert plugin.cancelled.wait(60)
    assert handle.describe().status is RunStatus.RUNNING
    handle.send("approve")
    assert handle.result()["approved"]


def _handle_of(client, workflow_id):
    return client.start_workflow("WaitsForApproval", workflow_id, on_conflict="attach")


def test_another_threads_wait_goes_on(memory):
    handle = memory.start_workflow("WaitsForApproval", "alive")
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(handle.result)
        until(lambda: len(tasks_of(memory.connection)) >= 1)
        timer = threading.Timer(0.05, press_ctrl_c)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            handle.result()
        handle.send("approve")
        assert other.result()["approved"]


def test_while_connecting():
    """The half-open connection and its thread go too."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with server.accept()[0] as accepted:
                press_ctrl_c()
                assert accepted.recv(1) == b"", "it was closed"

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(KeyboardInterrupt):
            connect(f"nats://127.0.0.1:{server.getsockname()[1]}", connect_timeout=600)
        answering.join(60)
        assert not answering.is_alive()
    for thread in threading.enumerate():
        if thread.name == "grctl-sync":
            thread.join(60)
            assert not thread.is_alive()
