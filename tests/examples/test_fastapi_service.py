"""examples/fastapi_orders under uvicorn, on a development server: many orders, and a shutdown in their middle."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from contextlib import asynccontextmanager

import httpx2
import pytest
from serving import Service, wait_until

import grctl
from grctl.testing import DevServer

ORDERS = int(os.environ.get("GRCTL_TEST_ORDERS", "80"))


@pytest.fixture
async def server():
    from examples.fastapi_orders.workflows import workflows

    async with DevServer(workflows) as server:
        yield server


@pytest.fixture
async def service(server, tmp_path):
    command = ["-m", "uvicorn", "examples.fastapi_orders.app:app", "--port", "{port}", "--no-access-log"]
    ready = r"Uvicorn running on http://127\.0\.0\.1:(\d+)"
    environment = {"GRCTL_NATS_SERVERS": server.url}
    async with Service(command, ready=ready, log=tmp_path / "log", environment=environment) as service:
        yield service


@pytest.fixture
async def browser(service):
    limits = httpx2.Limits(max_connections=60)
    async with httpx2.AsyncClient(base_url=service.url, timeout=30, limits=limits) as browser:
        yield browser


async def until_taken(request):
    """Repeat a request until the service has answered it: what callers of a service do that restarts."""
    while True:
        try:
            answer = await request()
        except httpx2.TransportError:
            answer = None
        if answer is not None and answer.status_code != 503:
            return answer
        await asyncio.sleep(0.1)


async def buy(browser, number, done):
    """Do what becomes of one order: it is taken, approved, shipped."""
    order = {"order_id": f"o{number}", "item": "tea"}
    decision = {"order_id": f"o{number}", "approved": True, "by": "Mia"}
    taken = await until_taken(lambda: browser.post("/orders", json=order))
    assert taken.status_code == 202, taken.text
    done["taken"] += 1
    decided = await until_taken(lambda: browser.post("/webhooks/decisions", json=decision))
    assert decided.status_code == 202, decided.text
    done["decided"] += 1
    while (end := await until_taken(lambda: browser.get(f"/orders/o{number}?wait=10"))).status_code == 202:
        pass
    assert (end.status_code, end.json()["parcel"]) == (200, f"parcel-o{number}")
    done["shipped"] += 1


@asynccontextmanager
async def watching(browser, path, **headers):
    """Read a stream of events meanwhile; gives the list of those that have come, and the task that reads."""
    events = []

    async def read():
        async with browser.stream("GET", path, headers=headers) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            event = {}
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    event[name] = value
                elif event:
                    events.append(event)
                    event = {}

    task = asyncio.create_task(read())
    try:
        yield events, task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until_health(browser, status):
    while (await browser.get("/health")).status_code != status:
        await asyncio.sleep(0.05)


async def test_orders_live_through_a_shutdown_in_their_middle(server, service, browser):
    done = Counter()
    async with asyncio.timeout(150):
        waits = (await browser.post("/orders", json={"order_id": "waits", "item": "cocoa"})).json()["run_id"]
        async with (
            watching(browser, "/orders/waits/events") as (one, one_task),
            watching(browser, "/events") as (board, _),
        ):
            customers = [asyncio.create_task(buy(browser, number, done)) for number in range(ORDERS)]
            await wait_until(lambda: done["shipped"] >= ORDERS // 10, "some have been shipped")
            await wait_until(lambda: (one and board) or one_task.done(), "streams have begun")
            assert await service.stop() in {0, -15}
            await one_task  # the stream has ended as it should, and was not cut off
        assert done["shipped"] < ORDERS, "too late for the middle"
        assert "Traceback" not in service.log
        assert "Cancel" not in service.log  # uvicorn has not lost its patience
        await service.start()
        await asyncio.gather(*customers)

        # A stream continues where it was left.
        seen = one[-1]["id"]
        async with watching(browser, "/orders/waits/events", **{"Last-Event-ID": seen}) as (rest, rest_task):
            decision = {"order_id": "waits", "approved": False, "by": "Ben"}
            assert (await browser.post("/webhooks/decisions", json=decision)).status_code == 202
            await rest_task
        assert int(rest[0]["id"]) > int(seen)
        assert rest[-1]["event"] == "end"
        assert json.loads(rest[-1]["data"])["result"] == {"status": "rejected", "by": "Ben"}

        # The board of the new process has all of them, also those that another one had taken.
        async with watching(browser, "/events") as (board, _):
            rows = {}

            def all_ended():
                for event in board:
                    rows.update({row["order_id"]: row["state"] for row in json.loads(event["data"])})
                return Counter(rows.values()) == {"shipped": ORDERS, "rejected": 1}

            await wait_until(all_ended, "the board shows the end of each order")

        # The broker dies and comes back: the service says so, and needs no restart.
        await server.kill_broker()
        await until_health(browser, 503)
        await server.restart_broker()
        await until_health(browser, 200)
        assert await service.stop() in {0, -15}
    assert "Traceback" not in service.log

    async with await grctl.connect(server.url) as connection:
        runs = [run async for run in grctl.Client(connection=connection).list_workflows()]
        assert len({run.wf_id for run in runs}) == len(runs) == ORDERS + 1  # no order was started twice
        assert {run.status for run in runs} == {grctl.RunStatus.COMPLETED}
        assert waits in {run.id for run in runs}
