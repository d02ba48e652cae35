"""PluginContract finds what is wrong with a plugin: each defect fails a case, and the right one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect

import pytest

import grctl
from grctl.testing import PluginContract

CASES = sorted(name for name in dir(PluginContract) if name.startswith("test_"))


class Fine(grctl.Plugin):
    name = "fine"

    async def grctl_operation(self, call, proceed):
        return await proceed(call)


class HasNoName(grctl.Plugin):
    async def grctl_operation(self, call, proceed):
        return await proceed(call)


class IsMisspelt(grctl.Plugin):
    name = "broken"

    async def grctl_operations(self, call, proceed):
        return await proceed(call)


class HasNoHook(grctl.Plugin):
    name = "broken"


class WantsToBeAlone(Fine):
    async def grctl_operation(self, call, proceed):
        result = await proceed(call)
        if call.operation == "describe" and call.state.get("recorded"):
            return result
        self.count = getattr(self, "count", 0) + 1
        if self.count > 20:
            raise RuntimeError("too many")
        return result


class SkipsResults(Fine):
    async def grctl_result(self, call, proceed):
        return await call.end.wait()


class BelongsToAClient(Fine):
    connection = None

    def grctl_connection_changed(self, event):
        self.connection = event

    async def grctl_operation(self, call, proceed):
        if self.connection is not None:
            raise RuntimeError("closed")
        return await proceed(call)


class BindsTheLoop(Fine):
    loop = None

    async def grctl_operation(self, call, proceed):
        self.loop = self.loop or asyncio.get_running_loop()
        self.loop.call_soon(len, ())
        return await proceed(call)


class MixesUpResults(Fine):
    async def grctl_operation(self, call, proceed):
        self.call = call
        await asyncio.sleep(0)
        result = await proceed(call)
        if call.operation == "query":
            self.answer = result
            await asyncio.sleep(0)
            return self.answer
        return result


class MixesUpCalls(Fine):
    async def grctl_operation(self, call, proceed):
        self.call = call
        await asyncio.sleep(0)
        return await proceed(self.call)


class ChangesEvents(Fine):
    async def grctl_send(self, call, proceed):
        await proceed(call.replace(payload="other"))


class LosesAnswers(Fine):
    async def grctl_operation(self, call, proceed):
        result = await proceed(call)
        return None if call.operation == "query" else result


class RaisesItsOwn(Fine):
    async def grctl_operation(self, call, proceed):
        try:
            return await proceed(call)
        except grctl.RefusedError as error:
            raise RuntimeError("refused") from error


class SwallowsErrors(Fine):
    async def grctl_send(self, call, proceed):
        with contextlib.suppress(grctl.NotSentError):
            await proceed(call)


class SwallowsErrorsOfAttempts(Fine):
    async def grctl_attempt(self, attempt, proceed):
        try:
            return await proceed(attempt)
        except grctl.NotDeliveredError as error:
            raise grctl.NotSentError("no") from error


class ProceedsTwice(Fine):
    async def grctl_send(self, call, proceed):
        await proceed(call)
        with contextlib.suppress(grctl.PluginError):
            await proceed(call)


class ProceedsAgainAfterAnError(Fine):
    async def grctl_operation(self, call, proceed):
        try:
            return await proceed(call)
        except grctl.NotSentError as error:
            with contextlib.suppress(grctl.PluginError):
                return await proceed(call)
            raise error from None


class NeverProceeds(Fine):
    async def grctl_send(self, call, proceed):
        return None


class ChangesInputs(Fine):
    async def grctl_start(self, call, proceed):
        if call.workflow_input:
            call.workflow_input["tenant"] = "acme"
        return await proceed(call)


class ChangesThemDeepDown(Fine):
    async def grctl_send(self, call, proceed):
        if isinstance(call.payload, dict) and "items" in call.payload:
            call.payload["items"][1]["deep"].append(1)
        await proceed(call)


@dataclasses.dataclass
class ShowsTheLastPayload:
    last: object = None
    name = "broken"

    async def grctl_start(self, call, proceed):
        self.last = call.workflow_input
        return await proceed(call)


@dataclasses.dataclass
class ShowsPayloadsForAMoment:
    current: object = None
    name = "broken"

    async def grctl_operation(self, call, proceed):
        self.current = getattr(call, "payload", None)
        try:
            return await proceed(call)
        finally:
            self.current = None


class SwallowsCancellation(Fine):
    async def grctl_operation(self, call, proceed):
        try:
            return await proceed(call)
        except asyncio.CancelledError:
            return None


class SwallowsItBeforeItProceeds(Fine):
    async def grctl_operation(self, call, proceed):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        return await proceed(call)


class SwallowsItBehind(Fine):
    async def grctl_operation(self, call, proceed):
        result = await proceed(call)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        return result


class GivesUpWhenCancelled(Fine):
    async def grctl_retry(self, call, proceed):
        try:
            return await proceed(call)
        except asyncio.CancelledError as error:
            raise grctl.NotSentError("gave up") from error


class MapsCancellation(Fine):
    async def grctl_attempt(self, attempt, proceed):
        try:
            return await proceed(attempt)
        except asyncio.CancelledError as error:
            raise TimeoutError from error


class LeavesATask(Fine):
    async def grctl_start(self, call, proceed):
        self.left = asyncio.ensure_future(asyncio.sleep(3600))
        return await proceed(call)


class Hangs(Fine):
    async def grctl_send(self, call, proceed):
        await asyncio.get_running_loop().create_future()


class CannotBeStopped(Fine):
    async def grctl_send(self, call, proceed):
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()


class CancelsAtTheEnd(Fine):
    def grctl_run_ended(self, run):
        raise asyncio.CancelledError


class CancelsAtRetries(Fine):
    def grctl_retry_scheduled(self, delay):
        raise asyncio.CancelledError


class CancelsAtTheConnection(Fine):
    def grctl_connection_changed(self, connection, event):
        raise asyncio.CancelledError


class Warns(Fine):
    def __init__(self):
        import warnings

        warnings.warn("made", UserWarning, stacklevel=1)


class RaisesAtACertainEnd(Fine):
    def grctl_run_ended(self, outcome):
        if outcome.status == "timed_out":
            raise RuntimeError("not foreseen")


class NeedsTheStart(Fine):
    async def grctl_start(self, call, proceed):
        call.state["fine"] = 1
        return await proceed(call)

    def grctl_run_ended(self, state):
        assert state["fine"]


class RaisesAtRetries(Fine):
    def grctl_retry_scheduled(self, call, error):
        assert call.run_id, "a look at the latest run has none"


class RaisesAtTheConnection(Fine):
    def grctl_connection_changed(self, connection, event):
        raise RuntimeError(event)


class HasNoContext(Fine):
    def grctl_log_context(self, run):
        return None


class ContextIsUsedOnce(Fine):
    def __init__(self):
        self.context = self.enter()

    @contextlib.contextmanager
    def enter(self):
        yield

    def grctl_log_context(self, run):
        return self.context


DEFECTS = {
    HasNoName: "test_it_can_be_listed",
    IsMisspelt: "test_it_can_be_listed",
    HasNoHook: "test_it_can_be_listed",
    WantsToBeAlone: "test_a_hundred_calls_at_once",
    SkipsResults: "test_alone_and_among_others",
    BelongsToAClient: "test_two_clients_may_share_it",
    BindsTheLoop: "test_a_second_event_loop",
    MixesUpResults: "test_a_hundred_calls_at_once",
    MixesUpCalls: "test_a_hundred_calls_at_once",
    ChangesEvents: "test_on_the_embedded_engine",
    LosesAnswers: "test_results_come_through",
    RaisesItsOwn: "test_errors_come_through",
    SwallowsErrors: "test_errors_come_through",
    SwallowsErrorsOfAttempts: "test_errors_come_through",
    ProceedsTwice: "test_proceed_is_called_once",
    ProceedsAgainAfterAnError: "test_proceed_is_called_once",
    NeverProceeds: "test_proceed_is_called_once",
    ChangesInputs: "test_the_callers_values_stay_as_they_are",
    ChangesThemDeepDown: "test_the_callers_values_stay_as_they_are",
    ShowsTheLastPayload: "test_its_repr_shows_no_payload",
    ShowsPayloadsForAMoment: "test_its_repr_shows_no_payload",
    SwallowsCancellation: "test_cancellation_passes_through",
    SwallowsItBeforeItProceeds: "test_cancellation_passes_through",
    SwallowsItBehind: "test_cancellation_passes_through",
    GivesUpWhenCancelled: "test_cancellation_passes_through",
    MapsCancellation: "test_cancellation_passes_through",
    LeavesATask: "test_results_come_through",
    Hangs: "test_results_come_through",
    CannotBeStopped: "test_results_come_through",
    CancelsAtTheEnd: "test_every_end_of_a_run",
    CancelsAtRetries: "test_every_retry",
    CancelsAtTheConnection: "test_every_change_of_the_connection",
    Warns: "test_it_can_be_listed",
    RaisesAtACertainEnd: "test_every_end_of_a_run",
    NeedsTheStart: "test_every_end_of_a_run",
    RaisesAtRetries: "test_every_retry",
    RaisesAtTheConnection: "test_every_change_of_the_connection",
    HasNoContext: "test_the_log_context",
    ContextIsUsedOnce: "test_the_log_context",
}
HANG = {LeavesATask, Hangs, CannotBeStopped}
"""Those whose case waits for something that never comes."""


def contract_on(plugin, within=PluginContract.deadline, **options):
    class Suite(PluginContract):
        deadline = within

        def make_plugin(self):
            return plugin()

    for name, value in options.items():
        setattr(Suite, name, value)
    return Suite()


@pytest.mark.parametrize(("plugin", "case"), DEFECTS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_a_defect_fails_its_case(plugin, case):
    getattr(contract_on(Fine), case)()
    within = 0.5 if plugin in HANG else PluginContract.deadline
    with pytest.raises((Exception, pytest.fail.Exception, asyncio.CancelledError)) as failed:
        getattr(contract_on(plugin, within), case)()
    assert ("has not ended within" in str(failed.value)) == (plugin in HANG)


def test_every_case_has_a_defect_that_fails_it():
    assert set(DEFECTS.values()) == set(CASES)


def test_what_a_case_waited_for_is_told():
    for plugin, waited_for in ((Hangs, "a call through the plugin"), (LeavesATask, "left behind\n  <.*sleep")):
        with pytest.raises(pytest.fail.Exception, match=f"it waited for .*{waited_for}"):
            contract_on(plugin, 0.5).test_results_come_through()


def test_what_hangs_is_told_by_plugin_and_case():
    for plugin in (Hangs, CannotBeStopped):
        with pytest.raises(pytest.fail.Exception, match=r"plugin 'fine': the case test_results_come_through has not"):
            contract_on(plugin, 0.5).test_results_come_through()


@pytest.mark.parametrize(
    ("plugin", "hook"),
    [
        (CancelsAtTheEnd, "grctl_run_ended"),
        (CancelsAtRetries, "grctl_retry_scheduled"),
        (CancelsAtTheConnection, "grctl_connection_changed"),
    ],
)
def test_a_cancellation_by_a_notification_is_told(plugin, hook):
    with pytest.raises(AssertionError, match=f"{hook} raised CancelledError"):
        getattr(contract_on(plugin), DEFECTS[plugin])()


def test_what_the_author_says_is_admitted_and_no_more():
    contract_on(NeverProceeds, answers={"send"}).test_proceed_is_called_once()
    contract_on(LosesAnswers, changes={"query"}).test_results_come_through()
    for options in ({"answers": {"start"}}, {"changes": {"send"}}):
        with pytest.raises(AssertionError, match="grctl_send around send: did not call proceed"):
            contract_on(NeverProceeds, **options).test_proceed_is_called_once()
    with pytest.raises(AssertionError, match="called proceed 2 times"):
        contract_on(ProceedsTwice, answers={"send"}).test_proceed_is_called_once()


def test_make_plugin_has_to_be_overridden():
    with pytest.raises(NotImplementedError, match="override make_plugin"):
        PluginContract().test_it_can_be_listed()


def test_cases_are_plain_methods_with_a_docstring():
    assert len(CASES) > 12
    for name in CASES:
        case = getattr(PluginContract, name)
        assert case.__doc__
        assert not inspect.iscoroutinefunction(case)
