"""examples/fastapi_orders in this process, on memory://: what each request is answered."""

from __future__ import annotations

import asyncio
import signal

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from serving import wait_until

import grctl
from grctl.models import errors

TEA = {"order_id": "t1", "item": "tea", "quantity": 2}


@pytest.fixture
def service():
    from examples.fastapi_orders.app import app

    with TestClient(app) as service:
        yield service


def decide(service, order_id, *, approved=True):
    return service.post("/webhooks/decisions", json={"order_id": order_id, "approved": approved, "by": "Mia"})


def end_of(service, order_id):
    return service.get(f"/orders/{order_id}", params={"wait": 30})


def test_an_order_is_taken_decided_and_shipped(service):
    taken = service.post("/orders", json=TEA)
    assert (taken.status_code, taken.headers["Location"]) == (202, "/orders/t1")
    going_on = service.get("/orders/t1")
    assert (going_on.status_code, going_on.headers["Retry-After"]) == (202, "1")
    assert decide(service, "t1").json() == {"order_id": "t1", "decided": "now"}
    shipped = end_of(service, "t1")
    assert (shipped.status_code, shipped.json()) == (200, {"status": "shipped", "by": "Mia", "parcel": "parcel-t1"})
    assert service.get("/orders/t1").status_code == 200


def test_the_same_order_again_is_the_same_run_also_after_its_end(service):
    first = service.post("/orders", json=TEA).json()
    assert service.post("/orders", json=TEA).json() == first
    decide(service, "t1", approved=False)
    assert end_of(service, "t1").json() == {"status": "rejected", "by": "Mia"}
    assert service.post("/orders", json=TEA).json() == first
    assert decide(service, "t1").json() == {"order_id": "t1", "decided": "before"}


def test_what_goes_wrong_has_a_status_of_its_own(service):
    service.post("/orders", json=TEA)
    problems = {
        "another order of this id": service.post("/orders", json=TEA | {"quantity": 3}),
        "an id that is none": service.post("/orders", json=TEA | {"order_id": "a b"}),
        "no such order": service.get("/orders/none"),
        "no such order to decide": decide(service, "none"),
        "no such order to watch": service.get("/orders/none/events"),
        "an id that no workflow can have": service.get("/orders/a.b"),
    }
    statuses = {name: answer.status_code for name, answer in problems.items()}
    assert list(statuses.values()) == [409, 422, 404, 404, 404, 422], statuses
    assert problems["no such order"].headers["Content-Type"] == "application/problem+json"
    assert "order-none" in problems["no such order"].json()["detail"]


def test_a_failure_that_the_workflow_names_is_an_answer_to_the_caller(service):
    service.post("/orders", json=TEA | {"item": "unicorns"})
    failed = end_of(service, "t1")
    assert (failed.status_code, failed.json()["title"]) == (409, "OutOfStock")


def test_an_order_that_somebody_terminated_is_gone(service):
    service.post("/orders", json=TEA)
    client = service.app_state["client"]

    async def terminate():
        await (await client.get_handle("order-t1")).terminate("sold out")

    service.portal.call(terminate)
    gone = end_of(service, "t1")
    assert (gone.status_code, gone.json()["title"], gone.json()["detail"]) == (
        410,
        "The order is terminated",
        "sold out",
    )


def test_the_stream_of_an_order_ends_with_it_and_continues_where_it_was_left(service):
    service.post("/orders", json=TEA)
    decide(service, "t1")
    end_of(service, "t1")
    whole = events_of(service.get("/orders/t1/events").text)
    kinds = [event["event"] for event in whole]
    assert kinds[0] == "run.started"
    assert kinds[-2:] == ["run.completed", "end"]
    seen = whole[3]["id"]
    rest = events_of(service.get("/orders/t1/events", headers={"Last-Event-ID": seen}).text)
    assert rest == whole[4:]


def events_of(text):
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]


@pytest.mark.parametrize("path", ["/orders/t1/events", "/events"])
async def test_a_browser_that_goes_away_ends_the_following(path):
    from examples.fastapi_orders.app import app

    gone, sent = asyncio.Event(), []

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    async with app.router.lifespan_context(app) as state:
        handle = await state["client"].start_workflow("Order", "order-t1", TEA)
        state["board"].follow(handle.run_info)
        before = asyncio.all_tasks()
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}, "http_version": "1.1", "method": "GET", "path": path}
        scope |= {"headers": [], "query_string": b"", "state": state}
        request = asyncio.create_task(app(scope, receive, send))
        await wait_until(lambda: any(b"wait" in message.get("body", b"") for message in sent), "it has been told all")
        gone.set()
        await request
        await wait_until(lambda: asyncio.all_tasks() <= before, "nothing of the request is left")


def test_health_and_page(service):
    assert service.get("/health").json() == {"status": "ok"}
    assert "EventSource" in service.get("/").text


@pytest.mark.parametrize("stops", [True, False])
async def test_the_signal_that_ends_the_server_ends_what_waits(stops):
    from examples.fastapi_orders.stopping import Stopping, StoppingError

    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with Stopping() as stopping:
            forever = asyncio.Event()
            waits = asyncio.create_task(stopping.unless(forever.wait()))
            await asyncio.sleep(0)
            if stops:
                signal.raise_signal(signal.SIGTERM)
                with pytest.raises(StoppingError):
                    await waits
                assert heard == [signal.SIGTERM]
            else:
                forever.set()
                assert await waits
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM] * (1 + stops)  # the server's own handler is back
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_without_a_server_that_waits_a_signal_ends_the_process_as_ever():
    from examples.fastapi_orders.stopping import Stopping

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with Stopping():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


ANSWERED = {
    "InvalidInputError": 422,
    "ConnectionFailedError": 503,
    "NotSentError": 503,
    "NotDeliveredError": 503,
    "ConnectionClosedError": 503,
    "AccessDeniedError": 500,
    "DeliveryUnknownError": 503,
    "RefusedError": 500,
    "WorkflowNotFoundError": 404,
    "WorkflowAlreadyRunningError": 409,
    "WorkflowFinishedError": 409,
    "WorkflowTypeNotRegisteredError": 503,
    "ServerError": 500,
    "UnsupportedOperationError": 501,
    "EventLoopError": 500,
    "DecodeError": 500,
    "PluginError": 500,
    "GrctlError": 500,
    "WorkflowError": 500,
    "WorkflowTimeoutError": 504,
    "WorkflowCancelledError": 410,
    "WorkflowTerminatedError": 410,
}


def test_every_error_of_the_library_is_answered():
    from examples.fastapi_orders.problems import answer_problems

    names = [name for name in errors.__all__ if issubclass(getattr(errors, name), grctl.GrctlError)]
    app = FastAPI()
    answer_problems(app)

    @app.get("/{name}")
    async def fail(name: str) -> None:
        raise getattr(errors, name)(*("secret",) * (2 if name == "WorkflowError" else 1))

    with TestClient(app) as service:
        answers = {name: service.get(f"/{name}") for name in names}
    assert {name: answer.status_code for name, answer in answers.items()} == ANSWERED
    for name, answer in answers.items():
        assert ("Retry-After" in answer.headers) == (answer.status_code == 503), name
        assert ("secret" in answer.text) == (answer.status_code != 500 and name != "DeliveryUnknownError"), name
