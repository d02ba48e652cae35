"""A shop's orders as a web service: start, approve by webhook, wait, watch.

    pip install "grctl-client[dev-server]" fastapi uvicorn
    uvicorn examples.fastapi_orders.app:app

Its page is at http://127.0.0.1:8000. The workflows run in this process and go with it. With GRCTL_NATS_SERVERS set they
run on the Ground Control server there; for one at the desk: ``grctl-client dev examples.fastapi_orders.workflows``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

import grctl
from examples.fastapi_orders.board import Board
from examples.fastapi_orders.problems import answer_problems, problem
from examples.fastapi_orders.stopping import Stopping
from examples.fastapi_orders.workflows import ORDER, workflows
from grctl.nats.connection import Connection as NatsConnection
from grctl.protocols import Connection

__all__ = ["app"]

PAGE = Path(__file__).with_name("page.html")


class State(TypedDict):
    client: grctl.Client
    board: Board
    stopping: Stopping


async def open_connection() -> Connection:
    if os.environ.get("GRCTL_NATS_SERVERS"):
        return await NatsConnection.open()
    return await grctl.connect("memory://", workflows=workflows)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    """Hold one connection for the whole process, from before its first request until after its last one."""
    async with await open_connection() as connection:
        client = grctl.Client(connection=connection)  # its plugins are those that GRCTL_PLUGINS names
        async with Board(client) as board:
            with Stopping() as stopping:
                yield State(client=client, board=board, stopping=stopping)


app = FastAPI(title="Orders", lifespan=lifespan)
answer_problems(app)


def the_client(request: Request) -> Any:
    return request.state.client


def the_board(request: Request) -> Any:
    return request.state.board


def the_stopping(request: Request) -> Any:
    return request.state.stopping


Client = Annotated[grctl.Client, Depends(the_client)]
TheBoard = Annotated[Board, Depends(the_board)]
TheStopping = Annotated[Stopping, Depends(the_stopping)]


async def find_order(order_id: str, client: Client) -> grctl.WorkflowHandle:
    """Find the order that a path names. WorkflowNotFoundError is answered with 404."""
    return await client.get_handle(f"order-{order_id}")


Order = Annotated[grctl.WorkflowHandle, Depends(find_order)]


class NewOrder(BaseModel):
    order_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    item: str = Field(min_length=1, max_length=100)
    quantity: int = Field(1, ge=1, le=1000)


class Decision(BaseModel):
    order_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    approved: bool
    by: str = Field(min_length=1, max_length=100)


@app.post("/orders", status_code=202)
async def post_order(new: NewOrder, client: Client, board: TheBoard, response: Response) -> Any:
    """Take an order, once: the same one again finds the run that there is, also when that has ended."""
    try:
        handle = await client.get_handle(f"order-{new.order_id}")
    except grctl.WorkflowNotFoundError:
        handle = await client.start_workflow(ORDER, f"order-{new.order_id}", new.model_dump(), on_conflict="attach")
    else:
        if not (await input_of(handle)).items() <= new.model_dump().items():
            return problem(409, "Another order has this id", f"order {new.order_id} is for something else")
    board.follow(handle.run_info)
    response.headers["Location"] = f"/orders/{new.order_id}"
    return {"order_id": new.order_id, "run_id": handle.run_info.id}


async def input_of(handle: grctl.WorkflowHandle) -> dict[str, Any]:
    """Return what a run was started with, from the beginning of its history; nothing where that is not written yet."""
    async for event in handle.history():
        if event.kind == "run.started":
            return dict(event.data["input"])
    return {}


@app.post("/webhooks/decisions", status_code=202)
async def post_decision(decision: Decision, client: Client) -> Any:
    """Pass on what a person decided. Whoever calls it may call it again.

    A service of your own checks here who calls, by a signature for example.
    """
    handle = await find_order(decision.order_id, client)
    try:
        await handle.send("decide", {"approved": decision.approved, "by": decision.by}, idempotent=True)
    except grctl.WorkflowFinishedError:
        made = "before"  # it was delivered again: an error would have it delivered once more
    else:
        made = "now"
    return {"order_id": decision.order_id, "decided": made}


# How a run ended, as a status of HTTP. A failure that the workflow names is an answer to the caller; any other is ours.
ENDED = {
    grctl.RunStatus.COMPLETED: 200,
    grctl.RunStatus.FAILED: 500,
    grctl.RunStatus.TIMED_OUT: 504,
    grctl.RunStatus.CANCELLED: 410,
    grctl.RunStatus.TERMINATED: 410,
}
FAILED = {"OutOfStock": 409}


@app.get("/orders/{order_id}")
async def get_order(order: Order, stopping: TheStopping, wait: Annotated[float, Query(ge=0, le=30)] = 0) -> Any:
    """Answer with how the order ended, or with 202 while it goes on; ``?wait=10`` waits ten seconds for that."""
    going_on = JSONResponse({"status": "going on"}, 202, headers={"Retry-After": "1"})
    if not (wait or order.run_info.is_finished):
        return going_on
    try:
        outcome = await stopping.unless(order.outcome(timeout=wait or 5))
    except TimeoutError:
        return going_on
    if outcome.completed:
        return outcome.result
    if outcome.error is not None and outcome.error.type in FAILED:
        return problem(FAILED[outcome.error.type], outcome.error.type, outcome.error.message)
    return problem(ENDED.get(outcome.status, 500), f"The order is {outcome.status}", outcome.reason)


@app.get("/orders/{order_id}/events", response_class=EventSourceResponse)
async def get_order_events(
    order: Order, stopping: TheStopping, last_event_id: Annotated[int, Header()] = 0
) -> AsyncIterator[ServerSentEvent]:
    """Stream what happens in an order, from its beginning to its end, which is the event ``end``.

    A browser that has lost the connection comes again with the id of the last event that it saw. When it goes away for
    good, the framework cancels this generator, and the following ends with it.
    """
    async for event in stopping.until(order.history(follow=True)):
        if event.seq > last_event_id:
            yield ServerSentEvent(id=str(event.seq), event=event.kind, data=told(event))
        if event.is_terminal:
            outcome = await order.outcome()
            yield ServerSentEvent(event="end", data={"status": outcome.status, "result": outcome.result})
            return


def told(event: grctl.HistoryEvent) -> dict[str, Any]:
    """Return what anybody may see of an event: when, and what by its name. No payloads, no stack traces."""
    names = ("task_name", "event_name", "step_name")
    return {"at": event.timestamp, "name": next((event.data[name] for name in names if name in event.data), None)}


@app.get("/events", response_class=EventSourceResponse)
async def get_events(
    board: TheBoard, stopping: TheStopping, last_event_id: Annotated[str, Header()] = ""
) -> AsyncIterator[ServerSentEvent]:
    """Stream all orders, each as it is now and again when it has changed."""
    async for version, rows in stopping.until(board.changes(since=last_event_id)):
        yield ServerSentEvent(id=version, event="orders", data=rows)


@app.get("/health")
async def get_health(client: Client) -> Any:
    """Say whether orders can be taken: asks the Ground Control server, not only the broker."""
    await client.connection.ping()
    return {"status": "ok"}


@app.get("/", response_class=FileResponse)
async def get_page() -> Path:
    return PAGE
