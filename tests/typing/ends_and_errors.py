"""The documented order of excepts, and what the errors carry."""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

import grctl
from grctl import RunRef
from grctl.models.errors import (
    DeliveryUnknownError,
    GrctlError,
    RefusedError,
    WorkflowAlreadyRunningError,
    WorkflowCancelledError,
    WorkflowError,
    WorkflowTimeoutError,
)
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


async def tell(handle: grctl.WorkflowHandle[dict[str, Any]]) -> str:
    try:
        result = await handle.future
    except WorkflowError as error:
        assert_type(error.type, str)
        assert_type(error.message, str)
        assert_type(error.stack_trace, str)
        assert_type(error.run, RunRef | None)
        return f"failed: {error.type}"
    except WorkflowTimeoutError as error:
        assert_type(error.run, RunRef | None)
        return "exceeded its workflow_timeout"
    except TimeoutError:
        return "my waiting took too long"
    except WorkflowCancelledError as error:
        assert_type(error.reason, str)
        return f"cancelled: {error.reason}"
    except asyncio.CancelledError:
        print("my own task was cancelled")
        raise
    assert_type(result, dict[str, Any])
    return f"completed: {result}"


async def order(client: grctl.Client, wf_id: str) -> str | None:
    try:
        await client.start_workflow("Approval", wf_id, {"order_id": "1"})
    except WorkflowAlreadyRunningError as error:
        assert_type(error.run_id, str | None)
        return error.run_id
    except RefusedError as error:
        assert_type(error.code, int | None)
        assert_type(error.detail, str)
    except DeliveryUnknownError as error:
        assert_type(error.operation, str | None)
        assert_type(error.run, RunRef | None)
    except ConnectionError:
        print("not connected")
    except ValueError as error:
        print("wrong input", error)
    except GrctlError as error:
        print("anything else of ours", error)
    return None


async def main() -> None:
    connection = await grctl.connect("memory://", workflows=[wf])
    client = grctl.Client(connection=connection)
    print(await order(client, "order-1"), await order(client, "order-1"))
    handle = await client.get_handle("order-1", result_type=dict[str, Any])
    await handle.cancel("enough")
    print(await tell(handle))
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
