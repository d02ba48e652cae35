"""What a type checker finds: each ignored line is an error, and an ignore that nothing needs would be one too."""

from __future__ import annotations

from datetime import timedelta

import grctl
from grctl.protocols import Handle


async def wrong_calls(client: grctl.Client, handle: grctl.WorkflowHandle[str]) -> None:
    grctl.Client(connection="nats://localhost:4225")  # type: ignore[arg-type]
    grctl.Client()  # type: ignore[call-arg]
    await client.start_workflow("Type")  # type: ignore[call-overload]
    await client.start_workflow(7, "id")  # type: ignore[call-overload]
    await client.start_workflow("Type", "id", workflow_timeout="5 minutes")  # type: ignore[call-overload]
    await client.start_workflow("Type", "id", on_conflict="ignore")  # type: ignore[call-overload]
    await client.run_workflow("Type", "id", timeout=5)  # type: ignore[call-overload]
    await client.get_handle("id", result_type="str")  # type: ignore[arg-type]
    await handle.result(timeout="5")  # type: ignore[arg-type]
    await handle.send(7)  # type: ignore[arg-type]
    await handle.cancel(reason=None)  # type: ignore[arg-type]
    client.list_workflows(created_after=timedelta(days=1))  # type: ignore[arg-type]


async def wrong_results(client: grctl.Client, handle: grctl.WorkflowHandle[str]) -> None:
    number: int = await handle.result()  # type: ignore[assignment]
    of_objects: Handle[object] = handle  # type: ignore[assignment]  # T is invariant: a future of it is
    started: grctl.WorkflowHandle[int] = await client.start_workflow("T", "id", result_type=str)  # type: ignore[arg-type]
    print(number, of_objects, started)


async def forgotten_awaits(client: grctl.Client, handle: grctl.WorkflowHandle[str]) -> None:
    handle.send("approve")  # type: ignore[unused-coroutine]
    client.start_workflow("Type", "id")  # type: ignore[unused-coroutine]
    await handle.history()  # type: ignore[misc]
