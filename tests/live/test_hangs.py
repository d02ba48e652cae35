"""What the contract suite takes for a hang of a live server, told from histories alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from contract.hangs import Hang, find_hang

from grctl import HistoryEvent
from grctl_nats import wire

KNOWN = {"start", "second", "third", "greet", "farewell"}
STUCK, DROPPED = Hang.EVENT_STUCK, Hang.STEP_DROPPED

BEGIN = ["run.started", "step.started start"]
DONE = [*BEGIN, "step.completed start"]
WAITING = [*DONE, "wait.started"]
GREETED = [*WAITING, "event.received greet", "step.started greet", "step.completed greet", "wait.started"]


def told(*kinds: str) -> list[HistoryEvent]:
    """Return a history from kinds, each maybe with the name of its step or event."""
    events = []
    for seq, text in enumerate(kinds, 1):
        kind, _, name = text.partition(" ")
        data = {} if not name else {"event_name" if kind == "event.received" else "step_name": name}
        events.append(
            HistoryEvent(
                seq=seq,
                kind=kind,
                timestamp=datetime.now(UTC),
                wf_id="w",
                run_id="r",
                encoded=msgspec.msgpack.encode(data),
            )
        )
    return events


@pytest.mark.parametrize(
    "history",
    [
        [*WAITING, "event.received greet"],
        [*WAITING, "event.received greet", "event.received farewell"],
        # It came while the step ran.
        [*BEGIN, "event.received greet", "step.completed start", "wait.started"],
        [*GREETED, "event.received farewell"],
        # The second of two that came at once.
        [*WAITING, "event.received greet", "event.received farewell", *GREETED[-3:]],
        # A step whose step.started is missing has taken the first one.
        [*WAITING, "event.received greet", "step.completed greet", "wait.started", "event.received farewell"],
        # Of a step that is over.
        [*WAITING, "event.received greet", "task.cancelled start"],
        [*WAITING, "event.received greet", "run.cancel_received"],
    ],
)
def test_an_event_that_does_not_wake_a_waiting_run(history: list[str]) -> None:
    assert find_hang(told(*history), KNOWN) is STUCK


@pytest.mark.parametrize(
    "history",
    [
        DONE,
        [*DONE, "step.started second", "step.completed second"],
        [*DONE, "event.received greet"],
        [*DONE, "run.cancel_received"],
        # Without its step.started: what came next is missing nevertheless.
        ["run.started", "step.completed start"],
        [*GREETED[:-1]],
        # Its timeout is over, and the run has failed.
        [*DONE, "step.timeout second", "run.failed"],
        [*DONE, "step.started second", "step.completed second", "step.timeout third", "run.failed"],
        [*DONE, "step.timeout second", "run.failed", "task.cancelled start"],
        [*WAITING, "event.received greet", "step.timeout greet", "run.failed"],
    ],
)
def test_a_step_that_was_never_begun(history: list[str]) -> None:
    assert find_hang(told(*history), KNOWN) is DROPPED


@pytest.mark.parametrize(
    "history",
    [
        [],
        ["run.started"],  # nobody has taken it up: no worker, not these defects
        BEGIN,
        WAITING,
        GREETED,
        [*WAITING, "event.received greet", "step.started greet"],
        [*BEGIN, "event.received greet"],
        [*DONE, "step.started second"],
        # Begun, as step.started may be missing or late.
        [*DONE, "task.started second"],
        [*DONE, "timestamp.recorded"],
        [*DONE, "a.kind.to.come"],
        [*WAITING, "event.received greet", "task.started greet"],
        # A server that is well does so too: the name is none that the type has.
        [*WAITING, "event.received no_such_event"],
        [*WAITING, "event.received no_such_event", "event.received greet"],
        [*WAITING, "event.received no_such_event", "step.timeout no_such_event", "run.failed"],
        # A step that took too long.
        [*BEGIN, "step.timeout start", "run.failed"],
        [*DONE, "step.started second", "step.timeout second", "run.failed"],
        [*DONE, "task.started second", "step.timeout second", "run.failed"],
        # Other ends, whatever was in the inbox.
        [*WAITING, "event.received greet", "run.terminated"],
        [*WAITING, "event.received greet", "wait.timed_out", "run.failed"],
        [*WAITING, "wait.timed_out", "step.started third", "step.failed third", "run.failed"],
        # Not a hang: the timer of a wait that had ended fails the run.
        [*WAITING, "event.received greet", "step.started greet", "run.failed"],
        [*DONE, "run.completed"],
    ],
)
def test_whatever_else_is_none(history: list[str]) -> None:
    assert find_hang(told(*history), KNOWN) is None


def test_no_recording_of_a_server_that_was_well_looks_like_a_hang() -> None:
    looked_at = 0
    for path in sorted((Path(__file__).parents[1] / "fixtures" / "wire").glob("*.json")):
        for run in json.loads(path.read_text()).get("runs", ()):
            history = [wire.decode_event(bytes.fromhex(event["body"]), event["seq"]) for event in run["history"]]
            known = {event.data["step_name"] for event in history if "step_name" in event.data}
            assert find_hang(history, known) is None, path.name
            looked_at += 1
    assert looked_at > 25
