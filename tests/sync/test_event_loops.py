"""In a thread whose event loop is running, each call says what to use instead."""

from __future__ import annotations

import asyncio

import pytest

from grctl import EventLoopError
from grctl.sync import Client, Connection, connect
from grctl.worker import Context
from grctl.workflow import Directive, Workflow


async def test_each_call_is_refused(memory):
    handle = await asyncio.to_thread(memory.start_workflow, "WaitsForApproval", "id")
    for call in (
        lambda: connect("memory://"),
        Connection.connect,
        Connection.open,
        lambda: Client(connection=memory.connection),
        lambda: memory.start_workflow("WaitsForApproval", "id-2"),
        lambda: memory.run_workflow("WaitsForApproval", "id-2"),
        lambda: memory.get_handle("id"),
        memory.list_workflows,
        handle.result,
        handle.outcome,
        lambda: handle.future,
        lambda: handle.send("approve"),
        handle.history,
        handle.describe,
        handle.cancel,
        handle.terminate,
        memory.connection.close,
    ):
        with pytest.raises(EventLoopError, match=r"use the asynchronous client here, grctl\.connect.*'await'"):
            call()
    assert handle.run_info.wf_id == "id"


async def test_a_thread_beside_the_loop_may(memory):
    assert await asyncio.to_thread(memory.run_workflow, "ReturnsItsInput", "id", 7) == 7


def test_in_the_connections_own_thread():
    """There it would wait for itself."""
    wf = Workflow(workflow_type="CallsItself")
    clients = []

    @wf.start()
    async def start(ctx: Context) -> Directive:
        return ctx.next.complete(clients[0].get_handle("id").describe().wf_id)

    with connect("memory://", workflows=[wf]) as connection:
        clients.append(Client(connection=connection))
        outcome = clients[0].start_workflow("CallsItself", "id").outcome()
    assert outcome.error is not None
    assert outcome.error.type == "EventLoopError"
