"""What a transport tells of runs: their ends, their records, their history, lists of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from grctl.testing.transport_contract.bench import WAITS, Bench, collect, decoded, missing
from grctl.testing.transport_contract.cases import Contract, case
from grctl_core.codec import encode
from grctl_core.commands import (
    CancelCommand,
    Command,
    EventCommand,
    TerminateCommand,
)
from grctl_core.errors import (
    WorkflowNotFoundError,
)
from grctl_core.history import TERMINAL_KINDS
from grctl_core.run import RunFilter, RunRef, RunStatus

__all__ = ["RecordCases"]


class RecordCases(Contract):
    """Cases about runs and their records."""

    @case
    async def test_watch_gives_every_end_as_a_value(self, bench: Bench) -> None:
        """Nothing is raised for how a run ends."""
        watches = []
        ends: list[Callable[[RunRef], Command]] = [
            lambda run: EventCommand(wf_id=run.wf_id, event_name="finish", payload=encode("payload", [1]), run=run),
            lambda run: EventCommand(wf_id=run.wf_id, event_name="give_up", run=run),
            lambda run: CancelCommand(wf_id=run.wf_id, reason="enough"),
            lambda run: TerminateCommand(wf_id=run.wf_id, reason="now"),
        ]
        for end in ends:
            run = await bench.active()
            watch = bench.connection.watch(run)
            assert isinstance(watch, asyncio.Future)
            assert not watch.done()
            await bench.done(end(run))
            watches.append((run, watch))
        outcomes = [await watch for _, watch in watches]
        assert [outcome.run.status for outcome in outcomes] == ["completed", "failed", "cancelled", "terminated"]
        assert [outcome.run.id for outcome in outcomes] == [run.run_id for run, _ in watches]
        assert [decoded(outcome.result) for outcome in outcomes] == [[1], None, None, None]
        assert [outcome.error.type if outcome.error else None for outcome in outcomes] == [None, "GaveUp", None, None]
        assert [outcome.reason for outcome in outcomes] == ["", "", "enough", "now"]

    @case
    async def test_watch_of_a_run_that_has_ended(self, bench: Bench) -> None:
        """Also of one that is not the latest of its id."""
        run = await bench.ended(7)
        later = await bench.ended(8, run.wf_id)
        assert [decoded((await bench.connection.watch(each)).result) for each in (run, later)] == [7, 8]

    @case
    async def test_watch_of_a_run_that_is_not_there(self, bench: Bench) -> None:
        """The future gets a WorkflowNotFoundError."""
        run = await bench.ended()
        for other in missing(run):
            watch = bench.connection.watch(other)
            with pytest.raises(WorkflowNotFoundError):
                await watch

    @case
    async def test_each_watch_belongs_to_its_caller(self, bench: Bench) -> None:
        """Cancelling one ends that one alone."""
        run = await bench.active()
        first, second = bench.connection.watch(run), bench.connection.watch(run)
        assert first is not second
        first.cancel()
        await bench.finish(run)
        assert (await second).run.id == run.run_id
        assert first.cancelled()

    @case
    async def test_watches_cost_no_tasks(self, bench: Bench) -> None:
        """However many there are: one task for all of them, at most."""
        run = await bench.active()
        tasks = len(asyncio.all_tasks())
        watches = [bench.connection.watch(run) for _ in range(200)]
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) <= tasks + 1
        await bench.finish(run, "x")
        assert {(await watch).result for watch in watches} == {encode("result", "x")}

    # --- records

    @case
    async def test_find_run_finds_exactly_this_run(self, bench: Bench) -> None:
        """An old one too; with its type or without; None where there is none."""
        run = await bench.ended()
        newer = await bench.active(run.wf_id)
        for each, status in ((run, RunStatus.COMPLETED), (newer, RunStatus.RUNNING)):
            for ref in (each, RunRef(each.wf_id, each.run_id)):
                found = await bench.connection.find_run(ref)
                assert found is not None
                assert (found.id, found.wf_id, found.status) == (each.run_id, each.wf_id, status)
        for other in missing(run):
            assert await bench.connection.find_run(other) is None
        await bench.terminate(newer)

    @case
    async def test_has_begun(self, bench: Bench) -> None:
        """True of a run that goes on and of one that has ended."""
        active, ended = await bench.active(), await bench.ended()
        assert await bench.connection.has_begun(active)
        assert await bench.connection.has_begun(ended)
        assert not await bench.connection.has_begun(missing(active)[0])
        await bench.terminate(active)

    @case
    async def test_find_type(self, bench: Bench) -> None:
        """What is registered, None where nothing is."""
        found = await bench.connection.find_type(WAITS)
        assert found is not None
        assert (found.name, set(found.events)) == (WAITS, {"finish", "give_up"})
        assert await bench.connection.find_type("NobodyHasThis") is None

    @case
    async def test_history(self, bench: Bench) -> None:
        """From the beginning, in order, of this run alone."""
        run = await bench.active()
        going_on = await collect(bench.connection.history(run, follow=False))
        assert going_on[0].kind == "run.started"
        assert not any(event.is_terminal for event in going_on)
        await bench.finish(run)
        events = await collect(bench.connection.history(run, follow=False))
        assert [event.kind for event in events[: len(going_on)]] == [event.kind for event in going_on]
        assert [event.kind for event in events if event.kind in TERMINAL_KINDS] == ["run.completed"]
        assert [event.seq for event in events] == sorted({event.seq for event in events})
        assert {(event.wf_id, event.run_id) for event in events} == {(run.wf_id, run.run_id)}

    @case
    async def test_history_that_is_followed(self, bench: Bench) -> None:
        """It waits for what comes, and ends when the run has."""
        run = await bench.active()
        following = asyncio.create_task(collect(bench.connection.history(run, follow=True)))
        await bench.finish(run)
        followed = await following
        assert "run.completed" in [event.kind for event in followed]
        assert followed == await collect(bench.connection.history(run, follow=True))

    @case
    async def test_history_of_a_run_that_is_not_there(self, bench: Bench) -> None:
        """WorkflowNotFoundError, followed or not."""
        run = await bench.ended()
        for other in missing(run):
            for follow in (False, True):
                with pytest.raises(WorkflowNotFoundError):
                    await collect(bench.connection.history(other, follow=follow))

    @case
    async def test_list_runs(self, bench: Bench) -> None:
        """Each run that the filter admits once, and no other."""
        prefix = bench.new_id()
        ended = [await bench.ended(wf_id=f"{prefix}-{number}") for number in range(3)]
        active = await bench.active(f"{prefix}-active")
        for run_filter, expected in [
            (RunFilter(workflow_id_prefix=prefix), [*ended, active]),
            (RunFilter(workflow_id_prefix=prefix, status=RunStatus.COMPLETED), ended),
            (RunFilter(workflow_id_prefix=prefix, workflow_type=WAITS), [active]),
            (RunFilter(workflow_id_prefix=prefix, created_after=datetime.now(UTC) + timedelta(hours=1)), []),
        ]:
            listed = await collect(bench.connection.list_runs(run_filter))
            assert sorted(run.id for run in listed) == sorted(run.run_id for run in expected)
        await bench.terminate(active)
