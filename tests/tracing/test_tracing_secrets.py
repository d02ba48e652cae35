"""What users pass in, and what workflows say, is in nothing that is exported."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from core.scripted import NEVER, ScriptedConnection, lost, refused, run_info, settle

from grctl_core.commands import ErrorCode
from grctl_core.errors import GrctlError, NotSentError
from grctl_core.outcome import ErrorDetails, Outcome
from grctl_core.run import RunStatus
from grctl_engine import Workflow
from grctl_memory import MemoryConnection
from grctl_tracing.kept import Kept

from .recorder import Recorder

SECRET = "s3cr3t"

wf = Workflow(workflow_type="Leaky")


@wf.start()
async def begin(ctx: Any, word: str, how: str = "wait") -> Any:
    match how:
        case "fail":
            return ctx.next.fail(ErrorDetails(type=f"{SECRET}Error", message=SECRET, stack_trace=SECRET))
        case "raise":
            raise ValueError(SECRET)
        case "complete":
            return ctx.next.complete(word)
    return ctx.next.wait()


@wf.event()
async def note(ctx: Any, word: str) -> Any:
    return ctx.next.wait()


@wf.query()
async def echo(ctx: Any, word: str) -> str:
    return word


@wf.query()
async def broken(ctx: Any, word: str) -> str:
    raise ValueError(word)


async def test_on_the_embedded_engine(recorder: Recorder) -> None:
    async with await MemoryConnection.open(workflows=[wf]) as connection:
        client = recorder.client(connection)
        for how in ("fail", "raise", "complete"):
            handle = await client.start_workflow("Leaky", f"leaky-{how}", {"word": SECRET, "how": how})
            outcome = await handle.outcome()
            assert SECRET in str((outcome.error, outcome.result))
        handle = await client.start_workflow("Leaky", "leaky", {"word": SECRET})
        await handle.send("note", {"word": SECRET})
        assert await handle.query("echo", word=SECRET) == SECRET
        with pytest.raises(GrctlError):
            await handle.query("broken", word=SECRET)
        await handle.cancel(SECRET)
        assert SECRET in str(await handle.outcome())
        handle = await client.start_workflow("Leaky", "leaky", {"word": SECRET})
        await handle.terminate(SECRET)
        future = handle.future
        with pytest.raises(asyncio.CancelledError, match=SECRET):
            await future
    exported = recorder.everything()
    assert exported.count("grctl/start") > 4  # it was exported indeed
    assert SECRET not in exported


@pytest.mark.parametrize(
    "answer",
    [
        lost(),
        NotSentError(SECRET),
        RuntimeError(SECRET),
        refused(ErrorCode.BAD_MESSAGE, SECRET, SECRET),
        refused(ErrorCode.INTERNAL, SECRET, SECRET),
        refused(ErrorCode.FINISHED, SECRET, SECRET),
        NEVER,
    ],
    ids=lambda answer: type(answer).__name__,
)
async def test_whatever_goes_wrong(recorder: Recorder, answer: Any) -> None:
    class Again:
        name = "again"

        async def grctl_retry(self, call: Any, proceed: Any) -> Any:
            try:
                return await proceed(call)
            except GrctlError as error:
                proceed.announce(error, 1.0)
                return await proceed(call)

    connection = ScriptedConnection()
    client = recorder.client(connection, Again())
    handle = await client.start_workflow("Order", "order-1")
    for kind in ("run.start", "run.event", "run.cancel", "run.describe"):
        connection.script(kind, *[answer] * 4)
    calls = [
        client.start_workflow("Order", "order-2", SECRET),
        handle.send("note", SECRET),
        handle.cancel(SECRET),
        handle.describe(),
    ]
    tasks = [asyncio.ensure_future(call) for call in calls]
    await settle(100)
    for task in tasks:
        task.cancel(SECRET)
    await asyncio.gather(*tasks, return_exceptions=True)
    exported = recorder.everything()
    assert exported.count('"error.type"') > 4
    assert SECRET not in exported


async def test_a_layer_of_somebody_elses_that_fails(recorder: Recorder, connection: ScriptedConnection) -> None:
    class Failing:
        name = "failing"

        async def grctl_attempt(self, attempt: Any, proceed: Any) -> Any:
            raise LookupError(SECRET)

    with pytest.raises(LookupError):
        await recorder.client(connection, Failing()).start_workflow("Order", "order-1", SECRET)
    assert "LookupError" in recorder.everything()
    assert SECRET not in recorder.everything()


def test_an_end_that_comes_by_notification(recorder: Recorder) -> None:
    run = run_info("R1", status="failed")
    error = ErrorDetails(type=SECRET, message=SECRET, stack_trace=SECRET)
    outcome: Outcome[Any] = Outcome(status=RunStatus.FAILED, run=run, error=error, reason=SECRET)
    recorder.plugin.grctl_run_ended(run, outcome, 1.0, {"tracing": Kept()})
    assert "WorkflowError" in recorder.everything()
    assert SECRET not in recorder.everything()
