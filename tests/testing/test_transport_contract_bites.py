"""TransportContract finds what is wrong with a transport: each defect fails a case, and the right one."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from datetime import timedelta

import msgspec
import pytest

from grctl.testing import TransportContract
from grctl_core.commands import ErrorCode, Reply
from grctl_core.errors import ConnectionClosedError, EventLoopError, WorkflowError, WorkflowNotFoundError
from grctl_core.protocols import Capabilities, ConnectionEvent
from grctl_core.run import RunFilter
from grctl_engine.engine import Engine
from grctl_memory import MemoryConnection

CASES = sorted(name for name in dir(TransportContract) if name.startswith("test_"))


class LeavesItsCapabilitiesOut(MemoryConnection):
    capabilities = Capabilities(queries=False)


class RaisesRefusals(MemoryConnection):
    async def request(self, command, *, timeout):
        reply = await super().request(command, timeout=timeout)
        if reply.error is not None and reply.error.code == ErrorCode.NOT_FOUND:
            raise WorkflowNotFoundError("not found")
        return reply


class MixesUpReplies(MemoryConnection):
    _last = None

    async def request(self, command, *, timeout):
        reply = await super().request(command, timeout=timeout)
        if command.kind == "run.describe":
            reply, MixesUpReplies._last = MixesUpReplies._last or reply, reply
        return reply


class LosesPayloads(MemoryConnection):
    async def request(self, command, *, timeout):
        if command.kind == "run.event":
            command = msgspec.structs.replace(command, payload=None)
        return await super().request(command, timeout=timeout)


class SwallowsCancellation(MemoryConnection):
    async def request(self, command, *, timeout):
        try:
            return await super().request(command, timeout=timeout)
        except asyncio.CancelledError:
            return await super().request(command, timeout=timeout)


class RaisesTimeouts(MemoryConnection):
    async def request(self, command, *, timeout):
        if timeout < 1:
            raise TimeoutError
        return await super().request(command, timeout=timeout)


class RaisesHowARunEnded(MemoryConnection):
    def watch(self, run):
        watch = asyncio.get_running_loop().create_future()

        def ended(inner):
            if watch.done() or inner.cancelled():
                return
            if inner.exception():
                watch.set_exception(inner.exception())
            elif inner.result().error is not None:
                watch.set_exception(WorkflowError("GaveUp", "as asked"))
            else:
                watch.set_result(inner.result())

        super().watch(run).add_done_callback(ended)
        return watch


class SharesItsWatches(MemoryConnection):
    def watch(self, run):
        shared = self.__dict__.setdefault("shared", {})
        if run.run_id not in shared:
            shared[run.run_id] = super().watch(run)
        return shared[run.run_id]


class WaitsInTasks(MemoryConnection):
    def watch(self, run):
        async def wait(future):
            return await future

        return asyncio.ensure_future(wait(super().watch(run)))


class FindsTheLatestRun(MemoryConnection):
    async def find_run(self, run):
        found = [each async for each in self.list_runs(RunFilter()) if each.wf_id == run.wf_id]
        return found[-1] if found else None


class HasAlwaysBegun(MemoryConnection):
    async def has_begun(self, run):
        return True


class RaisesForUnknownTypes(MemoryConnection):
    async def find_type(self, workflow_type):
        found = await super().find_type(workflow_type)
        if found is None:
            raise KeyError(workflow_type)
        return found


class HasNoHistoryForTheUnknown(MemoryConnection):
    async def history(self, run, *, follow):
        with contextlib.suppress(WorkflowNotFoundError):
            async for event in super().history(run, follow=follow):
                yield event


class DoesNotFollow(MemoryConnection):
    def history(self, run, *, follow):
        return super().history(run, follow=False)


class ListsTwice(MemoryConnection):
    async def list_runs(self, run_filter):
        for _ in range(2):
            async for run in super().list_runs(run_filter):
                yield run


class IgnoresFilters(MemoryConnection):
    async def list_runs(self, run_filter):
        async for run in super().list_runs(RunFilter(workflow_id_prefix=run_filter.workflow_id_prefix)):
            yield run


class TellsAgain(MemoryConnection):
    async def close(self, *, grace=5.0):
        listeners = list(self._listeners._listeners)
        await super().close(grace=grace)
        for listener in listeners:
            with contextlib.suppress(RuntimeError):
                listener(ConnectionEvent.CLOSED)


class AnswersWhenClosed(MemoryConnection):
    async def find_type(self, workflow_type):
        return self._engine.find_type(workflow_type)


class ForgetsItsWatches(MemoryConnection):
    def watch(self, run):
        self._check_usable()
        return self._engine.watch(run, owner=None)


class LeavesATask(MemoryConnection):
    async def find_type(self, workflow_type):
        self.__dict__["left"] = asyncio.ensure_future(asyncio.sleep(3600))
        return await super().find_type(workflow_type)


class TakesAnyLoop(MemoryConnection):
    async def request(self, command, *, timeout):
        try:
            return await super().request(command, timeout=timeout)
        except EventLoopError:
            return Reply(success=True)


class PingsNobody(MemoryConnection):
    async def ping(self, *, timeout=5.0):
        return timedelta(0)


class PingsForEver(MemoryConnection):
    async def ping(self, *, timeout=5.0):
        if timeout == 1e-6:
            raise TimeoutError
        return await super().ping(timeout=timeout)


class PingsWhenClosed(MemoryConnection):
    async def ping(self, *, timeout=5.0):
        with contextlib.suppress(ConnectionClosedError):
            await super().ping(timeout=timeout)
        return timedelta(seconds=1)


class TakesAnyGrace(MemoryConnection):
    async def close(self, *, grace=5.0):
        await super().close()


DEFECTS = {
    LeavesItsCapabilitiesOut: "test_its_capabilities_are_so",
    RaisesRefusals: "test_a_refusal_is_a_reply",
    MixesUpReplies: "test_many_requests_at_once_each_get_their_own_reply",
    LosesPayloads: "test_commands_reach_the_server_and_replies_the_caller",
    SwallowsCancellation: "test_a_request_that_is_cancelled",
    RaisesTimeouts: "test_a_request_that_gets_no_time",
    RaisesHowARunEnded: "test_watch_gives_every_end_as_a_value",
    SharesItsWatches: "test_each_watch_belongs_to_its_caller",
    WaitsInTasks: "test_watches_cost_no_tasks",
    FindsTheLatestRun: "test_find_run_finds_exactly_this_run",
    HasAlwaysBegun: "test_has_begun",
    RaisesForUnknownTypes: "test_find_type",
    HasNoHistoryForTheUnknown: "test_history_of_a_run_that_is_not_there",
    DoesNotFollow: "test_history_that_is_followed",
    ListsTwice: "test_list_runs",
    IgnoresFilters: "test_list_runs",
    TellsAgain: "test_closing_again_and_at_once",
    AnswersWhenClosed: "test_after_closing",
    ForgetsItsWatches: "test_closing_ends_what_waits",
    LeavesATask: "test_find_type",
    TakesAnyLoop: "test_another_event_loop",
    PingsNobody: "test_ping",
    PingsForEver: "test_a_ping_that_gets_no_time",
    PingsWhenClosed: "test_after_closing",
    TakesAnyGrace: "test_closing_with_no_duration",
}


HANG = {LeavesATask, ForgetsItsWatches}
"""Those whose case waits for something that never comes."""


def contract_on(transport: type[MemoryConnection], within: float = TransportContract.deadline) -> TransportContract:
    class Suite(TransportContract):
        deadline = within

        @contextlib.asynccontextmanager
        async def serve(self):
            engine = Engine(self.workflows)
            try:
                yield lambda: transport.open(engine=engine)
            finally:
                await engine.close(0)

    return Suite()


@pytest.mark.parametrize(("transport", "case"), DEFECTS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_a_defect_fails_its_case(transport, case):
    getattr(contract_on(MemoryConnection), case)()
    within = 0.5 if transport in HANG else TransportContract.deadline
    with pytest.raises((Exception, pytest.fail.Exception, asyncio.CancelledError)) as failed:
        getattr(contract_on(transport, within), case)()
    assert ("has not ended within" in str(failed.value)) == (transport in HANG)
    del failed
    gc.collect()  # what asyncio says of the tasks of a defect is said now, and not in the name of another test


def test_what_a_case_waited_for_is_told():
    class Hangs(MemoryConnection):
        async def find_type(self, workflow_type):
            await asyncio.get_running_loop().create_future()

    for transport, waited_for in ((Hangs, "what the transport should have given"), (LeavesATask, "own tasks")):
        with pytest.raises(pytest.fail.Exception, match=f"it waited for .*{waited_for}"):
            contract_on(transport, 0.5).test_find_type()


def test_serve_has_to_be_overridden():
    with pytest.raises(NotImplementedError, match="override serve"):
        TransportContract().test_find_type()


def test_cases_are_plain_methods_with_a_docstring():
    assert len(CASES) > 25
    for name in CASES:
        case = getattr(TransportContract, name)
        assert case.__doc__
        assert not asyncio.iscoroutinefunction(case)
