"""Notifications: plain functions that return at once and raise nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from grctl.testing.plugin_contract.cases import Contract, case
from grctl.testing.plugin_contract.operations import SECRET, WF_ID, Stage, ends_of
from grctl.testing.plugin_contract.watched import watched
from grctl_core.calls import CancelCall, DescribeCall, QueryCall, SendCall, StartCall, TerminateCall
from grctl_core.errors import DeliveryUnknownError, NotDeliveredError, NotSentError, ServerError
from grctl_core.run import RunRef

__all__ = ["NotifyingCases"]

_RUN = RunRef(WF_ID, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "Contract")


def _check(faults: list[str]) -> None:
    """Look at what only notifications did wrong: other cases look at layers."""
    raised = [fault for fault in dict.fromkeys(faults) if "raised CancelledError" in fault]
    assert not raised, "\n".join(raised)


class NotifyingCases(Contract):
    """Cases about notifications, and the log context."""

    @case
    async def test_every_end_of_a_run(self) -> None:
        """grctl_run_ended raises nothing, however the run ended, and whether or not the start was seen."""
        faults: list[str] = []
        for how in (None, *ends_of("result")):
            for answers_start in {"start" in self.answers, True}:
                stage = Stage([watched(self.new_plugin(), faults, self.answers)])
                await stage.begin("result", answers_start=answers_start)
                assert stage.handle is not None
                future = stage.handle.future
                if how is None:
                    stage.transport.end(WF_ID, result={"card": SECRET})
                else:
                    ends_of("result")[how](stage.transport, "result")
                await stage.ending("result")
                await asyncio.wait([future])
                future.cancelled() or future.exception()
                await stage.transport.close()
        _check(faults)

    @case
    async def test_every_retry(self) -> None:
        """grctl_retry_scheduled raises nothing, whatever the call and the error."""
        faults: list[str] = []
        notifications = Stage([watched(self.new_plugin(), faults)]).client.plugins.pipeline.notifications
        common: dict[str, Any] = {"run": _RUN, "request_timeout": 5.0}
        calls = (
            StartCall(**common, workflow_input={"card": SECRET}),
            SendCall(**common, event_name="go", payload={"card": SECRET}),
            CancelCall(**common),
            TerminateCall(**common),
            DescribeCall(run=RunRef(WF_ID, ""), request_timeout=5.0),
            QueryCall(**common, query_name="state", arguments={}),
        )
        errors = (
            NotSentError("no link"),
            NotDeliveredError("no server listens"),
            DeliveryUnknownError("no reply"),
            ServerError("no", code=4999, detail=""),
            TimeoutError(),
        )
        for call in calls:
            for number, error in enumerate(errors):
                notifications.retry_scheduled(call, error, 0.25 * number, number + 2)
        _check(faults)

    @case
    async def test_every_change_of_the_connection(self) -> None:
        """grctl_connection_changed raises nothing: lost, up again, closed."""
        faults: list[str] = []
        stage = Stage([watched(self.new_plugin(), faults)])
        for _ in range(2):
            stage.transport.disconnect()
            stage.transport.reconnect()
        await stage.transport.close()
        _check(faults)

    @case
    async def test_the_log_context(self) -> None:
        """``with handle.log_context():`` can be nested, and errors of the block get through."""
        stage = Stage([self.new_plugin()])
        await stage.begin("send", answers_start="start" in self.answers)
        assert stage.handle is not None
        with stage.handle.log_context(), stage.handle.log_context():
            pass
        with pytest.raises(ZeroDivisionError), stage.handle.log_context():
            raise ZeroDivisionError
        await stage.transport.close()
