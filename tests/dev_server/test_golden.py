"""Every scenario that was recorded from a running grctld, replayed: the same bytes in, the same things out."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from grctl_core.run import RunRef
from grctl_nats import subjects

from .raw import Raw, until

FIXTURES = Path(__file__).parents[1] / "fixtures" / "wire"
SCENARIOS = sorted(path.stem for path in FIXTURES.glob("*.json"))

LATER = {
    "completed": "has a task",
    "task_gave_up": "has a task",
    "task_retried": "has a task",
    "terminated_in_task": "has a task",
    "child_callback": "has a child",
    "child_callback_failed": "has a child",
    "child_run": "has a child",
    "parent": "has a child",
}
"""Scenarios that the engine cannot play yet, and why."""

NOT_RUNS = {"errors", "registry"}

# Before which command how often which kind must have been seen: as the recording shows.
WHEN = {
    "cancelled_in_step": {1: ("step.started", 1), 2: ("run.cancelled", 1)},
    "cancelled_waiting": {1: ("wait.started", 1), 2: ("run.cancelled", 1)},
    "events": {1: ("wait.started", 1), 2: ("wait.started", 2), 3: ("run.completed", 1)},
    "greet_events": {1: ("step.started", 1), 2: ("event.received", 1), 3: ("run.completed", 1)},
    "terminated_waiting": {1: ("wait.started", 1), 2: ("run.terminated", 1)},
    "waiting": {1: ("wait.started", 1)},
}
# After which command the step that waits for it goes on.
RELEASE = {"cancelled_in_step": 1, "greet_events": 2}

# Other in every run, or the worker's own.
VARIES = {"worker_id", "duration_ms", "directive_id", "original_directive_id", "stack_trace"}
# started_at and history_seq_id: the recording has them or not, as its worker happened to be fast or slow.
MAY_BE_ABSENT = {"history_seq_id"}
# The server's own business, about which the protocol says nothing.
UNKNOWN = {"pending_cancel"}


def load(name: str) -> dict[str, Any]:
    fixture: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return fixture


def plain(value: Any) -> Any:
    """A value as the fixtures write it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if hasattr(value, "isoformat"):
        return {"$timestamp": value.isoformat(timespec="microseconds")}
    return value


def decode(body: bytes) -> Any:
    return plain(msgspec.msgpack.decode(body))


def shape(value: Any) -> Any:
    """A value without what is other in every run."""
    if isinstance(value, dict):
        if set(value) == {"$timestamp"} and not str(value["$timestamp"]).startswith("2026-01-02"):
            return "a time"
        return {key: "varies" if key in VARIES else shape(item) for key, item in value.items() if key not in UNKNOWN}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return value


async def replay(raw: Raw, name: str, gate: asyncio.Event) -> dict[str, Any]:
    fixture = load(name)
    run = RunRef(fixture["runs"][0]["wf_id"], fixture["runs"][0]["run_id"], fixture["runs"][0]["wf_type"])
    last = {"kind": "", "count": 1}
    kinds = [event["decoded"]["k"] for event in fixture["runs"][0]["history"]]
    last["kind"] = kinds[-1]
    for number, command in enumerate(fixture["commands"]):
        kind, count = WHEN.get(name, {}).get(number, (last["kind"], 1) if number else ("", 0))

        async def seen(kind: str = kind, count: int = count) -> bool:
            return (await raw.kinds(run)).count(kind) >= count

        if kind:
            await until(seen)
        answer = await raw.client.request(command["subject"], bytes.fromhex(command["request"]), timeout=10)
        got, expected = shape(decode(answer.data)), shape(command["reply_decoded"])
        for key in MAY_BE_ABSENT:
            for reply in (got, expected):
                if isinstance(reply.get("payload"), dict):
                    reply["payload"].pop(key, None)
        assert got == expected, command["kind"]
        if RELEASE.get(name) == number:
            gate.set()
    return fixture


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in NOT_RUNS | LATER.keys()])
async def test_a_recorded_scenario_is_answered_as_it_was(raw: Raw, gate: asyncio.Event, name: str) -> None:
    fixture = await replay(raw, name, gate)
    for recorded in fixture["runs"]:
        run = RunRef(recorded["wf_id"], recorded["run_id"], recorded["wf_type"])
        stored = await raw.stored(subjects.history(run))
        history = [decode(message.data) for _, message in stored]
        for event in history:
            event["m"] = decode(_bytes(event["m"]))
        expected = [event["decoded"] for event in recorded["history"]]
        if name == "waiting":  # recorded before its step ended
            history = history[: len(expected)]
        assert [event["k"] for event in history] == [event["k"] for event in expected]
        for got, wanted in zip(history, expected, strict=True):
            wanted["wo"], got["wo"] = bool(wanted["wo"]), bool(got["wo"])
            if "o" in wanted:
                assert got.pop("o").partition(":")[0] == wanted.pop("o").partition(":")[0]
            assert _loose(shape(got)) == _loose(shape(wanted)), got["k"]
        await check_records(raw, recorded["records"], name)


async def check_records(raw: Raw, records: dict[str, Any], name: str) -> None:
    seqs = {}
    for subject, recorded in records.items():
        found = await raw.get(subject)
        if recorded is None:
            assert found is None, subject
            continue
        assert found is not None, subject
        seqs[subject] = int((found.headers or {})["Nats-Sequence"])
        got, wanted = shape(decode(found.data)), shape(recorded["decoded"])
        if subject.endswith(".info"):
            for record in (got, wanted):
                for key in MAY_BE_ABSENT:
                    record.pop(key, None)
        if "last_event_seq_id" in wanted if isinstance(wanted, dict) else False:
            assert bool(got.pop("last_event_seq_id")) == bool(wanted.pop("last_event_seq_id"))
        if isinstance(wanted, dict) and "active_directive_id" in wanted:
            assert got.pop("active_directive_id").startswith("next.")
            del wanted["active_directive_id"]
        assert got == wanted, subject
    # The order at the end of a run: the record, the event, the state, the result or the error.
    recorded_order = sorted((r["seq"], s) for s, r in records.items() if r is not None)
    assert sorted(seqs, key=lambda s: seqs[s]) == [s for _, s in recorded_order]


async def test_errors_are_worded_as_the_server_words_them(raw: Raw, gate: asyncio.Event) -> None:
    await replay(raw, "waiting", gate)
    completed = load("completed")["commands"][0]
    await raw.client.request(completed["subject"], bytes.fromhex(completed["request"]), timeout=10)
    await raw.end(RunRef("completed", load("completed")["runs"][0]["run_id"], "ProcessOrder"))
    for command in load("errors")["commands"]:
        answer = await raw.client.request(command["subject"], bytes.fromhex(command["request"]), timeout=10)
        assert decode(answer.data) == command["reply_decoded"], command["kind"]


async def test_registered_types_look_as_the_servers(raw: Raw) -> None:
    for subject, record in load("registry")["records"].items():
        found = await raw.get(subject)
        assert found is not None
        assert shape(decode(found.data)) == shape(record["decoded"])


def test_what_is_put_off_is_a_recording() -> None:
    assert set(LATER) <= set(SCENARIOS)
    assert len(SCENARIOS) == 33


def _bytes(value: Any) -> bytes:
    return base64.b64decode(value["$bytes"])


def _loose(event: dict[str, Any]) -> dict[str, Any]:
    """Recorded values are random."""
    return {**event, "m": event["m"].keys() if event["k"].endswith(".recorded") else event["m"]}
