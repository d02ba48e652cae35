"""docs/protocol.md against the recorded traffic: every key of every body in the fixtures is in the page's tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
FIXTURES = [json.loads(path.read_text()) for path in sorted((ROOT / "tests" / "fixtures" / "wire").glob("*.json"))]
COMMANDS = [command for fixture in FIXTURES for command in fixture.get("commands", ())]
RUNS = [run for fixture in FIXTURES for run in fixture.get("runs", ())]
EVENTS = [event for run in RUNS for event in run["history"]]

ENVELOPE = {"w", "r", "wo", "ts", "k", "m", "o"}
ERROR = {"type", "message", "stack_trace"}


def section(title: str) -> str:
    """Return a section of the page, up to the next heading of any level."""
    return re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def rows(title: str) -> dict[str, str]:
    """Return the rows of a section's tables: first cell to all others, without the code marks of the first."""
    found = re.findall(r"^\| `?([^|`]+?)`? \| (.*) \|$", section(title), re.MULTILINE)
    return {first: rest for first, rest in found if set(first) != {"-"}}


def words(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def decode(encoded: str) -> Any:
    return msgspec.msgpack.decode(bytes.fromhex(encoded))


def requests() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for command in COMMANDS:
        if command["kind"].startswith("run."):
            outer = decode(command["request"])
            yield command["kind"], outer, msgspec.msgpack.decode(outer["m"])


def run_infos() -> Iterator[dict[str, Any]]:
    yield from (inner["run_info"] for kind, _, inner in requests() if kind == "run.start")
    yield from (payload for command in COMMANDS if (payload := decode(command["reply"]).get("payload")))
    yield from (body for subject, body in records() if subject.endswith(".info"))


def records() -> Iterator[tuple[str, Any]]:
    for run in RUNS:
        for subject, record in run["records"].items():
            if record is not None:
                yield subject, decode(record["body"])


def test_requests():
    keys, kinds = rows("Request"), rows("Request")
    for kind, outer, inner in requests():
        assert outer.keys() <= keys.keys()
        assert inner.keys() <= words(kinds[kind])


def test_replies_and_error_codes():
    keys = rows("Reply")
    seen = set()
    for command in COMMANDS:
        reply = decode(command["reply"])
        assert reply.keys() <= keys.keys()
        error = reply.get("error")
        assert (error is None) == reply["success"]
        if error is not None:
            assert error.keys() <= words(keys["error"])
            assert ("detail" in error) == (error["code"] != 5000)
            seen.add(error["code"])
    codes = {int(code): meaning for code, meaning in rows("Error codes").items() if code.isdigit()}
    assert {code for code, meaning in codes.items() if "Not in the fixtures" not in meaning} == seen


@pytest.mark.parametrize(("kind", "code"), [("(empty id)", 4000), ("(unknown kind)", 5000), ("(not msgpack)", 5000)])
def test_what_the_codes_for_malformed_requests_are(kind, code):
    (command,) = (command for command in COMMANDS if command["kind"] == kind)
    assert decode(command["reply"])["error"]["code"] == code


def test_history():
    kinds = {kind: rest for kind, rest in rows("3. History").items() if "." in kind}
    assert words(section("3. History")) >= ENVELOPE
    seen = set()
    for event in EVENTS:
        outer = decode(event["body"])
        inner = msgspec.msgpack.decode(outer["m"])
        kind = outer["k"]
        seen.add(kind)
        assert outer.keys() <= ENVELOPE
        assert inner.keys() <= words(kinds[kind]), kind
        error = inner.get("error")
        if error is not None:
            assert error.keys() == ERROR | ({"qualified_type"} if kind.startswith("task.") else set())
        if "task_id" in inner:
            assert inner["task_id"] == outer["o"]
        if "o" in outer:
            assert outer["wo"]
            assert re.fullmatch(r".+:[0-9a-f]{16}", outer["o"])
    absent = {kind for kind, rest in kinds.items() if "Not in the fixtures" in rest or "Never written" in rest}
    assert kinds.keys() - absent == seen


def test_run_info():
    keys = rows("4. RunInfo")
    seen, statuses = set(), set()
    for info in run_infos():
        assert info.keys() <= keys.keys()
        seen |= info.keys()
        statuses.add(info.get("status"))
    assert {key for key, note in keys.items() if key != "key" and not note.endswith("| not in the fixtures")} == seen
    assert statuses - {None} <= words(keys["status"])
    assert not statuses & {"pending", "scheduled", "timed_out"}


def test_other_records():
    subjects = rows("5. Other stored records")
    state = words(subjects["grctl_state.run_state.{wf_id}.{run_id}"])
    kinds = words(re.search(r"^`kind` of the state record:[^.]*\.", PAGE, re.MULTILINE)[0]) - {"kind"}
    for subject, body in records():
        if "run_state" in subject:
            assert body.keys() <= state
            assert body["kind"] in kinds
        elif subject.endswith(".error"):
            assert body.keys() == words(subjects["grctl_run.{wf_id}.{run_id}.error"])


def test_an_end_is_written_right_before_its_state_record():
    ended = 0
    for run in RUNS:
        (state,) = (record for subject, record in run["records"].items() if "run_state" in subject)
        ends = [event["seq"] for event in run["history"] if rows("3. History")[event["decoded"]["k"]].endswith("yes")]
        if ends:
            assert ends == [state["seq"] - 1]
            ended += 1
    assert f"in all {ended} of the fixtures" in " ".join(PAGE.split())


def test_workflow_type_definitions():
    keys = rows("7. Workflow type definition")
    stored = words(rows("5. Other stored records")["grctl_registry.{wf_type}"])
    (registry,) = (fixture["records"] for fixture in FIXTURES if "records" in fixture)
    for record in registry.values():
        body = decode(record["body"])
        assert body.keys() - stored == keys.keys() - {"key"}
        for event in body["events"]:
            assert event.keys() == words(keys["events"])


def test_how_many_scenarios_there_are():
    refusals = sum(not decode(command["reply"])["success"] for command in COMMANDS)
    scenarios = sum(bool(fixture.get("runs")) for fixture in FIXTURES)
    (registry,) = (fixture["records"] for fixture in FIXTURES if "records" in fixture)
    said = f"{scenarios} scenarios, {refusals} refusals and {len(registry)} registered types"
    assert said in " ".join(PAGE.split())


def test_sections_that_the_code_cites_exist():
    sources = [
        path for top in ("grctl", "grctl_core", "grctl_engine", "transports") for path in (ROOT / top).rglob("*.py")
    ]
    cited = 0
    for path in sources:
        text = " ".join(path.read_text(encoding="utf-8").split())
        for number, point in re.findall(r"docs/protocol\.md, sections? (\d+)(?:, (\d+))?", text):
            cited += 1
            body = re.search(rf"^## {number}\. (.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
            assert body, f"{path} cites section {number}"
            assert not point or re.search(rf"^{point}\. ", body[1], re.MULTILINE), f"{path} cites {number}, {point}"
        for title in re.findall(r'docs/protocol\.md, "([^"]+)"', text):
            cited += 1
            assert re.search(rf"^##+ (?:\d+\. )?{re.escape(title)}$", PAGE, re.MULTILINE), f"{path} cites {title!r}"
    assert cited > 10
