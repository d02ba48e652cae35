"""The load: scenarios over and over, and what their calls promised held against what became of them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grctl
from grctl.nats.connection import Connection

__all__ = ["Load"]

T = TypeVar("T")

LONGEST = 180.0
"""Seconds after which a scenario counts as hanging: longer than all faults and timeouts that may follow each other."""

NOTHING, REFUSED, ACCEPTED = range(3)
"""What a start has said: nothing certain, not done, done."""

Scenario = Callable[["Load", str], Awaitable[None]]
SCENARIOS: dict[str, tuple[float, Scenario]] = {}


def scenario(weight: float) -> Callable[[Scenario], Scenario]:
    def register(function: Scenario) -> Scenario:
        SCENARIOS[function.__name__] = weight, function
        return function

    return register


class NotStartedError(Exception):
    """A start was refused or stays in doubt, which the ledger knows: the scenario is over."""


class Load:
    """So many scenarios at once.

    Attributes:
        counts: what became of calls.
        problems: promises that were not kept.
        ledger: what the one start of each workflow id said, by the id's number; a byte each, as they are very many.
    """

    def __init__(self, client: grctl.Client, url: str, at_once: int, seed: int) -> None:
        self.client = client
        self.url = url
        self.chance = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.ledger = bytearray(1)
        self._at_once = at_once
        self._prefix = f"soak-{seed}"

    async def until(self, calm: asyncio.Event) -> None:
        """Work until it is to be calm, and end what was begun."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._work(calm))

    async def _work(self, calm: asyncio.Event) -> None:
        names = list(SCENARIOS)
        weights = [SCENARIOS[name][0] for name in names]
        while not calm.is_set():
            (name,) = self.chance.choices(names, weights)
            wf_id = f"{self._prefix}-{len(self.ledger)}"
            self.ledger.append(NOTHING)
            try:
                async with asyncio.timeout(LONGEST):
                    await SCENARIOS[name][1](self, wf_id)
                self.counts["done"] += 1
            except NotStartedError:
                await asyncio.sleep(0.1)
            except TimeoutError:
                self.problems.append(f"{name} of {wf_id} hung")
            except grctl.GrctlError as error:
                self.problems.append(f"{name} of {wf_id}: {error!r}")
            except AssertionError as error:
                self.problems.append(f"{name} of {wf_id}: {error}")

    # --- calls, with what each verdict allows ---

    async def start(
        self, kind: str, wf_id: str, given: Any = None, *, client: grctl.Client | None = None, **options: Any
    ) -> grctl.WorkflowHandle[Any]:
        """Start, once: each id has one start call in all, so it may have one run at most."""
        number = int(wf_id.rpartition("-")[2])
        try:
            handle = await (client or self.client).start_workflow(kind, wf_id, given, **options)
        except (grctl.NotSentError, grctl.NotDeliveredError) as error:
            self.counts["start not sent"] += 1
            self.ledger[number] = REFUSED
            raise NotStartedError from error
        except grctl.DeliveryUnknownError as error:
            self.counts["start in doubt"] += 1
            raise NotStartedError from error
        self.ledger[number] = ACCEPTED
        return handle

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat what was certainly not done; a doubt goes up."""
        while True:
            try:
                return await call()
            except (grctl.NotSentError, grctl.NotDeliveredError):
                self.counts["not sent"] += 1
                await asyncio.sleep(0.1)

    async def end(self, call: Callable[[], Awaitable[None]]) -> None:
        """Cancel or terminate, until it is accepted or the run has ended."""
        while True:
            try:
                return await self.patiently(call)
            except grctl.DeliveryUnknownError:
                self.counts["in doubt"] += 1
            except grctl.WorkflowFinishedError:
                return None

    async def send(self, handle: grctl.WorkflowHandle[Any], event: str) -> bool:
        """Send; False where it is in doubt."""
        try:
            await self.patiently(lambda: handle.send(event))
        except grctl.DeliveryUnknownError:
            self.counts["in doubt"] += 1
            return False
        return True

    async def finish(self, handle: grctl.WorkflowHandle[Any]) -> grctl.Outcome[Any]:
        """Send the last event until the run has ended, and return how."""
        while True:
            try:
                if await self.send(handle, "finish"):
                    return await handle.outcome()
                return await handle.outcome(timeout=5)
            except TimeoutError:
                continue
            except grctl.WorkflowFinishedError:
                return await handle.outcome()

    async def verify(self) -> None:
        """Compare what the server has with what the starts have said."""
        runs = bytearray(len(self.ledger))
        async for run in self.client.list_workflows(workflow_id_prefix=f"{self._prefix}-"):
            runs[int(run.wf_id.rpartition("-")[2])] += 1
        for number, (said, count) in enumerate(zip(self.ledger, runs, strict=True)):
            if count > 1:
                self.problems.append(f"number {number} was started once and has {count} runs")
            if said == REFUSED and count:
                self.problems.append(f"number {number} was certainly not started, and has a run")
            if said == ACCEPTED and not count:
                self.problems.append(f"number {number} was accepted and has no run")


def check(true: object, *said: object) -> None:
    if not true:
        raise AssertionError(" ".join(map(str, said)))


@scenario(4)
async def answered(load: Load, wf_id: str, client: grctl.Client | None = None) -> None:
    handle = await load.start("Echo", wf_id, {"value": wf_id}, client=client, result_type=str)
    result = await handle.result()
    check(result == wf_id, "got", result)


@scenario(4)
async def waited_for(load: Load, wf_id: str) -> None:
    seconds = load.chance.uniform(0.1, 3)
    handle = await load.start("Naps", wf_id, {"value": wf_id, "seconds": seconds}, result_type=str)
    waiting = [asyncio.ensure_future(handle.outcome()) for _ in range(3)]
    waiting[0].cancel()
    ends = [(await wait).result for wait in waiting[1:]]
    check(ends == [wf_id, wf_id], "ended as", ends)


@scenario(3)
async def told(load: Load, wf_id: str) -> None:
    handle = await load.start("Counts", wf_id, result_type=int)
    sent = [await load.send(handle, "add") for _ in range(load.chance.randint(1, 4))]
    outcome = await load.finish(handle)
    certain = sum(sent)
    check(outcome.result is not None and certain <= outcome.result <= len(sent), "sent", sent, "got", outcome)


@scenario(2)
async def cancelled(load: Load, wf_id: str) -> None:
    handle = await load.start("Counts", wf_id)
    await load.end(handle.cancel)
    status = (await handle.outcome()).status
    check(status == "cancelled", "ended as", status)


@scenario(2)
async def terminated(load: Load, wf_id: str) -> None:
    handle = await load.start("Counts", wf_id)
    await load.end(handle.terminate)
    status = (await handle.outcome()).status
    check(status == "terminated", "ended as", status)


@scenario(2)
async def timed_out(load: Load, wf_id: str) -> None:
    handle = await load.start("Counts", wf_id, workflow_timeout=load.chance.uniform(0.2, 2))
    status = (await handle.outcome()).status
    check(status == "timed_out", "ended as", status)


@scenario(2)
async def followed(load: Load, wf_id: str) -> None:
    handle = await load.start("Naps", wf_id, {"value": wf_id, "seconds": load.chance.uniform(0, 1)})
    events = [(event.seq, event.kind) async for event in handle.history(follow=True)]
    numbers = [number for number, _ in events]
    check(numbers == sorted(set(numbers)), "the history came as", numbers)
    check(events[-1][1] == "run.completed", "the history ended in", events[-1])


@scenario(2)
async def given_up(load: Load, wf_id: str) -> None:
    """Callers are cancelled at any moment; the run itself is ended afterwards."""
    handle = await load.start("Counts", wf_id)
    for call in (handle.outcome, handle.describe, handle.result, lambda: handle.send("add")):
        try:
            async with asyncio.timeout(load.chance.choice([0, 0.001, 0.01, 0.1])):
                await call()
        except (TimeoutError, grctl.ConnectionFailedError, grctl.DeliveryUnknownError):
            load.counts["given up"] += 1
    await load.end(handle.terminate)
    await handle.outcome()


@scenario(0.2)
async def over_a_connection_of_its_own(load: Load, wf_id: str) -> None:
    try:
        connection = await Connection.open(load.url, connect_timeout=2)
    except grctl.GrctlError as error:
        load.counts["not connected"] += 1
        raise NotStartedError from error
    async with connection:
        await answered(load, wf_id, grctl.Client(connection=connection))


@scenario(0.02)
async def listed(load: Load, wf_id: str) -> None:
    known = load.ledger.count(ACCEPTED)
    try:
        found = [run.wf_id async for run in load.client.list_workflows()]
    except (grctl.ConnectionFailedError, grctl.DeliveryUnknownError):
        load.counts["list not finished"] += 1
        return
    check(len(found) == len(set(found)), "the list has a run twice")
    check(known <= len(found), "the list has", len(found), "runs of", known)
