"""The table of docs/security.md: each call works with exactly its row; with less it says which is missing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

import grctl
from grctl.nats.connection import Connection
from grctl.testing import DevServer
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_core.ids import new_ulid
from grctl_nats import deadlines as deadlines_module
from grctl_nats import watcher as watcher_module

from .brokers import Broker, configuration, rows

in_one_loop = pytest.mark.asyncio(loop_scope="module")
"""One broker and one server for all cases: each has a user of its own."""

LONG = 1_000.0
"""Seconds that a request may take: whatever ends sooner did not wait for a timeout."""
PATIENCE = 30.0
EVERY = "every connection"

approval = Workflow(workflow_type="Approval")


@approval.start()
async def start(ctx: Context) -> Directive:
    return ctx.next.wait()


@approval.event()
async def decide(ctx: Context, approved: bool) -> Directive:
    return ctx.next.complete(approved)


def subjects_of(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


TABLE = {call: tuple(map(subjects_of, cells)) for call, *cells in rows("What each call needs")}
"""By call: what it has to publish to, to subscribe to, and what it does without."""


# --- the calls: each is given a client with the row's permissions, and one that may do everything ------------------

Call = Callable[[grctl.Client, grctl.Client], Awaitable[object]]
CALLS: dict[str, Call] = {}


def call(row: str) -> Callable[[Call], Call]:
    def register(function: Call) -> Call:
        CALLS[row] = function
        return function

    return register


async def begun(client: grctl.Client, wf_id: str = "", **options: Any) -> grctl.WorkflowHandle[Any]:
    """Start a run that waits for its event."""
    handle = await client.start_workflow("Approval", wf_id or new_ulid(), **options)
    async for event in handle.history(follow=True):
        if event.kind == "wait.started":
            break
    return handle


def in_hands_of(client: grctl.Client, handle: grctl.WorkflowHandle[Any]) -> grctl.WorkflowHandle[Any]:
    """Return another client's handle to the same run, made without asking the server."""
    return client._handle(handle.run_info, bool, SimpleNamespace(state=None))


async def older(admin: grctl.Client) -> grctl.WorkflowHandle[Any]:
    """Return a handle to a run that is not the latest of its id any more."""
    handle = await begun(admin)
    await handle.terminate()
    await handle.outcome()
    await begun(admin, handle.run_info.wf_id)
    return handle


@call("`ping`")
async def ping(shop: grctl.Client, admin: grctl.Client) -> None:
    assert await shop.connection.ping()


@call("`start_workflow`")
async def start_twice(shop: grctl.Client, admin: grctl.Client) -> None:
    handle = await shop.start_workflow("Approval", new_ulid())
    await handle.terminate()
    await shop.start_workflow("Approval", handle.run_info.wf_id)


@call("`send`")
async def send(shop: grctl.Client, admin: grctl.Client) -> None:
    handle = await begun(admin)
    await in_hands_of(shop, handle).send("decide", {"approved": True})
    assert await handle.result() is True


@call("`cancel`")
async def cancel(shop: grctl.Client, admin: grctl.Client) -> None:
    handle = await begun(admin)
    await in_hands_of(shop, handle).cancel()
    assert (await handle.outcome()).status == "cancelled"


@call("`terminate`")
async def terminate(shop: grctl.Client, admin: grctl.Client) -> None:
    handle = await begun(admin)
    await in_hands_of(shop, handle).terminate()
    assert (await handle.outcome()).status == "terminated"


@call("`describe`, of the latest run")
async def describe(shop: grctl.Client, admin: grctl.Client) -> None:
    handle = await begun(admin)
    assert (await in_hands_of(shop, handle).describe()).id == handle.run_info.id


@call("`describe`, of an older run")
async def describe_older(shop: grctl.Client, admin: grctl.Client) -> None:
    handle = await older(admin)
    assert (await in_hands_of(shop, handle).describe()).status == "terminated"


@call("`get_handle(id)`")
async def get_handle(shop: grctl.Client, admin: grctl.Client) -> None:
    handle = await begun(admin)
    assert (await shop.get_handle(handle.run_info.wf_id)).run_info.id == handle.run_info.id


@call("`get_handle(id, run_id)`, of an older run")
async def get_handle_of_older(shop: grctl.Client, admin: grctl.Client) -> None:
    info = (await older(admin)).run_info
    assert (await shop.get_handle(info.wf_id, info.id)).run_info.id == info.id


@call("`result`, `outcome`, `future`")
async def result(shop: grctl.Client, admin: grctl.Client) -> None:
    handle = await begun(admin)
    waiting = asyncio.create_task(in_hands_of(shop, handle).result())
    await handle.send("decide", {"approved": True})
    assert await waiting is True
    many = [await begun(admin) for _ in range(2)]  # looked at together
    waits = [in_hands_of(shop, handle).future for handle in many]
    for handle in many:
        await handle.terminate()
    for wait in waits:
        with pytest.raises(grctl.WorkflowTerminatedError):
            await wait


@call("`history`")
async def history(shop: grctl.Client, admin: grctl.Client) -> None:
    handle = await begun(admin)
    assert "wait.started" in [event.kind async for event in in_hands_of(shop, handle).history()]


@call("`history(follow=True)`")
async def follow(shop: grctl.Client, admin: grctl.Client) -> None:
    handle = await begun(admin)
    kinds = []
    async for event in in_hands_of(shop, handle).history(follow=True):
        kinds.append(event.kind)
        if event.kind == "wait.started":
            await handle.send("decide", {"approved": True})
    assert kinds[-1] == "run.completed"


@call("`list_workflows`")
async def list_workflows(shop: grctl.Client, admin: grctl.Client) -> None:
    handle = await begun(admin)
    assert handle.run_info.id in [run.id async for run in shop.list_workflows()]


@call("a `workflow_timeout`, upheld by who waits")
async def uphold_a_timeout(shop: grctl.Client, admin: grctl.Client) -> None:
    """The connection that started the run would uphold it too, so it is closed."""
    async with await Connection.open(admin_url) as starter:
        handle = in_hands_of(shop, await begun(grctl.Client(connection=starter), workflow_timeout=0.2))
    assert (await handle.outcome()).status == "timed_out"


def test_every_row_of_the_table_is_tried():
    assert {EVERY, *CALLS} == TABLE.keys()


# --- users: one for each call with its row, one for each permission that is taken away from it ----------------------

admin_url = ""


def user(name: str, publish: list[str], subscribe: list[str]) -> dict[str, Any]:
    return {"user": name, "password": "p", "permissions": {"publish": publish, "subscribe": subscribe}}


def needed(row: str) -> tuple[list[str], list[str]]:
    """Return what a call has to publish to, and to subscribe to, with all that it works better with."""
    publish, subscribe, better = (TABLE[EVERY][kind] + TABLE[row][kind] for kind in range(3))
    return (
        publish + [subject for subject in better if subject.startswith("$JS")],
        subscribe + [subject for subject in better if not subject.startswith("$JS")],
    )


def without(row: str, subject: str) -> tuple[list[str], list[str]]:
    publish, subscribe = needed(row)
    return [kept for kept in publish if kept != subject], [kept for kept in subscribe if kept != subject]


LESS = [(row, subject) for row in CALLS for subject in TABLE[row][0] + TABLE[row][1]]
LATE = [(row, subject) for row in CALLS for subject in TABLE[row][2]]
USERS = [
    user("admin", [">"], [">"]),
    *(user(row, *needed(row)) for row in CALLS),
    *(user(f"{row} but {subject}", *without(row, subject)) for row, subject in LESS + LATE),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def broker() -> AsyncIterator[Any]:
    global admin_url
    async with Broker({"authorization": {"users": USERS}}) as running:
        admin_url = running.url.replace("://", "://admin:p@")
        async with DevServer([approval], nats_url=admin_url):
            yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def admin(broker: Any) -> AsyncIterator[grctl.Client]:
    async with await Connection.open(admin_url) as connection:
        yield grctl.Client(connection=connection)


@contextlib.asynccontextmanager
async def client_of(broker: Any, name: str) -> AsyncIterator[grctl.Client]:
    """Connect as a user, with timeouts that no test waits for."""
    connection = await Connection.open(broker.url, user=name, password="p", request_timeout=LONG, connect_timeout=20)
    async with connection:
        yield grctl.Client(connection=connection, request_timeout=LONG)


@pytest.fixture(autouse=True)
def nobody_waits_long(monkeypatch):
    """Those who did not start a run act on its timeout at once; a watcher without hints looks soon."""
    monkeypatch.setattr(deadlines_module, "_OTHERS_LATER", (0.0, 0.1))
    monkeypatch.setattr(watcher_module, "_SWEEP_WITHOUT_HINTS", 0.1)


def violations(broker: Any, name: str) -> list[str]:
    """Return what the broker has refused a user, by its own log."""
    return [line for line in broker.log.splitlines() if "Violation" in line and f'/user:{name}"' in line]


def names(subject: str, text: str) -> bool:
    """Whether a message names a subject that a permission with wildcards stands for."""
    pattern = re.escape(subject.lower()).replace(r"\*", "[^.\"']+").replace(">", "[^\"']+")
    return re.search(f"[\"']{pattern}[\"']", text.lower()) is not None


@in_one_loop
@pytest.mark.parametrize("row", CALLS)
async def test_with_exactly_its_permissions_a_call_works(broker, admin, row, caplog):
    async with asyncio.timeout(PATIENCE), client_of(broker, row) as shop:
        await CALLS[row](shop, admin)
    assert [record.getMessage() for record in caplog.records if record.name == "grctl.nats"] == []
    assert violations(broker, row) == []


@in_one_loop
@pytest.mark.parametrize(("row", "subject"), LESS)
async def test_with_less_a_call_is_denied_at_once_and_told_the_subject(broker, admin, row, subject, caplog):
    async with asyncio.timeout(PATIENCE), client_of(broker, f"{row} but {subject}") as shop:
        if (row, subject) == ("a `workflow_timeout`, upheld by who waits", "grctl_api.workflow.*"):
            await _only_warned(CALLS[row](shop, admin), caplog, subject)  # nobody waits for the terminate
            return
        with pytest.raises(grctl.AccessDeniedError) as caught:
            await CALLS[row](shop, admin)
    assert names(subject, str(caught.value))
    assert "permissions violation" in str(caught.value)
    async with asyncio.timeout(PATIENCE):
        while not violations(broker, f"{row} but {subject}"):  # the broker says it first, and notes it then
            await asyncio.sleep(0.01)


@in_one_loop
@pytest.mark.parametrize(("row", "subject"), LATE)
async def test_without_what_it_only_works_better_with_a_call_works_and_warns_once(broker, admin, row, subject, caplog):
    async with asyncio.timeout(PATIENCE), client_of(broker, f"{row} but {subject}") as shop:
        for _ in range(2):
            await CALLS[row](shop, admin)
            await shop._connection._compare_clocks()  # the broker has said what it refuses before it answers this
    (warning,) = [record for record in caplog.records if record.name == "grctl.nats"]
    assert warning.levelno == logging.WARNING
    assert names(subject, warning.getMessage())


async def _only_warned(calling: Awaitable[object], caplog: pytest.LogCaptureFixture, subject: str) -> None:
    task = asyncio.ensure_future(calling)
    warnings: list[logging.LogRecord] = []
    while not warnings:
        assert not task.done()
        await asyncio.sleep(0.01)
        warnings = [record for record in caplog.records if record.name == "grctl.nats"]
    task.cancel()
    await asyncio.wait([task])
    (warning,) = warnings
    assert warning.levelno == logging.WARNING
    assert names(subject, warning.getMessage())


async def test_the_configuration_of_the_page_is_all_that_a_client_needs():
    """Every call, with the page's very configuration; a client of no account, and of another, gets nowhere."""
    secrets = {f"{name}_PASSWORD": f"{name}-secret" for name in ("ADMIN", "GRCTLD", "SHOP")}
    async with asyncio.timeout(120), Broker(text=configuration(), environment=secrets) as broker:
        server = broker.url.replace("://", "://grctld:GRCTLD-secret@")
        async with (
            DevServer([approval], nats_url=server),
            await Connection.open(server) as all_powerful,
            await Connection.open(
                broker.url, user="shop", password="SHOP-secret", request_timeout=LONG, inbox_prefix="_INBOX_shop"
            ) as connection,
        ):
            global admin_url
            others, admin_url = admin_url, server
            try:
                for one in CALLS.values():
                    await one(grctl.Client(connection=connection), grctl.Client(connection=all_powerful))
            finally:
                admin_url = others
        assert "Violation" not in broker.log
        with pytest.raises(grctl.AccessDeniedError, match="refuses the login"):
            await Connection.open(broker.url)
        with pytest.raises(grctl.UnsupportedOperationError, match=r"no JetStream \(not for this account"):
            await Connection.open(broker.url, user="admin", password="ADMIN-secret", connect_timeout=1.5)


async def test_a_subject_is_recognised_in_the_brokers_quotes():
    """Which quotes it as Go does, and the driver makes it small."""
    users = [user("admin", [">"], [">"]), user("shop", ["$JS.API.>"], ["_INBOX.>"])]
    async with (
        asyncio.timeout(PATIENCE),
        Broker({"authorization": {"users": users}}) as broker,
        DevServer([approval], nats_url=broker.url.replace("://", "://admin:p@")),
        client_of(broker, "shop") as shop,
    ):
        for wf_id in ('a"b', "a\\b", "Bücher-ÄÖ", "it's", "\N{SNOWMAN}"):
            with pytest.raises(grctl.AccessDeniedError):
                await shop.start_workflow("Approval", wf_id)


async def test_another_inbox_than_ones_own_is_denied_at_once():
    secrets = {f"{name}_PASSWORD": "p" for name in ("ADMIN", "GRCTLD", "SHOP")}
    async with asyncio.timeout(60), Broker(text=configuration(), environment=secrets) as broker:
        with pytest.raises(grctl.AccessDeniedError, match=r'to "_inbox\..* inbox_prefix='):
            await Connection.open(broker.url, user="shop", password="p", request_timeout=LONG, connect_timeout=LONG)


def test_the_configuration_grants_what_the_table_says_and_no_more():
    granted = {
        kind: set(re.findall(r'"([^"]+)"', part))
        for kind, part in re.findall(r"(publish|subscribe): \[(.*?)\]", configuration(), re.DOTALL)
    }
    better = {subject for row in TABLE.values() for subject in row[2]}
    publish = {subject for row in TABLE.values() for subject in row[0]} | {s for s in better if s.startswith("$JS")}
    subscribe = {subject for row in TABLE.values() for subject in row[1]} | (better - publish)
    assert granted["publish"] == publish
    assert {subject.replace("_INBOX_shop", "_INBOX") for subject in granted["subscribe"]} == subscribe
