"""Which error of which operation is tried again: the table in docs/plugins/retry.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from core.scripted import OK, OTHER_RUN, ScriptedConnection, already_running, lost, refused, run_info

from grctl_core.commands import ErrorCode, Reply
from grctl_core.errors import (
    AccessDeniedError,
    ConnectionClosedError,
    DeliveryUnknownError,
    GrctlError,
    InvalidInputError,
    NotDeliveredError,
    NotSentError,
    RefusedError,
    ServerError,
)
from grctl_retry import Retry

from .rig import KINDS, Told, retrying_client, ways

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plugins" / "retry.md"
CHANGES = ["start", "send", "send idempotent", "cancel", "terminate"]
READS = ["describe", "query"]

MEETINGS: dict[str, tuple[Any, type[GrctlError]]] = {
    "NotSentError": (NotSentError("away"), NotSentError),
    "NotDeliveredError": (NotDeliveredError("nobody"), NotDeliveredError),
    "DeliveryUnknownError": (lost(), DeliveryUnknownError),
    "ServerError 5000, 0": (refused(ErrorCode.INTERNAL), GrctlError),
    "other ServerError": (refused(4999), ServerError),
    "other RefusedError": (refused(ErrorCode.TYPE_NOT_REGISTERED), RefusedError),
    "AccessDeniedError": (AccessDeniedError("no"), AccessDeniedError),
    "InvalidInputError": (InvalidInputError("too large"), InvalidInputError),
    "ConnectionClosedError": (ConnectionClosedError("closed"), ConnectionClosedError),
}
"""Row of the table: what a command meets, and the error of the call that it gives."""

AGAIN = {"again", "looked, again"}


def table() -> dict[str, dict[str, str]]:
    rows = [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    head = next(row for row in rows if row[0] == "error")
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows if row[0] in MEETINGS}


def cell(error: str, operation: str) -> str:
    """What the page says: again, or not."""
    column = {"cancel": "cancel, terminate", "terminate": "cancel, terminate"} | dict.fromkeys(READS, "describe, query")
    return re.sub(r" \(.*\)", "", table()[error][column.get(operation, operation)])


def test_the_page_has_all_rows() -> None:
    assert table().keys() == MEETINGS.keys()
    assert {cell(error, operation) for error in MEETINGS for operation in KINDS} == {*AGAIN, "not"}


@pytest.mark.parametrize("operation", KINDS)
@pytest.mark.parametrize("error", MEETINGS)
async def test_as_the_page_says(connection: ScriptedConnection, error: str, operation: str) -> None:
    told = Told()
    calls = await ways(retrying_client(connection, Retry(attempts=2), told))
    answer, raised = MEETINGS[error]
    connection.script(KINDS[operation], answer)
    connection.commands.clear()
    if cell(error, operation) in AGAIN:
        await calls[operation]()
        assert [(call, attempt) for call, _, _, attempt in told.retries] == [(operation.split(" ", maxsplit=1)[0], 2)]
        assert len(connection.sent(KINDS[operation])) == 2
    else:
        with pytest.raises(raised) as caught:
            await calls[operation]()
        assert told.retries == []
        assert len(connection.sent(KINDS[operation])) == 1
        assert not getattr(caught.value, "__notes__", [])


@pytest.mark.parametrize("code", [ErrorCode.INTERNAL, ErrorCode.PANIC])
@pytest.mark.parametrize("operation", READS)
async def test_a_server_that_fails_at_a_read_is_asked_again(
    connection: ScriptedConnection, operation: str, code: int
) -> None:
    told = Told()
    calls = await ways(retrying_client(connection, None, told))
    connection.script(KINDS[operation], refused(code), refused(code))
    await calls[operation]()
    assert [(error, attempt) for _, error, _, attempt in told.retries] == [("ServerError", 2), ("ServerError", 3)]


@pytest.mark.parametrize(
    "code", [ErrorCode.UNKNOWN_COMMAND, ErrorCode.TYPE_NOT_REGISTERED, ErrorCode.FINISHED, ErrorCode.BAD_MESSAGE, 4999]
)
@pytest.mark.parametrize("operation", KINDS)
async def test_a_server_that_says_no_is_not_asked_again(
    connection: ScriptedConnection, operation: str, code: int
) -> None:
    told = Told()
    calls = await ways(retrying_client(connection, None, told))
    connection.script(KINDS[operation], refused(code))
    with pytest.raises(RefusedError):
        await calls[operation]()
    assert told.retries == []


@pytest.mark.parametrize("retry", [{}, {"retry": Retry(attempts=5)}])
async def test_a_send_in_doubt_is_never_repeated_unless_idempotent(
    connection: ScriptedConnection, retry: dict[str, Any]
) -> None:
    handle = await retrying_client(connection).get_handle("order-1")
    connection.script("run.event", lost())
    with pytest.raises(DeliveryUnknownError):
        await handle.send("approve", **retry)
    assert len(connection.sent("run.event")) == 1
    connection.script("run.event", lost(), lost())
    await handle.send("approve", idempotent=True, **retry)
    assert len(connection.sent("run.event")) == 4


@pytest.mark.parametrize("fatal", [ConnectionClosedError("closed"), AccessDeniedError("no")])
@pytest.mark.parametrize("operation", ["start", "send idempotent", "cancel", "terminate"])
async def test_a_doubt_that_no_try_can_settle_is_raised(
    connection: ScriptedConnection, operation: str, fatal: GrctlError
) -> None:
    told = Told()
    calls = await ways(retrying_client(connection, None, told))

    def lose(command: Any) -> GrctlError:
        for kind in set(KINDS.values()):
            connection.script(kind, *[fatal] * 10)
        return lost()

    connection.script(KINDS[operation], lose)
    connection.commands.clear()
    with pytest.raises(DeliveryUnknownError) as caught:
        await calls[operation]()
    assert len(told.retries) == 1
    assert caught.value.__cause__ is fatal
    assert caught.value.__notes__ == [
        f"tried 2 times in {_seconds(caught.value)} s, and not again: another try is not safe, or of no use"
    ]


def _seconds(error: BaseException) -> str:
    return re.search(r"in (\S+) s", error.__notes__[0])[1]


async def test_the_look_at_an_events_name_is_tried_again(connection: ScriptedConnection) -> None:
    told = Told()
    handle = await retrying_client(connection, None, told).get_handle("order-1")
    connection.failing["find_type"] = NotSentError("away")

    def up_again(name: str) -> None:
        if connection.looks["find_type"] == 3:
            connection.failing.clear()

    connection.on_look = up_again
    await handle.send("approve")
    assert [error for _, error, _, _ in told.retries] == ["NotSentError"] * 2
    assert len(connection.sent("run.event")) == 1


async def test_a_start_that_replaces_has_one_deadline(connection: ScriptedConnection) -> None:
    """Its parts too: the terminate, and the start after that."""
    deadlines: list[float | None] = []

    class Watching(Told):
        async def grctl_attempt(self, attempt: Any, proceed: Any) -> Reply:
            deadlines.append(attempt.call.deadline)
            return await proceed(attempt)

    connection.record(run_info(OTHER_RUN))
    connection.script("run.start", already_running(OTHER_RUN))
    connection.script("run.terminate", lambda _: connection.end(OTHER_RUN, "terminated") or OK)
    client = retrying_client(connection, Retry(deadline=7), Watching())
    await client.start_workflow("Order", "order-1", on_conflict="terminate")
    assert connection.kinds == ["start", "describe", "terminate", "start"]
    assert len(deadlines) == 4
    assert len(set(deadlines)) == 1
    assert deadlines[0] is not None

    connection.record(run_info(OTHER_RUN, "order-3"))
    connection.script("run.start", already_running(OTHER_RUN))
    deadlines.clear()
    handle = await client.start_workflow("Order", "order-3", on_conflict="attach")
    assert handle.run_info.id == OTHER_RUN
    assert len(deadlines) == 2
    assert len(set(deadlines)) == 1
