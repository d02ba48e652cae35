"""Tests of workflows: the type of a result goes from the start of a run to its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

import grctl
from grctl.testing import DevServerThread, EngineRun, ManualEngine
from grctl.workflow import Workflow

order = Workflow(workflow_type="Order")


@dataclass
class Receipt:
    total: float


def grctl_workflows() -> Iterable[Workflow]:
    return [order]


async def test_a_receipt(grctl_engine: ManualEngine) -> None:
    run = await grctl_engine.start("Order", "order-1", {"qty": 1}, timedelta(days=2), result_type=Receipt)
    assert_type(run, EngineRun[Receipt])
    assert_type(await run.completed(within=timedelta(days=1)), Receipt)
    assert_type(await run.ended(), grctl.Outcome[Receipt])
    assert_type(await run.failed("CardDeclined", match="no money"), grctl.ErrorDetails)
    assert_type(await run.cancelled(), str)
    assert_type(run.steps, list[str])
    assert_type(run.history, list[grctl.HistoryEvent])
    assert_type(run.handle, grctl.WorkflowHandle[Receipt])


async def test_plain_data(grctl_engine: ManualEngine) -> None:
    run = await grctl_engine.start(order)
    assert_type(run, EngineRun[Any])
    assert_type(await grctl_engine.run("order-1", result_type=Receipt), EngineRun[Receipt])
    assert_type(await grctl_engine.run(run.handle), EngineRun[Any])


async def bill(client: grctl.Client) -> Receipt:
    return await client.run_workflow("Order", "order-1", result_type=Receipt)


async def test_a_service(grctl_engine: ManualEngine, grctl_client: grctl.Client) -> None:
    assert_type(await grctl_engine.advance_until(bill(grctl_client), within=60), Receipt)
    assert_type(await grctl_client.connection.ping(timeout=1), timedelta)


def test_a_server(grctl_dev_server: DevServerThread) -> None:
    assert_type(grctl_dev_server.url, str)
