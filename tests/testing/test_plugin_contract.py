"""PluginContract passes plugins that do no harm, whatever they are for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import grctl
from grctl.testing import PluginContract


class Looks(grctl.Plugin):
    """Has every hook, and does nothing."""

    name = "looks"

    async def grctl_operation(self, call, proceed):
        return await proceed(call)

    async def grctl_start(self, call, proceed):
        await asyncio.sleep(0)
        return await proceed(call)

    async def grctl_send(self, call, proceed):
        try:
            await proceed(call)
        finally:
            await asyncio.sleep(0)

    async def grctl_result(self, call, proceed):
        return await proceed(call)

    async def grctl_retry(self, call, proceed):
        return await proceed(call)

    async def grctl_attempt(self, attempt, proceed):
        return await proceed(attempt.replace(headers={**attempt.headers, "looks": "1"}))

    def grctl_run_ended(self, run, outcome):
        assert run.wf_id

    def grctl_retry_scheduled(self, call):
        assert call.operation

    def grctl_connection_changed(self, event):
        assert event

    def grctl_log_context(self, run):
        return _Nothing()


class _Nothing:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


class WithoutBase:
    name = "without-base"

    async def grctl_operation(self, call, proceed):
        return await proceed(call)


class ReadOnly(grctl.Plugin):
    """Refuses what changes something."""

    name = "read-only"

    async def grctl_operation(self, call, proceed):
        if getattr(call, "changes_state", False):
            raise grctl.InvalidInputError("this client only reads")
        return await proceed(call)


class RefusesAll(grctl.Plugin):
    name = "refuses-all"

    async def grctl_operation(self, call, proceed):
        raise grctl.InvalidInputError("not today")


class DryRun(grctl.Plugin):
    """Answers a start by itself."""

    name = "dry-run"

    async def grctl_start(self, call, proceed):
        return grctl.RunInfo(
            id=call.run_id, wf_id=call.workflow_id, wf_type=call.workflow_type, created_at=datetime.now(UTC)
        )


class Cache(grctl.Plugin):
    """Remembers what was described."""

    name = "cache"

    def __init__(self):
        self.known = {}

    async def grctl_operation(self, call, proceed):
        if call.operation != "describe":
            return await proceed(call)
        if call.run_id not in self.known:
            self.known[call.run_id] = await proceed(call)
        return self.known[call.run_id]


class Adds(grctl.Plugin):
    """Changes values, and maps an error."""

    name = "adds"

    async def grctl_start(self, call, proceed):
        value = {**(call.workflow_input or {}), "tenant": "acme"}
        try:
            return await proceed(call.replace(workflow_input=value))
        except grctl.WorkflowAlreadyRunningError as error:
            raise LookupError from error


class Works(grctl.Plugin):
    """Has a task of its own, which has to be ended."""

    name = "works"

    def __init__(self):
        self.queue = asyncio.Queue()
        self.task = asyncio.create_task(self.work())

    async def work(self):
        while True:
            await self.queue.get()

    async def grctl_operation(self, call, proceed):
        self.queue.put_nowait(call.operation)
        return await proceed(call)


class TestLooks(PluginContract):
    def make_plugin(self):
        return Looks()


class TestWithoutBase(PluginContract):
    def make_plugin(self):
        return WithoutBase()


class TestReadOnly(PluginContract):
    answers = frozenset({"start", "send", "cancel", "terminate"})

    def make_plugin(self):
        return ReadOnly()


class TestRefusesAll(PluginContract):
    answers = frozenset({"start", "send", "cancel", "terminate", "describe", "query", "result"})

    def make_plugin(self):
        return RefusesAll()


class TestDryRun(PluginContract):
    answers = frozenset({"start"})

    def make_plugin(self):
        return DryRun()


class TestCache(PluginContract):
    answers = frozenset({"describe"})

    def make_plugin(self):
        return Cache()


class TestAdds(PluginContract):
    changes = frozenset({"start"})

    def make_plugin(self):
        return Adds()


class TestWorks(PluginContract):
    test_a_second_event_loop = None  # its task belongs to the first

    def make_plugin(self):
        return Works()

    async def close_plugin(self, plugin):
        plugin.task.cancel()
        await asyncio.wait([plugin.task])
