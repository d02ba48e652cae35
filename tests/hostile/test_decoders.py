"""Whatever the bytes are, a decoder says DecodeError or returns what can be used: no other error, no name of no run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grctl_core.codec import decode
from grctl_core.commands import CancelCommand, DescribeCommand
from grctl_core.errors import DecodeError, UnsupportedOperationError
from grctl_core.history import HistoryEvent
from grctl_core.outcome import EncodedOutcome, decode_outcome
from grctl_core.run import RunInfo, RunRef, RunStatus
from grctl_nats import subjects, wire
from grctl_nats.ending import _from_event

from .mutations import BODIES, SPECIALS, mutated

NOW = msgspec.msgpack.decode(b"\xd6\xff\x5b\x00\x00\x00")
RUN = RunInfo(id="r", wf_id="w", wf_type="W", created_at=NOW, status=RunStatus.COMPLETED)


def an_event(body: bytes) -> None:
    event = wire.decode_event(body, 1)
    assert isinstance(event, HistoryEvent)
    with contextlib.suppress(DecodeError):
        assert isinstance(event.data, dict)


def a_run_info(body: bytes) -> None:
    use(wire.decode_run_info(body))


def use(run: RunInfo) -> None:
    """Make of it what the library makes of it."""
    for subject, dots in (
        (subjects.run_info(run.ref), 4),
        (subjects.history(run.ref), 2),
        (subjects.run_state(run.ref), 3),
        (subjects.registry(run.wf_type), 1),
        (subjects.command(run.wf_id), 2),
    ):
        assert subject.count(".") == dots
        assert subject.isascii() is False or subject.isprintable()
        assert not set("*> \t\r\n\0\x1b") & set(subject)
        assert len(subject.encode()) < 3_700
    assert run.timeout is None or run.timeout.total_seconds() > 0
    assert (run.created_at - NOW).total_seconds() is not None
    assert wire.decode_run_info(wire.encode_run_info(run)).ref == run.ref


def a_reply(body: bytes) -> None:
    for command in (DescribeCommand(wf_id="completed"), CancelCommand(wf_id="w")):
        reply = wire.decode_reply(body, command, 1)
        assert reply.success is (reply.error is None)
        if reply.run is not None:
            assert reply.run.wf_id == command.wf_id
            use(reply.run)


def an_ending(body: bytes) -> None:
    for status in RunStatus:
        outcome = decode_outcome(_from_event(RUN, status, body), Any)
        assert outcome.run.ref == RUN.ref
        if not outcome.completed:
            assert str(outcome.to_error())


def a_result(body: bytes) -> None:
    decode_outcome(EncodedOutcome(run=RUN, result=body), Any)


DECODERS: dict[str, Callable[[bytes], object]] = {
    "a reply": a_reply,
    "a RunInfo": a_run_info,
    "a RunInfo of a certain run": lambda body: wire.decode_run_info(body, RunRef("w", "r")),
    "an event": an_event,
    "an end": an_ending,
    "a result": a_result,
    "an error": wire.decode_error,
    "a state": wire.decode_run_state,
    "a type": wire.decode_type_info,
    "a command": wire.decode_command,
    "a value": decode,
}


def holds(decoder: Callable[[bytes], object], body: bytes) -> None:
    try:
        decoder(body)
    except (DecodeError, UnsupportedOperationError) as error:
        assert 0 < len(str(error)) < 1_000  # noqa: PT017
        assert str(error).isprintable()  # noqa: PT017


@pytest.mark.parametrize("name", DECODERS)
def test_mutations_of_what_a_server_says(name, examples):
    rng = Random(name)
    for _ in range(examples(2_000)):
        body = mutated(rng)
        try:
            holds(DECODERS[name], body)
        except BaseException as error:
            error.add_note(f"the body was {body[:2_000].hex()}")
            raise


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_special_in_the_place_of_each_value(name):
    for body in BODIES[::7]:
        try:
            fields = msgspec.msgpack.decode(body, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, ValueError):
            continue
        for key in fields:
            for special in SPECIALS:
                holds(DECODERS[name], msgspec.msgpack.encode(fields | {key: msgspec.Raw(special)}))


keys = st.sampled_from(
    ["id", "wf_id", "wf_type", "created_at", "status", "timeout", "success", "payload", "error", "code"]
)
values = st.sampled_from(SPECIALS) | (st.none() | st.booleans() | st.floats() | st.text() | st.binary()).map(
    msgspec.msgpack.encode
)


def maps(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    key = (keys | st.text(max_size=3)).map(msgspec.msgpack.encode)
    return st.lists(st.tuples(key, inner), max_size=8).map(
        lambda pairs: bytes([0x80 + len(pairs)]) + b"".join(key + value for key, value in pairs)
    )


packed = values | maps(values | maps(values))


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine
@given(packed | st.binary(max_size=60))
def test_maps_of_anything_with_keys_twice(body):
    for decoder in DECODERS.values():
        holds(decoder, body)


FOUND = {
    "a key of an event that is not UTF-8": (
        "an event",
        msgspec.msgpack.encode({"w": "w", "r": "r", "wo": "", "ts": NOW, "k": "k", "m": b"\x80"}).replace(
            b"\x86", b"\x87", 1
        )
        + b"\xa2\xff\xfe\xc0",
    ),
    "an end of three thousand levels": ("an end", b"\x81\xa6result" + b"\x91" * 3_000 + b"\xc0"),
    "a timeout that is larger when it is written back": (
        "a RunInfo",
        msgspec.msgpack.encode({"id": "r", "wf_id": "w", "wf_type": "W", "created_at": NOW, "timeout": 2**64 - 1}),
    ),
    "a timeout below zero": (
        "a RunInfo",
        msgspec.msgpack.encode({"id": "r", "wf_id": "w", "wf_type": "W", "created_at": NOW, "timeout": -5}),
    ),
}
"""What broke something once."""


@pytest.mark.parametrize("found", FOUND)
def test_what_was_found(found):
    name, body = FOUND[found]
    holds(DECODERS[name], body)
