"""Loops over histories and over runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import grctl
from grctl import HistoryEvent, RunInfo, RunStatus
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

wf = Workflow(workflow_type="Approval")


@wf.start()
async def start(ctx: Context, order_id: str) -> Directive:
    ctx.store.put("order_id", order_id)
    return ctx.next.wait()


@wf.event()
async def approve(ctx: Context, by: str = "nobody") -> Directive:
    return ctx.next.complete({"approved_by": by})


async def follow(handle: grctl.WorkflowHandle[Any]) -> list[str]:
    events = handle.history(follow=True)
    assert_type(events, AsyncIterator[HistoryEvent])
    kinds: list[str] = []
    async for event in events:
        assert_type(event, HistoryEvent)
        assert_type(event.kind, str)
        assert_type(event.data, dict[str, Any])
        assert_type(event.timestamp, datetime)
        kinds.append(event.kind)
    return kinds


async def overdue(client: grctl.Client) -> list[str]:
    names: list[str] = []
    async for run in client.list_workflows(
        workflow_type="Approval",
        status=RunStatus.RUNNING,
        workflow_id_prefix="order-",
        created_before=datetime.now(UTC) - timedelta(days=1),
    ):
        assert_type(run, RunInfo)
        assert_type(run.status, RunStatus | None)
        assert_type(run.completed_at, datetime | None)
        names.append(run.wf_id)
    return names


async def main() -> None:
    connection = await grctl.connect("memory://", workflows=[wf])
    client = grctl.Client(connection=connection)
    handle = await client.start_workflow("Approval", "order-1", "1")
    following = asyncio.create_task(follow(handle))
    await handle.send("approve")
    print(await following, await overdue(client))
    print([run.wf_id async for run in client.list_workflows(status="completed")])
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
