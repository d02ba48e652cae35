from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grctl_core.codec import decode, encode
from grctl_core.commands import (
    CancelCommand,
    DescribeCommand,
    EventCommand,
    QueryCommand,
    Reply,
    ReplyError,
    StartCommand,
    TerminateCommand,
)
from grctl_core.errors import DecodeError, UnsupportedOperationError
from grctl_core.history import HistoryEvent
from grctl_core.outcome import ErrorDetails
from grctl_core.run import RunInfo, RunRef, RunStatus
from grctl_core.workflow_type import TypeInfo
from grctl_nats import subjects, wire

WIRE = Path(__file__).parent.parent / "fixtures" / "wire"
SCENARIOS = {path.stem: json.loads(path.read_text()) for path in sorted(WIRE.glob("*.json"))}
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def plain(value: Any) -> Any:
    """What the file means: it has marks where JSON has no type."""
    if isinstance(value, dict):
        if value.keys() == {"$timestamp"}:
            return datetime.fromisoformat(value["$timestamp"])
        if value.keys() == {"$bytes"}:
            return base64.b64decode(value["$bytes"])
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def same(left: Any, right: Any) -> bool:
    """Equal, NaN included, and of the same type: 1 is not True."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and left == right


def unpacked(body: bytes) -> Any:
    """Decode a command, with the map inside it."""
    outer = msgspec.msgpack.decode(body)
    return outer | {"m": msgspec.msgpack.decode(outer["m"])}


def commands():
    for name, scenario in SCENARIOS.items():
        for number, command in enumerate(scenario.get("commands", [])):
            yield pytest.param(command, id=f"{name}-{number}-{command['kind']}")


def runs():
    for name, scenario in SCENARIOS.items():
        for number, run in enumerate(scenario.get("runs", [])):
            yield pytest.param(run, id=f"{name}-{number}")


def info_map(run: RunInfo) -> dict[str, Any]:
    """A decoded RunInfo as the map that the file has."""
    found = msgspec.structs.asdict(run)
    if run.status is not None:
        found["status"] = run.status.value
    if run.timeout is not None:
        found["timeout"] = run.timeout // timedelta(microseconds=1) * 1_000
    return {key: value for key, value in found.items() if value is not None}


def test_there_are_fixtures():
    assert len(SCENARIOS) == 33


def asked(reply: dict[str, Any]) -> DescribeCommand:
    """Return a describe that this is the answer to."""
    payload = reply.get("payload")
    return DescribeCommand(wf_id=payload["wf_id"] if isinstance(payload, dict) and "wf_id" in payload else "w")


class TestFixtures:
    @pytest.mark.parametrize("command", [c for c in commands() if not c.values[0]["kind"].startswith("(")])
    def test_a_command_encodes_to_an_equal_map(self, command):
        body = bytes.fromhex(command["request"])
        decoded = wire.decode_command(body)
        assert decoded.kind == command["kind"]
        assert subjects.command(decoded.wf_id) == command["subject"]
        assert same(unpacked(wire.encode_command(decoded, unpacked(body)["s"])), unpacked(body))

    @pytest.mark.parametrize("command", [c for c in commands() if c.values[0]["kind"].startswith("(un")])
    def test_what_is_no_command_is_refused(self, command):
        with pytest.raises(DecodeError, match=r"unknown command kind|cannot be decoded"):
            wire.decode_command(bytes.fromhex(command["request"]))

    @pytest.mark.parametrize("command", list(commands()))
    def test_a_reply_decodes_to_what_the_file_says(self, command):
        said = plain(command["reply_decoded"])
        reply = wire.decode_reply(bytes.fromhex(command["reply"]), asked(said), link=7)
        assert reply.success is said["success"]
        assert reply.link == 7
        if "error" in said:
            error = said["error"]
            assert reply.error == ReplyError(error["code"], error["message"], error.get("detail", ""))
            assert reply.run is None
        elif "payload" in said:
            assert reply.run is not None
            assert same(info_map(reply.run), said["payload"])
        else:
            assert reply.run is None

    @pytest.mark.parametrize("command", list(commands()))
    def test_a_reply_encodes_to_an_equal_map(self, command):
        body = bytes.fromhex(command["reply"])
        again = wire.encode_reply(wire.decode_reply(body, asked(plain(command["reply_decoded"])), link=0))
        assert same(msgspec.msgpack.decode(again), msgspec.msgpack.decode(body))

    @pytest.mark.parametrize("run", list(runs()))
    def test_a_history_decodes_to_what_the_file_says(self, run):
        for stored in run["history"]:
            body, said = bytes.fromhex(stored["body"]), plain(stored["decoded"])
            event = wire.decode_event(body, stored["seq"])
            assert event.seq == stored["seq"]
            found = {
                "w": event.wf_id,
                "r": event.run_id,
                "wo": event.worker_id,
                "ts": event.timestamp,
                "k": event.kind,
                "m": event.data,
            } | ({} if event.operation_id is None else {"o": event.operation_id})
            assert same(found, said)
            assert event.extra == {}
            assert same(unpacked(wire.encode_event(event)), unpacked(body))

    @pytest.mark.parametrize("run", list(runs()))
    def test_the_records_of_a_run_lie_where_we_look_and_decode(self, run):
        ref = RunRef(run["wf_id"], run["run_id"], run["wf_type"])
        records = dict(run["records"])

        def take(subject):
            stored = records.pop(subject)
            return (None, None) if stored is None else (bytes.fromhex(stored["body"]), plain(stored["decoded"]))

        body, said = take(subjects.run_info(ref))
        info = wire.decode_run_info(body)
        assert same(info_map(info), said)
        assert same(msgspec.msgpack.decode(wire.encode_run_info(info)), msgspec.msgpack.decode(body))
        body, said = take(subjects.run_state(ref))
        state = wire.decode_run_state(body)
        known = {key: value for key, value in msgspec.structs.asdict(state).items() if value is not None}
        assert known == {key: value for key, value in said.items() if key != "pending_cancel"}  # of the engine alone
        body, said = take(subjects.error(ref))
        if body is not None:
            assert wire.decode_error(body) == ErrorDetails(said["type"], said["message"], said["stack_trace"])
            assert msgspec.msgpack.decode(wire.encode_error(wire.decode_error(body))) == said
        for subject in (subjects.input(ref), subjects.output(ref)):
            body, said = take(subject)
            assert body is None or same(decode(body), said)
        assert records == {}

    def test_registered_types(self):
        for subject, stored in SCENARIOS["registry"]["records"].items():
            said = plain(stored["decoded"])
            body = bytes.fromhex(stored["body"])
            found = wire.decode_type_info(body)
            assert subjects.registry(found.name) == subject
            assert found == TypeInfo(
                name=said["type"],
                start_step=said["start_step"],
                steps=tuple(said["steps"]),
                events=tuple(event["name"] for event in said["events"]),
                queries=tuple(said["queries"]),
            )
            again = wire.encode_type_info(found, worker_id=said["worker_id"], registered_at=said["registered_at"])
            assert same(msgspec.msgpack.decode(again), msgspec.msgpack.decode(body))


class TestCommands:
    def test_an_envelope(self):
        command = CancelCommand(wf_id="w", reason="why", id="01", created_at=NOW)
        assert unpacked(wire.encode_command(command, "c_0@host")) == {
            "id": "01",
            "k": "run.cancel",
            "m": {"wf_id": "w", "reason": "why"},
            "t": NOW,
            "s": "c_0@host",
        }

    def test_the_inner_map_is_a_byte_string(self):
        body = wire.encode_command(DescribeCommand(wf_id="w"), "s")
        assert type(msgspec.msgpack.decode(body)["m"]) is bytes

    def test_headers_and_the_run_that_is_meant_are_not_in_the_body(self):
        command = EventCommand(wf_id="w", event_name="e", run=RunRef("w", "r"), headers={"a": "b"})
        assert unpacked(wire.encode_command(command, "s"))["m"] == {"wf_id": "w", "event_name": "e", "payload": None}

    def test_a_query_is_no_command_of_the_server(self):
        with pytest.raises(UnsupportedOperationError):
            wire.encode_command(QueryCommand(wf_id="w", run_id="r", query_name="q"), "s")

    @pytest.mark.parametrize("kind", [CancelCommand, TerminateCommand])
    def test_a_reason_of_nil_is_none(self, kind):
        body = msgspec.msgpack.encode(
            {"id": "1", "k": kind.kind, "m": msgspec.msgpack.encode({"wf_id": "w", "reason": None}), "t": NOW}
        )
        assert wire.decode_command(body) == kind(wf_id="w", reason="", id="1", created_at=NOW)

    def test_unknown_keys_do_no_harm(self):
        inner = msgspec.msgpack.encode({"wf_id": "w", "new": 1})
        body = msgspec.msgpack.encode({"id": "1", "k": "run.describe", "m": inner, "t": NOW, "s": "s", "new": [1]})
        assert wire.decode_command(body) == DescribeCommand(wf_id="w", id="1", created_at=NOW)


class TestTimeout:
    def encoded(self, timeout: Any) -> RunInfo:
        body = {"id": "r", "wf_id": "w", "wf_type": "W", "created_at": NOW, "timeout": timeout}
        return wire.decode_run_info(msgspec.msgpack.encode(body))

    @pytest.mark.parametrize(
        ("stored", "meant"),
        [
            (None, None),
            (0, None),
            (1, timedelta(seconds=1)),
            (300, timedelta(seconds=300)),
            (999_999, timedelta(seconds=999_999)),
            (1_000_000, timedelta(milliseconds=1)),
            (300_000_000_000, timedelta(seconds=300)),
            (2**63 - 1, timedelta(microseconds=(2**63 - 1) // 1_000)),
        ],
    )
    def test_nanoseconds_and_seconds(self, stored, meant):
        found = self.encoded(stored).timeout
        assert found == meant or abs(found - meant) < timedelta(milliseconds=1)

    def test_absurd_ones_are_none(self):
        assert self.encoded(2**64 - 1).timeout is None or self.encoded(2**64 - 1).timeout > timedelta(days=36_000)
        negative = self.encoded(-1).timeout
        assert negative is None or negative <= timedelta()

    @given(st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=36_500)))
    def test_written_in_nanoseconds(self, timeout):
        run = RunInfo(id="r", wf_id="w", wf_type="W", created_at=NOW, timeout=timeout)
        body = wire.encode_run_info(run)
        assert msgspec.msgpack.decode(body)["timeout"] == timeout // timedelta(microseconds=1) * 1_000
        assert wire.decode_run_info(body).timeout == timeout

    @pytest.mark.parametrize("microseconds", [1, 10, 999])
    def test_a_very_short_one_is_not_read_as_seconds(self, microseconds):
        run = RunInfo(id="r", wf_id="w", wf_type="W", created_at=NOW, timeout=timedelta(microseconds=microseconds))
        assert wire.decode_run_info(wire.encode_run_info(run)).timeout <= timedelta(milliseconds=1)


class TestUnknown:
    def test_a_status(self):
        run = RunInfo(id="r", wf_id="w", wf_type="W", created_at=NOW, status=RunStatus("paused"))
        again = wire.decode_run_info(wire.encode_run_info(run))
        assert again == run
        assert again.status.value == "paused"
        assert not again.is_finished

    def test_keys_of_a_record(self):
        body = msgspec.msgpack.encode({"id": "r", "wf_id": "w", "wf_type": "W", "created_at": NOW, "new": {"a": 1}})
        assert wire.decode_run_info(body) == RunInfo(id="r", wf_id="w", wf_type="W", created_at=NOW)

    def test_kind_and_keys_of_an_event_are_kept(self):
        body = msgspec.msgpack.encode(
            {"w": "w", "r": "r", "wo": "", "ts": NOW, "k": "run.paused", "m": encode("m", {"a": 1}), "new": [1], "x": 2}
        )
        event = wire.decode_event(body, 3)
        assert (event.kind, event.data, event.extra) == ("run.paused", {"a": 1}, {"new": [1], "x": 2})
        assert not event.is_terminal

    def test_keys_of_an_event_with_an_operation(self):
        known = {"w": "w", "r": "r", "wo": "", "ts": NOW, "k": "k", "m": b"\x80", "o": "op"}
        assert wire.decode_event(msgspec.msgpack.encode(known), 1).extra == {}
        assert wire.decode_event(msgspec.msgpack.encode(known | {"n": 1}), 1).extra == {"n": 1}

    def test_keys_of_a_nil_operation(self):
        known = {"w": "w", "r": "r", "wo": "", "ts": NOW, "k": "k", "m": b"\x80", "o": None}
        assert wire.decode_event(msgspec.msgpack.encode(known), 1).extra == {}

    def test_a_code_and_keys_of_a_reply(self):
        body = msgspec.msgpack.encode({"success": False, "error": {"code": 4711, "message": "m", "new": 1}, "x": 1})
        reply = wire.decode_reply(body, DescribeCommand(wf_id="w"), 1)
        assert reply.error == ReplyError(4711, "m", "")

    def test_a_refusal_without_a_reason(self):
        reply = wire.decode_reply(msgspec.msgpack.encode({"success": False}), DescribeCommand(wf_id="w"), 1)
        assert reply.error is not None

    def test_a_payload_that_nobody_asked_for(self):
        body = msgspec.msgpack.encode({"success": True, "payload": [1, 2]})
        assert wire.decode_reply(body, CancelCommand(wf_id="w"), 1) == Reply(success=True, link=1)

    def test_integers_of_any_width(self):
        body = bytes.fromhex("81a7") + b"success" + b"\xc2"
        body = b"\x82" + body[1:] + b"\xa5error\x81\xa4code\xd3" + (4001).to_bytes(8, "big")
        assert wire.decode_reply(body, DescribeCommand(wf_id="w"), 1).error == ReplyError(4001, "", "")

    def test_maps_of_any_encoding(self):
        known = {"w": "w", "r": "r", "wo": "", "ts": NOW, "k": "k", "m": b"\x80"}
        packed = msgspec.msgpack.encode(known)
        for head in (b"\xde\x00\x06", b"\xdf\x00\x00\x00\x06"):
            event = wire.decode_event(head + packed[1:], 1)
            assert (event.kind, event.extra) == ("k", {})


DECODERS = [
    wire.decode_command,
    lambda body: wire.decode_reply(body, DescribeCommand(wf_id="w"), 0),
    lambda body: wire.decode_event(body, 1),
    wire.decode_run_info,
    wire.decode_run_state,
    wire.decode_error,
    wire.decode_type_info,
]
BODIES = [bytes.fromhex(c.values[0][key]) for c in commands() for key in ("request", "reply")] + [
    bytes.fromhex(stored["body"]) for run in runs() for stored in run.values[0]["history"]
]


def survives(body: bytes) -> None:
    for decoder in DECODERS:
        try:
            decoder(body)
        except DecodeError as error:
            assert str(error)  # noqa: PT017


class TestGarbage:
    @given(st.binary(max_size=200))
    def test_bytes(self, body):
        survives(body)

    @given(st.sampled_from(BODIES), st.data())
    def test_damaged_bodies(self, body, data):
        at = data.draw(st.integers(0, len(body) - 1))
        damaged = bytearray(body)
        damaged[at] = data.draw(st.integers(0, 255))
        survives(bytes(damaged))
        survives(body[:at])
        survives(body + body[:at])

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["id", "k", "m", "ts"]), inner),
        )
    )
    def test_other_values(self, value):
        survives(msgspec.msgpack.encode(value))

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xc0",
            b"\xff",
            b"\xdf\xff\xff\xff\xff",
            b"\x91" * 100_000,
            b"\x81\xa2id" * 100_000,
            b"\xc7\x0c\xff" + b"\xff" * 12,  # a timestamp out of range
            b"\xd7\xff" + b"\xff" * 8,
            b"\x81\xa1\xff\xc0",  # a key that is no UTF-8
        ],
    )
    def test_traps(self, body):
        survives(body)

    @pytest.mark.parametrize("stamp", [b"\xc7\x0c\xff" + b"\xff" * 12, b"\xc7\x0c\xff\x00\x00\x00\x00" + b"\x7f" * 8])
    def test_times_that_python_cannot_tell(self, stamp):
        body = b"\x84\xa2id\xa1r\xa5wf_id\xa1w\xa7wf_type\xa1W\xaacreated_at" + stamp
        with pytest.raises(DecodeError):
            wire.decode_run_info(body)

    def test_a_trap_among_unknown_keys(self):
        known = msgspec.msgpack.encode({"w": "w", "r": "r", "wo": "", "ts": NOW, "k": "k", "m": b"\x80"})
        for value in (b"\xc7\x0c\xff" + b"\xff" * 12, b"\x81\x93\x01\x02\x03\xc0", b"\x81\x90\xc0", b"\x91" * 5_000):
            try:
                assert wire.decode_event(b"\x87" + known[1:] + b"\xa1n" + value, 1).kind == "k"
            except DecodeError:
                assert value[0] in b"\x91\xff"  # cut short: not even msgpack


ids = st.text("abcXYZ019-_", min_size=1, max_size=30)
times = st.datetimes(
    datetime(1970, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
infos = st.builds(
    RunInfo,
    id=ids,
    wf_id=ids,
    wf_type=ids,
    created_at=times,
    status=st.none() | st.sampled_from(list(RunStatus)),
    worker_name=st.none() | st.text(),
    parent_wf_id=st.none() | ids,
    parent_wf_type=st.none() | ids,
    parent_run_id=st.none() | ids,
    parent_callback_step=st.none() | ids,
    timeout=st.none() | st.timedeltas(timedelta(milliseconds=1), timedelta(days=36_500)),
    scheduled_at=st.none() | times,
    started_at=st.none() | times,
    completed_at=st.none() | times,
    history_seq_id=st.none() | st.integers(0, 2**63),
)
payloads = st.none() | st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63) | st.text(), lambda inner: st.dictionaries(st.text(), inner)
).map(lambda value: encode("payload", value))
common = {"wf_id": ids, "id": ids, "created_at": times}


class TestRoundTrips:
    @given(
        st.builds(lambda run, **rest: StartCommand(wf_id=run.wf_id, run=run, **rest), infos, input=payloads, id=ids)
        | st.builds(EventCommand, **common, event_name=st.text(), payload=payloads, run=st.none(), headers=st.none())
        | st.builds(CancelCommand, **common, reason=st.text(), headers=st.none())
        | st.builds(TerminateCommand, **common, reason=st.text(), headers=st.none())
        | st.builds(DescribeCommand, **common, headers=st.none())
    )
    def test_commands(self, command):
        assert wire.decode_command(wire.encode_command(command, "sender")) == command

    @given(infos)
    def test_run_infos(self, run):
        assert wire.decode_run_info(wire.encode_run_info(run)) == run

    @given(
        st.builds(
            Reply,
            success=st.just(True),
            run=st.none() | infos,
            payload=st.none(),
            error=st.none(),
            link=st.integers(0, 5),
        )
        | st.builds(
            Reply,
            success=st.just(False),
            run=st.none(),
            payload=st.none(),
            error=st.builds(ReplyError, st.integers(0, 9_999), st.text(), st.text()),
            link=st.integers(0, 5),
        )
    )
    def test_replies(self, reply):
        describe = DescribeCommand(wf_id=reply.run.wf_id if reply.run else "w")
        assert wire.decode_reply(wire.encode_reply(reply), describe, reply.link) == reply

    @given(
        st.builds(
            HistoryEvent,
            seq=st.integers(1, 2**63),
            kind=st.text(),
            timestamp=times,
            wf_id=ids,
            run_id=ids,
            worker_id=st.text(),
            operation_id=st.none() | st.text(),
            encoded=st.dictionaries(st.text(), st.integers(0, 9)).map(lambda value: encode("m", value)),
            extra=st.just({}),
        )
    )
    def test_events(self, event):
        assert wire.decode_event(wire.encode_event(event), event.seq) == event

    @given(st.builds(ErrorDetails, st.text(), st.text(), st.text()))
    def test_errors(self, error):
        assert wire.decode_error(wire.encode_error(error)) == error

    @given(st.builds(wire.RunState, ids, ids, st.text(), times, st.none() | times, st.none() | st.integers(0, 2**63)))
    def test_states(self, state):
        assert wire.decode_run_state(wire.encode_run_state(state)) == state

    @given(
        st.builds(
            TypeInfo,
            name=ids,
            start_step=st.text(),
            steps=st.lists(st.text()).map(tuple),
            events=st.lists(st.text()).map(tuple),
            queries=st.lists(st.text()).map(tuple),
        )
    )
    def test_types(self, known):
        assert wire.decode_type_info(wire.encode_type_info(known, worker_id="w", registered_at=NOW)) == known
