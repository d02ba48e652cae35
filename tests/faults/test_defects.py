"""The defects of grctld (docs/protocol.md, section 8) at volume, on a development server that has them: each one that a
safeguard is against does no harm, to any of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, TypeVar

import nats
import pytest
from broker import Broker, sync
from nats.aio.msg import Msg

import grctl
from grctl import Client, RunStatus, WorkflowFinishedError
from grctl.dev_server.service import kind_of
from grctl.testing import DevServer, Fault, Faults, What
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_core.doubt import DoubtBounds
from grctl_core.operations import Operations
from grctl_nats import NatsConnection, Safeguards, subjects
from grctl_nats import dial as dial_module
from grctl_retry import Retry, RetryPlugin

from .form import SEED, in_form
from .site import HANGS_AFTER, PATIENCE, order

T = TypeVar("T")
AT_ONCE = 10
SOON = 0.5
"""Seconds for a request that is lost; one that only takes so long is repeated as well."""

PATIENT = Safeguards(begun_within=PATIENCE, settled_within=PATIENCE, residue_within=PATIENCE)
"""None gives up on a slow machine."""

greet_events = Workflow(workflow_type="GreetEvents")


@greet_events.start()
async def greet_start(ctx: Context, name: str) -> Directive:
    ctx.store.put("name", name)
    return ctx.next.wait()


@greet_events.event()
async def greet(ctx: Context) -> Directive:
    ctx.store.put("greeting", f"Hello, {await ctx.store.get('name', str)}!")
    return ctx.next.wait()


@greet_events.event()
async def farewell(ctx: Context) -> Directive:
    return ctx.next.complete(f"{await ctx.store.get('greeting', str)} Goodbye, {await ctx.store.get('name', str)}!")


two_steps = Workflow(workflow_type="TwoSteps")


@two_steps.start()
async def first(ctx: Context) -> Directive:
    return ctx.next.step(second)


@two_steps.step(timeout=timedelta(milliseconds=200))
async def second(ctx: Context) -> Directive:
    return ctx.next.complete("both")


@contextlib.asynccontextmanager
async def serving(*faults: Fault, **options: Any) -> AsyncIterator[tuple[DevServer, Client]]:
    """A server with these defects, and a client of it."""
    async with (
        asyncio.timeout(HANGS_AFTER * in_form(1, 10)),
        DevServer([greet_events, order, two_steps], faults=Faults(*faults, seed=SEED)) as server,
        await NatsConnection.open(server.url, safeguards=PATIENT) as connection,
    ):
        yield server, Client(connection=connection, **{"request_timeout": PATIENCE} | options)


async def each(count: int, one: Callable[[int], Awaitable[T]]) -> list[T]:
    """Do something for each number, some at a time."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def do(number: int) -> T:
        async with slots:
            return await one(number)

    return await asyncio.gather(*map(do, range(count)))


async def test_6_greeting_sessions_complete() -> None:
    async with serving(Fault(what=What.EVENT_STUCK)) as (_, client):

        async def session(number: int) -> Any:
            handle = await client.start_workflow("GreetEvents", f"greet-{number}", {"name": "Ada"})
            await handle.send("greet")
            await handle.send("farewell")
            return await handle.result()

        count = in_form(100, 1_000)
        assert Counter(await each(count, session)) == {"Hello, Ada! Goodbye, Ada!": count}


async def test_7_no_restart_of_an_id_that_just_ended_is_lost() -> None:
    async with serving(Fault(what=What.RESTART_LOST, seconds=0.05)) as (server, client):

        async def restart(number: int) -> None:
            wf_id = f"order-{number}"
            for turn in range(10):
                handle = await client.start_workflow("Order", wf_id, {"number": turn})
                if turn % 2:
                    await handle.terminate()
                    assert (await handle.outcome()).status is RunStatus.TERMINATED
                else:
                    await handle.send("ship")
                    assert await handle.result() == [turn, []]

        count = in_form(10, 100)
        await each(count, restart)
        assert What.RESTART_LOST not in server_faults(server)
        assert Counter([run.wf_id async for run in client.list_workflows()]) == {f"order-{n}": 10 for n in range(count)}


def server_faults(server: DevServer) -> list[What]:
    return server._service._faults.struck  # type: ignore[attr-defined]


async def test_3_early_cancels_leave_the_server_alive() -> None:
    slow = Fault(what=What.SLOW_BEGIN, seconds=0.05)
    async with serving(slow, Fault(what=What.EARLY_CANCEL_KILLS)) as (server, client):

        async def cancel(number: int) -> RunStatus | str:
            handle = await client.start_workflow("Order", f"order-{number}", {"number": number})
            await handle.cancel()
            return (await handle.outcome()).status

        count = in_form(20, 200)
        assert Counter(await each(count, cancel)) == {RunStatus.CANCELLED: count}
        assert server_faults(server) == [What.SLOW_BEGIN] * count
        assert not server.died.is_set()


async def test_5_racing_cancels_leave_nothing_that_is_redelivered() -> None:
    """One command to a run that has ended would do to stop this server from beginning any run."""
    async with serving(Fault(what=What.REDELIVERY, count=1)) as (_, client):

        async def race(number: int) -> list[str]:
            started = await client.start_workflow("Order", f"order-{number}", {"number": number})
            handles = [started, *[await client.get_handle(started.run_info.wf_id) for _ in range(9)]]
            told = await asyncio.gather(*(handle.cancel() for handle in handles), return_exceptions=True)
            assert (await started.outcome()).status is RunStatus.CANCELLED
            return [type(error).__name__ for error in told if error is not None]

        errors = {name for names in await each(in_form(20, 200), race) for name in names}
        assert errors <= {WorkflowFinishedError.__name__}
        handle = await client.start_workflow("Order", "afterwards", {"number": 1})
        await handle.send("ship")
        assert await handle.result() == [1, []]


async def test_1_late_duplicates_of_starts_block_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempts lie in a leaf node that is stopped, and arrive while the runs go on that came of the others.

    One that arrives only after its run has ended does harm (docs/protocol.md, section 8, 1): no client can bound that.
    """
    monkeypatch.setattr(dial_module, "_PING_EVERY", 0.2)
    count = in_form(10, 100)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(HANGS_AFTER * in_form(1, 5)))
        hub = await stack.enter_async_context(
            Broker({"leafnodes": {"host": "127.0.0.1", "port": -1}, "jetstream": {"domain": "hub"}})
        )
        port = re.search(r"leafnode connections on 127\.0\.0\.1:(\d+)", hub.log)
        assert port is not None, hub.log
        leaf = await stack.enter_async_context(
            Broker(
                {
                    "server_name": "leaf",
                    "leafnodes": {"remotes": [{"url": f"nats-leaf://127.0.0.1:{port[1]}"}]},
                    "default_js_domain": {"$G": "hub"},
                },
                jetstream=False,
            )
        )
        faults = Faults(Fault(what=What.OVERWRITE_FINISHED))
        await stack.enter_async_context(DevServer([order], nats_url=hub.url, faults=faults))
        async with await NatsConnection.open(leaf.url, connect_timeout=PATIENCE):
            pass  # the leaf has found its hub
        connection = await stack.enter_async_context(
            await NatsConnection.open([leaf.url, hub.url], connect_timeout=PATIENCE, safeguards=PATIENT)
        )
        client = Client(connection=connection, plugins=[RetryPlugin(Retry(deadline=PATIENCE))])
        client._operations = Operations(
            connection, client.plugins.pipeline, DoubtBounds(reached_within=PATIENCE, quarantine=0.3)
        )
        spy = await nats.connect(hub.url, allow_reconnect=False)
        stack.push_async_callback(spy.close)
        arrived: Counter[str] = Counter()

        async def hear(message: Msg) -> None:
            arrived[kind_of(message.data)] += 1

        await spy.subscribe(subjects.ALL_COMMANDS, cb=hear)
        await sync(spy)
        leaf.freeze()
        handles = await asyncio.gather(
            *(client.start_workflow("Order", f"order-{n}", {"number": n}, request_timeout=SOON) for n in range(count))
        )
        leaf.thaw()
        async with await NatsConnection.open(leaf.url, connect_timeout=PATIENCE) as behind:
            await Client(connection=behind).start_workflow("Order", "after-them-all", {"number": 0})
        await sync(spy)
        assert arrived["run.start"] == 2 * count + 1  # each twice, and that one
        for turn in range(2):
            for number, handle in enumerate(handles):
                await handle.send("ship", request_timeout=PATIENCE)
                assert await handle.result() == [number, []]
            if not turn:
                handles = await asyncio.gather(
                    *(client.start_workflow("Order", f"order-{n}", {"number": n}) for n in range(count))
                )
        assert faults.struck == []


async def test_2_starts_that_are_answered_wrongly_or_not_at_all_make_one_run_each() -> None:
    whats = (What.LOSE_COMMAND, What.LOSE_REPLY, What.DOUBLE_REPLY, What.ERROR_BUT_DONE, What.ERROR_NOT_DONE)
    faults = [Fault(what=what, kind="run.start", probability=0.15) for what in whats]
    retry = RetryPlugin(Retry(deadline=PATIENCE, first_delay=0.01, longest_delay=0.1))
    async with serving(*faults, request_timeout=SOON, plugins=[retry]) as (server, client):

        async def start(number: int) -> str:
            return (await client.start_workflow("Order", f"order-{number}", {"number": number})).run_info.id

        started = await each(in_form(100, 1_000), start)
        assert set(server_faults(server)) == set(whats)
        assert Counter([run.id async for run in client.list_workflows()]) == Counter(started)


async def test_8_and_12_what_no_client_can_mend_is_told_as_it_is() -> None:
    faults = (
        Fault(what=What.STEP_DROPPED, probability=0.2),
        Fault(what=What.NOT_CAUSAL, probability=0.3),
        Fault(what=What.STEP_STARTED_MISSING, probability=0.3),
    )
    async with serving(*faults) as (server, client):

        async def run(number: int) -> RunStatus | str:
            handle = await client.start_workflow("TwoSteps", f"steps-{number}")
            kinds = [event.kind async for event in handle.history(follow=True)]
            outcome = await handle.outcome()
            assert f"run.{outcome.status}" in kinds
            assert outcome.result == ("both" if outcome.status is RunStatus.COMPLETED else None)
            return outcome.status

        statuses = Counter(await each(in_form(50, 300), run))
        dropped = server_faults(server).count(What.STEP_DROPPED)
        assert statuses[RunStatus.FAILED] == dropped > 0
        assert statuses.total() == statuses[RunStatus.FAILED] + statuses[RunStatus.COMPLETED]


async def test_10_two_servers_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "grctl.nats")
    async with serving(Fault(what=What.TWO_SERVERS)) as (_, client):

        async def start(number: int) -> None:
            with contextlib.suppress(grctl.WorkflowAlreadyRunningError):
                await client.start_workflow("Order", f"order-{number}", {"number": number})

        await each(in_form(50, 500), start)
    assert len([record for record in caplog.records if "answered twice" in record.getMessage()]) == 1
