"""grctl_core.reconcile: send, cancel and terminate."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from grctl_core.doubt import DoubtBounds
from grctl_core.errors import (
    AccessDeniedError,
    ConnectionClosedError,
    DeliveryUnknownError,
    GrctlError,
    NotDeliveredError,
    NotSentError,
    RefusedError,
    ServerError,
    WorkflowFinishedError,
    WorkflowNotFoundError,
)
from grctl_core.pipeline import Pipeline

from .scripted import NEVER, OK, ScriptedConnection, handle_to, layer, lost, refused, retrying, run_info, settle

RUN = "R1"
FAILED = refused(5000, message="disk full")
DOUBT = DeliveryUnknownError
FINISHED = WorkflowFinishedError


@pytest.mark.parametrize(
    ("answers", "idempotent", "verdict", "sends"),
    [
        ([OK], False, None, 1),
        ([lost(), OK], False, DOUBT, 1),
        ([lost(), OK], True, None, 2),
        ([lost(), lost(), lost()], True, DOUBT, 3),
        ([FAILED, OK], False, DOUBT, 1),
        ([refused(0), OK], False, DOUBT, 1),
        ([FAILED, OK], True, None, 2),
        ([NotSentError("x"), OK], False, None, 2),
        ([NotDeliveredError("x"), NotSentError("x"), OK], False, None, 3),
        ([NotSentError("x"), lost(), OK], False, DOUBT, 2),
        ([NotSentError("x")] * 3, False, NotSentError, 3),
        ([refused(4003)] * 3, False, WorkflowFinishedError, 3),
        # What an earlier attempt left open, no later failure answers.
        ([lost(), NotSentError("x"), NotSentError("x")], True, DOUBT, 3),
        ([lost(), refused(4003), refused(4003)], True, DOUBT, 3),
        ([lost(), AccessDeniedError("x"), ConnectionClosedError("x")], True, DOUBT, 3),
    ],
)
async def test_send_with_a_retry_layer(
    connection: ScriptedConnection, answers: list[Any], idempotent: bool, verdict: Any, sends: int
) -> None:
    handle = handle_to(connection, pipeline=retrying(3))
    connection.script("run.event", *answers)
    if verdict is None:
        await handle.send("approve", idempotent=idempotent)
    else:
        with pytest.raises(verdict) as caught:
            await handle.send("approve", idempotent=idempotent)
        assert type(caught.value) is verdict
        if verdict is DOUBT:
            assert (caught.value.operation, caught.value.run) == ("send", handle.run_info.ref)
    assert connection.kinds == ["event"] * sends


@pytest.mark.parametrize("doubt", [lost(), FAILED, refused(0)])
@pytest.mark.parametrize(
    ("idempotent", "second", "verdict", "sends"),
    [
        (False, OK, DOUBT, 1),
        (True, OK, None, 2),
        (True, lost(), DOUBT, 2),
        (True, refused(4003), DOUBT, 2),
        (True, NotSentError("x"), DOUBT, 2),
    ],
)
async def test_send_without_a_retry_layer_is_repeated_once_if_it_is_idempotent(
    connection: ScriptedConnection, *, doubt: Any, idempotent: bool, second: Any, verdict: Any, sends: int
) -> None:
    handle = handle_to(connection)
    connection.script("run.event", doubt, second)
    sending = handle.send("approve", idempotent=idempotent)
    if verdict is None:
        await sending
    else:
        with pytest.raises(verdict):
            await sending
    assert connection.kinds == ["event"] * sends
    assert len({command.id for command in connection.sent("run.event")}) == 1


@pytest.mark.parametrize("answer", [NotSentError("x"), NotDeliveredError("x"), refused(4003), refused(4005)])
async def test_send_without_a_retry_layer_is_not_repeated_without_a_doubt(
    connection: ScriptedConnection, answer: Any
) -> None:
    connection.script("run.event", answer)
    with pytest.raises((NotSentError, NotDeliveredError, RefusedError)):
        await handle_to(connection).send("approve", idempotent=True)
    assert connection.kinds == ["event"]


def scripted(connection: ScriptedConnection, answer: Any) -> Any:
    """Of a pair, how the run ends before the answer, and the answer."""
    if not isinstance(answer, tuple):
        return answer
    status, said = answer
    return lambda _: connection.end(RUN, status) or said


@pytest.mark.parametrize("operation", ["cancel", "terminate"])
@pytest.mark.parametrize(
    ("describes", "answers", "verdict", "kinds"),
    [
        ([], [OK], None, "D X"),
        ([], [refused(4003)], WorkflowFinishedError, "D X"),
        ([], [refused(4005)], ServerError, "D X"),
        ([], [NotSentError("x")], NotSentError, "D X"),
        # The look comes first, and nothing is sent when it fails.
        ([lost()], [], NotSentError, "D"),
        ([NotDeliveredError("x")], [], NotDeliveredError, "D"),
        ([refused(5000)], [], ServerError, "D"),
        ([refused(4002)], [], WorkflowNotFoundError, "D"),
        # Repeated only after a look that says: it goes on.
        ([], [lost(), OK], None, "D X D X"),
        ([], [FAILED, OK], None, "D X D X"),
        ([], [refused(0), OK], None, "D X D X"),
        ([], [lost(), lost()], DOUBT, "D X D X"),
        # Ended as was asked, by whomever: what was asked for is so. Ended otherwise: it was refused.
        ([], [("terminated", lost())], None, "D X D"),
        ([], [("cancelled", FAILED)], None, "D X D"),
        ([], [("completed", lost())], WorkflowFinishedError, "D X D"),
        ([], [("failed", lost())], WorkflowFinishedError, "D X D"),
        ([], [("timed_out", FAILED)], WorkflowFinishedError, "D X D"),
        # So when the repeat is refused as the run has ended: a further look says how.
        ([], [lost(), ("terminated", refused(4003))], None, "D X D X D"),
        ([], [lost(), ("cancelled", refused(4003))], None, "D X D X D"),
        ([], [lost(), ("completed", refused(4003))], WorkflowFinishedError, "D X D X D"),
        ([], [lost(), refused(4003)], DOUBT, "D X D X D"),
        ([None, None, lost()], [lost(), ("completed", refused(4003))], DOUBT, "D X D X D"),
        ([None, None, refused(4002)], [lost(), ("completed", refused(4003))], DOUBT, "D X D X D"),
        # Ended before anything was in doubt.
        ([], [("terminated", refused(4003))], WorkflowFinishedError, "D X"),
        ([], [NotSentError("x"), OK], NotSentError, "D X"),
        # What an earlier attempt left open, no later failure answers.
        ([None, lost()], [lost()], DOUBT, "D X D"),
        ([None, NotSentError("x")], [lost()], DOUBT, "D X D"),
        ([None, refused(5000)], [lost()], DOUBT, "D X D"),
        ([None, refused(4002)], [lost()], DOUBT, "D X D"),
        ([], [lost(), NotSentError("x")], DOUBT, "D X D X"),
        ([], [lost(), ConnectionClosedError("x")], DOUBT, "D X D X"),
        ([], [lost(), refused(4005)], DOUBT, "D X D X"),
    ],
)  # fmt: skip
async def test_cancel_and_terminate(
    connection: ScriptedConnection,
    *,
    operation: str,
    describes: list[Any],
    answers: list[Any],
    verdict: Any,
    kinds: str,
) -> None:
    handle = handle_to(connection)
    connection.script("run.describe", *[connection._serve if answer is None else answer for answer in describes])
    connection.script(f"run.{operation}", *[scripted(connection, answer) for answer in answers])
    if verdict is None:
        await getattr(handle, operation)("no stock")
    else:
        with pytest.raises(verdict) as caught:
            await getattr(handle, operation)("no stock")
        assert type(caught.value) is verdict
        if verdict is DOUBT:
            assert (caught.value.operation, caught.value.run) == (operation, handle.run_info.ref)
    assert connection.kinds == kinds.replace("D", "describe").replace("X", operation).split()
    assert all(command.reason == "no stock" for command in connection.sent(f"run.{operation}"))


@pytest.mark.parametrize("operation", ["cancel", "terminate"])
async def test_another_run_is_never_hit(connection: ScriptedConnection, operation: str) -> None:
    handle = handle_to(connection)
    connection.record(run_info("R2"))
    with pytest.raises(WorkflowFinishedError, match=r"no longer the latest, and .* would go to run R2"):
        await getattr(handle, operation)()
    connection.end(RUN)
    with pytest.raises(WorkflowFinishedError, match=r"has ended \(completed\)"):
        await getattr(handle, operation)()
    del connection.records[RUN]
    with pytest.raises(WorkflowNotFoundError, match="run R1 of workflow 'order-1' is not known"):
        await getattr(handle, operation)()
    connection.failing["find_run"] = lost()
    with pytest.raises(NotSentError, match="looking at the run first failed"):
        await getattr(handle, operation)()
    assert set(connection.kinds) == {"describe"}


@pytest.mark.parametrize("operation", ["cancel", "terminate"])
@pytest.mark.parametrize(
    ("status", "verdict"), [(None, DOUBT), ("terminated", None), ("cancelled", None), ("completed", FINISHED)]
)
async def test_after_a_doubt_a_newer_run_settles_nothing(
    connection: ScriptedConnection, operation: str, status: str | None, verdict: Any
) -> None:
    """How our own run ended does; where its record says that it goes on, the doubt stays."""

    def lose(command: Any) -> Any:
        if status is not None:
            connection.end(RUN, status)
        connection.record(run_info("R2"))
        return lost()

    handle = handle_to(connection)
    connection.script(f"run.{operation}", lose)
    if verdict is None:
        await getattr(handle, operation)()
    else:
        with pytest.raises(verdict) as caught:
            await getattr(handle, operation)()
        assert status is not None or "it cannot be tried again" in str(caught.value)
    assert connection.kinds == ["describe", operation, "describe"]


@pytest.mark.parametrize("operation", ["cancel", "terminate"])
async def test_a_look_at_the_records_has_the_calls_timeout(connection: ScriptedConnection, operation: str) -> None:
    handle = handle_to(connection)
    connection.record(run_info("R2"))
    connection.failing["find_run"] = NEVER
    with pytest.raises(NotSentError, match=r"could not be read within 0.01 s"):
        await getattr(handle, operation)(request_timeout=0.01)


@pytest.mark.parametrize("operation", ["cancel", "terminate"])
async def test_a_run_that_has_ended_takes_neither(connection: ScriptedConnection, operation: str) -> None:
    handle = handle_to(connection)
    connection.end(RUN, "failed")
    with pytest.raises(WorkflowFinishedError, match=rf"{operation} refused: run R1 .* has ended \(failed\)"):
        await getattr(handle, operation)()
    assert connection.kinds == ["describe"]


@pytest.mark.parametrize("call", ["send", "cancel", "terminate"])
async def test_proceeding_after_a_success_does_nothing_more(connection: ScriptedConnection, call: str) -> None:
    async def eager(call: Any, proceed: Any) -> None:
        for _ in range(3):
            await proceed(call)

    handle = handle_to(connection, pipeline=Pipeline(retry=layer(eager)))
    await getattr(handle, call)("approve")
    assert connection.kinds in (["event"], ["describe", call])


async def test_an_event_given_up_by_the_retry_layer_is_not_sent_again(connection: ScriptedConnection) -> None:
    async def impatient(call: Any, proceed: Any) -> None:
        attempt = asyncio.ensure_future(proceed(call))
        await settle()
        attempt.cancel()
        await asyncio.wait([attempt])
        await proceed(call)

    handle = handle_to(connection, pipeline=Pipeline(retry=layer(impatient)))
    connection.script("run.event", NEVER)
    with pytest.raises(DeliveryUnknownError, match="was given up"):
        await handle.send("approve")
    assert connection.kinds == ["event"]


@pytest.mark.parametrize("operation", ["cancel", "terminate"])
@pytest.mark.parametrize("nobody", [NotSentError("no link"), NotDeliveredError("no server")])
async def test_after_a_doubt_looks_that_reach_nobody_are_repeated(
    connection: ScriptedConnection, operation: str, nobody: GrctlError
) -> None:
    """What left the doubt is often what cut us off: the broker is gone, and comes back."""
    handle = handle_to(connection, bounds=DoubtBounds(reached_within=60.0))

    def cut_off(command: Any) -> Any:
        connection.script("run.describe", nobody, nobody)
        return lost()

    connection.script(f"run.{operation}", cut_off, OK)
    await getattr(handle, operation)()
    assert connection.kinds == ["describe", operation, *["describe"] * 3, operation]


@pytest.mark.parametrize("operation", ["cancel", "terminate"])
async def test_without_a_doubt_a_look_that_reaches_nobody_is_the_answer(
    connection: ScriptedConnection, operation: str
) -> None:
    handle = handle_to(connection, bounds=DoubtBounds(reached_within=1_000.0))
    connection.script("run.describe", NotSentError("no link"))
    with pytest.raises(NotSentError, match="no link"):
        await getattr(handle, operation)()
    assert connection.kinds == ["describe"]
