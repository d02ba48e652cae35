"""Drivers of the operations: how each is called, what of it goes over the wire, and what must be true after it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Any, ClassVar

from fault_proxy import Frame, Match, replies, requests

from grctl import ConnectionClosedError, DeliveryUnknownError, RunStatus, WorkflowNotFoundError
from grctl.dev_server.service import kind_of
from grctl_core.handle import WorkflowHandle
from grctl_core.history import HistoryEvent
from grctl_core.run import RunInfo
from grctl_nats import subjects

from .cell import Cell
from .site import LONG, PATIENCE
from .table import Operation, Verdict

__all__ = ["DRIVERS", "OperationDriver"]

NUMBER = 7


class OperationDriver:
    """How one operation is done.

    Attributes:
        waits: whether it goes on until it is done, whatever happens: it needs :meth:`let_end`.
    """

    operation: ClassVar[Operation]
    waits: ClassVar[bool] = False
    asks: ClassVar[str] = "grctl_api.>"
    kind: ClassVar[str] = ""

    def request(self) -> Match:
        """What it asks: the message that the fault strikes."""
        return requests(self.asks, self._is_it)

    def reply(self) -> Match:
        """What it is answered."""
        return replies(self.asks, lambda frame: frame.request is not None and self._is_it(frame.request))

    def _is_it(self, frame: Frame) -> bool:
        return not self.kind or kind_of(frame.payload) == self.kind

    async def prepare(self, cell: Cell) -> None:
        """Do, before the fault, what it needs: by default, start the run that it is about."""
        assert cell.client is not None
        cell.handle = await cell.client.start_workflow("Order", cell.wf_id, {"number": NUMBER}, cell.workflow_timeout)

    async def call(self, cell: Cell) -> Any:
        """Do it; nothing of it is lost when it is cancelled."""
        raise NotImplementedError

    async def let_end(self, cell: Cell) -> None:
        """Have what it waits for happen."""
        assert cell.handle is not None
        await cell.site.send(cell.handle.run_info.ref, "ship")

    async def check(self, cell: Cell, verdict: Verdict, got: Any) -> None:
        """See whether what the caller was told is so."""
        raise NotImplementedError

    async def works_on(self, cell: Cell) -> None:
        """See whether the connection can be used after it."""
        assert cell.connection is not None
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(ConnectionError, DeliveryUnknownError):
                    if await cell.connection.find_type("NoSuchType") is None:
                        return
                await asyncio.sleep(0.01)


def _handle(cell: Cell) -> WorkflowHandle[Any]:
    assert cell.handle is not None
    return cell.handle


async def _kinds(cell: Cell) -> Counter[str]:
    return Counter(event.kind for event in await cell.site.history(_handle(cell).run_info.ref))


class Connect(OperationDriver):
    operation = Operation.CONNECT
    asks = f"$JS.API.STREAM.INFO.{subjects.STREAM}"

    async def prepare(self, cell: Cell) -> None:
        pass

    async def call(self, cell: Cell) -> None:
        cell.use(await cell.connect(None, cell.connect_timeout))

    async def check(self, cell: Cell, verdict: Verdict, got: Any) -> None:
        if verdict is Verdict.DONE:
            await self.works_on(cell)

    async def works_on(self, cell: Cell) -> None:
        if cell.connection is not None:
            await super().works_on(cell)


class Start(OperationDriver):
    operation = Operation.START
    kind = "run.start"

    async def prepare(self, cell: Cell) -> None:
        pass

    async def call(self, cell: Cell) -> RunInfo:
        assert cell.client is not None
        cell.handle = await cell.client.start_workflow(
            "Order", cell.wf_id, {"number": NUMBER}, cell.workflow_timeout, request_timeout=cell.timeout
        )
        return cell.handle.run_info

    async def check(self, cell: Cell, verdict: Verdict, got: Any) -> None:
        runs = await cell.site.runs(cell.wf_id)
        cell.result.duplicated += len(runs) > 1
        for run in runs:
            starts = [event for event in await cell.site.history(run.ref) if event.kind == "run.started"]
            cell.result.duplicated += len(starts) > 1
        match verdict:
            case Verdict.DONE:
                if [run.id for run in runs] != [got.id]:
                    cell.result.lost += 1
                    return
                await cell.site.send(got.ref, "ship")
                outcome = await _handle(cell).outcome(PATIENCE)
                if outcome.result != [NUMBER, []]:
                    cell.result.wrong.append(f"the run that was started ended in {outcome}")
            case Verdict.DOUBT:
                if got.run is None or any(run.id != got.run.run_id for run in runs):
                    cell.result.wrong.append(f"the doubt is about {got.run}, and there is {runs}")
            case Verdict.CANCELLED:
                pass
            case _:
                if runs:
                    cell.result.wrong.append(f"{verdict.value}, and there is {runs}")


class Send(OperationDriver):
    operation = Operation.SEND
    kind = "run.event"

    async def prepare(self, cell: Cell) -> None:
        await super().prepare(cell)
        await _handle(cell).send("note", 0)  # what the type knows is known from here on

    async def call(self, cell: Cell) -> None:
        await _handle(cell).send("note", 1, request_timeout=cell.timeout)

    async def check(self, cell: Cell, verdict: Verdict, got: Any) -> None:
        events = await cell.site.history(_handle(cell).run_info.ref)
        arrived = [event.data["payload"] for event in events if event.kind == "event.received"].count(1)
        cell.result.duplicated += arrived > 1
        cell.result.lost += verdict is Verdict.DONE and not arrived
        if arrived and verdict not in (Verdict.DONE, Verdict.DOUBT, Verdict.CANCELLED):
            cell.result.wrong.append(f"{verdict.value}, and the event arrived")


class _End(OperationDriver):
    status: ClassVar[RunStatus]

    async def check(self, cell: Cell, verdict: Verdict, got: Any) -> None:
        (run,) = await cell.site.runs(cell.wf_id)
        ends = (await _kinds(cell))[f"run.{self.status}"]
        cell.result.duplicated += ends > 1
        cell.result.lost += verdict is Verdict.DONE and run.status is not self.status
        if ends and verdict not in (Verdict.DONE, Verdict.DOUBT, Verdict.CANCELLED):
            cell.result.wrong.append(f"{verdict.value}, and the run is {run.status}")


class Cancel(_End):
    operation = Operation.CANCEL
    kind = "run.cancel"
    status = RunStatus.CANCELLED

    async def call(self, cell: Cell) -> None:
        await _handle(cell).cancel("enough", request_timeout=cell.timeout)


class Terminate(_End):
    operation = Operation.TERMINATE
    kind = "run.terminate"
    status = RunStatus.TERMINATED

    async def call(self, cell: Cell) -> None:
        await _handle(cell).terminate("enough", request_timeout=cell.timeout)


class Describe(OperationDriver):
    operation = Operation.DESCRIBE
    kind = "run.describe"

    async def call(self, cell: Cell) -> RunInfo:
        return await _handle(cell).describe(request_timeout=cell.timeout)

    async def check(self, cell: Cell, verdict: Verdict, got: Any) -> None:
        if verdict is Verdict.DONE and (got.id, got.status) != (_handle(cell).run_info.id, RunStatus.RUNNING):
            cell.result.wrong.append(f"described as {got}")


class WaitForResult(OperationDriver):
    operation = Operation.RESULT
    waits = True
    asks = "$JS.API.DIRECT.GET.grctl_state.grctl_run.*.*.*.info"

    async def call(self, cell: Cell) -> Any:
        return await _handle(cell).outcome()

    async def check(self, cell: Cell, verdict: Verdict, got: Any) -> None:
        if verdict is Verdict.DONE and (got.status, got.result) != (RunStatus.COMPLETED, [NUMBER, []]):
            cell.result.wrong.append(f"the end is told as {got}")


class History(OperationDriver):
    operation = Operation.HISTORY
    waits = True
    asks = "$JS.API.DIRECT.GET.grctl_state"

    async def call(self, cell: Cell) -> list[HistoryEvent]:
        return [event async for event in _handle(cell).history(follow=True)]

    async def check(self, cell: Cell, verdict: Verdict, got: Any) -> None:
        if verdict is not Verdict.DONE:
            return
        told = [event.kind for event in got]
        stored = [event.kind for event in await cell.site.history(_handle(cell).run_info.ref)]
        seqs = [event.seq for event in got]
        cell.result.duplicated += len(set(seqs)) < len(seqs)
        cell.result.lost += len(told) < len(stored)
        if told != stored or seqs != sorted(seqs):
            cell.result.wrong.append(f"the history is told as {told}, and is {stored}")


class List(OperationDriver):
    operation = Operation.LIST
    asks = "$JS.API.CONSUMER.CREATE.>"

    async def call(self, cell: Cell) -> list[str]:
        assert cell.client is not None
        async with contextlib.AsyncExitStack() as stack:
            runs = cell.client.list_workflows(workflow_id_prefix=cell.wf_id)
            await stack.enter_async_context(contextlib.aclosing(runs))  # type: ignore[type-var]
            return [run.id async for run in runs if run.wf_id == cell.wf_id]

    async def check(self, cell: Cell, verdict: Verdict, got: Any) -> None:
        if verdict is not Verdict.DONE:
            return
        cell.result.duplicated += len(set(got)) < len(got)
        if got != [_handle(cell).run_info.id] and not cell.purged:
            cell.result.lost += 1


class Close(OperationDriver):
    operation = Operation.CLOSE

    async def prepare(self, cell: Cell) -> None:
        await super().prepare(cell)
        cell.waiting = _handle(cell).future

    async def call(self, cell: Cell) -> None:
        assert cell.connection is not None
        await cell.connection.close(grace=0.05)

    async def check(self, cell: Cell, verdict: Verdict, got: Any) -> None:
        assert cell.connection is not None
        await cell.connection.close()  # where the caller was cancelled it goes on
        with contextlib.suppress(ConnectionClosedError):
            await _handle(cell).describe()
            cell.result.wrong.append("closed, and can be used")
        error = cell.waiting.exception() if cell.waiting.done() else None
        if not isinstance(error, ConnectionClosedError | WorkflowNotFoundError):
            cell.result.wrong.append(f"closed, and a wait for an end has {error!r}")

    async def works_on(self, cell: Cell) -> None:
        pass


class CloseBusy(Close):
    """Close with a start under way: the verdict is the start's. A run is waited for, too."""

    operation = Operation.CLOSE_BUSY
    kind = "run.start"

    async def call(self, cell: Cell) -> RunInfo:
        assert cell.client is not None
        starting = asyncio.ensure_future(
            cell.client.start_workflow("Order", f"{cell.wf_id}-late", {"number": NUMBER}, request_timeout=LONG)
        )
        try:
            await cell.struck.wait()
            await super().call(cell)
            return (await starting).run_info
        finally:
            if not starting.done():
                starting.cancel()
            await asyncio.wait([starting])

    async def check(self, cell: Cell, verdict: Verdict, got: Any) -> None:
        await super().check(cell, verdict, got)
        runs = await cell.site.runs(f"{cell.wf_id}-late")
        cell.result.duplicated += len(runs) > 1
        cell.result.lost += verdict is Verdict.DONE and not runs
        if runs and verdict not in (Verdict.DONE, Verdict.DOUBT, Verdict.CANCELLED):
            cell.result.wrong.append(f"{verdict.value}, and there is {runs}")


DRIVERS: dict[Operation, OperationDriver] = {
    driver.operation: driver
    for driver in (
        Connect(),
        Start(),
        Send(),
        Cancel(),
        Terminate(),
        Describe(),
        WaitForResult(),
        History(),
        List(),
        Close(),
        CloseBusy(),
    )
}
