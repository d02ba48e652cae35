"""A plugin in a list, alone and among others, on more than one client, and on a real engine."""

from __future__ import annotations

import asyncio
from typing import Any

import grctl
from grctl.testing.answers import answer
from grctl.testing.plugin_contract.cases import Contract, case
from grctl.testing.plugin_contract.operations import OPERATIONS, SECRET, WF_ID, Stage, plain_end
from grctl.testing.plugin_contract.watched import Recorder, hooks_of
from grctl.testing.transport_contract.workflows import contract_workflows
from grctl_core.client import WorkflowClient

__all__ = ["ComposingCases"]


class ComposingCases(Contract):
    """Cases about lists."""

    @case
    async def test_it_can_be_listed(self) -> None:
        """It is an object with a name, and with hooks that there are."""
        plugin = self.new_plugin()
        client = Stage([plugin]).client
        assert client.plugins.names == (plugin.name,)
        assert hooks_of(plugin)

    @case
    async def test_alone_and_among_others(self) -> None:
        """The others see every operation before it, and, where it proceeds, behind it."""
        for before, behind in ((0, 0), (1, 0), (0, 1), (1, 1)):
            first = [Recorder("contract-before")] * before
            last = [Recorder("contract-behind")] * behind
            stage = Stage([*first, self.new_plugin(), *last])
            for operation in OPERATIONS:
                await self._perform(stage, operation)
            for recorder in first:
                assert set(recorder.calls) == set(OPERATIONS)
            for recorder in last:
                missing = set(OPERATIONS) - set(recorder.calls) - set(self.answers)
                assert not missing, f"layers behind the plugin did not see {', '.join(sorted(missing))}"
            await stage.transport.close()

    async def _perform(self, stage: Stage, operation: str) -> None:
        wf_id = f"contract-{operation}"
        await stage.begin(operation, wf_id, answers_start="start" in self.answers)
        plain_end(operation, stage.transport, SECRET, wf_id)
        if self.compares(operation):
            await stage.perform(operation, {"card": SECRET}, wf_id)
        else:
            await stage.ending(operation, {"card": SECRET}, wf_id)

    @case
    async def test_two_clients_may_share_it(self) -> None:
        """And one of them may be done with it before the other."""
        plugin = self.new_plugin()
        stages = [Stage([plugin]), Stage([plugin])]
        await asyncio.gather(*(self._perform(stage, "start") for stage in stages))
        await stages[0].transport.close()
        for operation in OPERATIONS[1:]:
            await self._perform(stages[1], operation)
        await stages[1].transport.close()

    def test_a_second_event_loop(self) -> None:
        """A plugin that outlives an event loop, as in tests and scripts, works in the next one."""
        kept: list[Any] = []

        async def once(contract: ComposingCases) -> None:
            if not kept:
                kept.append(contract.make_plugin())
            stage = Stage(kept)
            for operation in OPERATIONS:
                await contract._perform(stage, operation)
            await stage.transport.close()

        async def last(contract: ComposingCases) -> None:
            contract.made.extend(kept)
            await once(contract)

        case(once)(self)
        case(last)(self)

    @case
    async def test_a_hundred_calls_at_once(self) -> None:
        """None gets what belongs to another."""
        stage = Stage([self.new_plugin()])
        ids = [f"contract-{number}" for number in range(100)]

        async def through(wf_id: str) -> list[object]:
            mine = Stage([], like=stage)
            seen: list[object] = []
            if "start" not in self.answers:
                seen.append(await mine.perform("start", {"card": wf_id}, wf_id))
            else:
                await mine.begin("send", wf_id, answers_start=True)
            seen += [await mine.ending(name, {"card": wf_id}, wf_id) for name in ("send", "describe", "query")]
            stage.transport.end(wf_id, result=wf_id)
            seen.append(await mine.ending("result", None, wf_id))
            return seen

        stage.transport.on("query", lambda command: answer(command.wf_id), always=True)
        through_it = await asyncio.gather(*map(through, ids))
        for wf_id, seen in zip(ids, through_it, strict=True):
            names = ("start", "send", "describe", "query", "result")[-len(seen) :]
            for operation, value in zip(names, seen, strict=True):
                if not self.compares(operation):
                    continue
                given = value[0] if isinstance(value, tuple) else value  # the workflow id of a record
                expected = None if operation == "send" else wf_id
                assert given == expected, f"{operation} of {wf_id!r} gave {given!r}"
        await stage.transport.close()

    @case
    async def test_on_the_embedded_engine(self) -> None:
        """Workflows run, get their events and give their results, as they do without it."""
        async with await grctl.connect("memory://", workflows=contract_workflows) as connection:
            plain = WorkflowClient(connection=connection, plugins=[])
            client = WorkflowClient(connection=connection, plugins=[self.new_plugin()])
            starter = client if self.compares("start") else plain
            handle = await starter.start_workflow("ContractWaits", WF_ID)
            if not self.compares("send") or not self.compares("result"):
                await plain_finish(plain, WF_ID)
                assert (await handle.outcome()).completed or "result" in self.answers
                return
            await handle.send("finish", {"value": [SECRET, 1, None]})
            assert await handle.result() == [SECRET, 1, None]
            if self.compares("start"):
                assert await client.run_workflow("ContractReturns", "contract-2", {"value": [1.5, "é"]}) == [1.5, "é"]


async def plain_finish(client: WorkflowClient, wf_id: str) -> None:
    """End a run without the plugin."""
    handle = await client.get_handle(wf_id)
    await handle.send("finish")
