"""Frames: any pieces of a stream give the same frames, and no byte is changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fault_proxy import Direction, Frame, FrameReader, UnreadableError, frames, replies, requests, subject_matches
from fault_proxy.frames import VERBS

TO_SERVER, TO_CLIENT = Direction.TO_SERVER, Direction.TO_CLIENT

subjects = st.text("abcXYZ019_-$*", min_size=1, max_size=8)
payloads = st.binary(max_size=60)
header_blocks = st.binary(max_size=20).map(lambda body: b"NATS/1.0\r\nk: " + body + b"\r\n\r\n")
spaces = st.sampled_from([" ", "  ", "\t", " \t "])


@st.composite
def verbs(draw, verb: str) -> str:
    return "".join(draw(st.sampled_from([letter, letter.lower()])) for letter in verb)


@st.composite
def encoded(draw) -> tuple[str, str, str, bytes, bytes, bytes]:
    """Draw a frame: verb, subject, reply subject, headers, payload, and all its bytes."""
    verb = draw(st.sampled_from(sorted(VERBS)))
    shown, space = draw(verbs(verb)), draw(spaces)
    if verb in {"PING", "PONG", "+OK"}:
        return verb, "", "", b"", b"", f"{shown}\r\n".encode()
    if verb in {"INFO", "CONNECT", "-ERR"}:
        text = draw(st.text('{}: abc"é', max_size=30))
        return verb, "", "", b"", b"", f"{shown}{space}{text}\r\n".encode()
    subject, reply = draw(subjects), draw(st.sampled_from(["", "_INBOX.x.1"]))
    if verb in {"SUB", "UNSUB"}:
        words = [shown, subject, "7"]
        return verb, subject if verb == "SUB" else "", "", b"", b"", (space.join(words) + "\r\n").encode()
    payload = draw(payloads)
    headers = draw(header_blocks) if verb[0] == "H" else b""
    words = [shown, subject, *([] if "PUB" in verb else ["12"]), *([reply] if reply else [])]
    words += [str(len(headers))] if headers else []
    line = space.join([*words, str(len(headers) + len(payload))])
    return verb, subject, reply, headers, payload, line.encode() + b"\r\n" + headers + payload + b"\r\n"


@given(st.lists(encoded(), max_size=8), st.data())
def test_any_pieces_give_the_same_frames_and_the_same_bytes(drawn, data):
    stream = b"".join(raw for *_, raw in drawn)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader = FrameReader(TO_SERVER)
    found: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert b"".join(frame.raw for frame in found) == stream
    assert reader.rest == b""
    seen = [(f.verb, f.subject, f.reply_to, f.headers, f.payload, f.raw) for f in found]
    assert seen == drawn


@given(encoded())
def test_a_byte_at_a_time_gives_the_frame_at_its_last_byte(drawn):
    raw = drawn[-1]
    reader = FrameReader(TO_CLIENT)
    for number in range(len(raw) - 1):
        assert reader.feed(raw[number : number + 1]) == []
        assert reader.rest == raw[: number + 1]
    assert [frame.raw for frame in reader.feed(raw[-1:])] == [raw]


@given(encoded(), payloads)
def test_another_payload(drawn, payload):
    (frame,) = FrameReader(TO_SERVER).feed(drawn[-1])
    if frame.verb not in {"PUB", "HPUB", "MSG", "HMSG"}:
        with pytest.raises(ValueError, match="has no payload"):
            frame.with_payload(payload)
        return
    changed = frame.with_payload(payload)
    (read,) = FrameReader(TO_SERVER).feed(changed.raw)
    assert read == changed
    assert (read.payload, read.headers, read.subject, read.reply_to) == (
        payload,
        frame.headers,
        frame.subject,
        frame.reply_to,
    )


def test_a_large_payload():
    body = bytes(range(256)) * 40_000
    raw = b"PUB a %d\r\n%b\r\n" % (len(body), body)
    reader = FrameReader(TO_SERVER)
    found = [frame for start in range(0, len(raw), 65_536) for frame in reader.feed(raw[start : start + 65_536])]
    assert [frame.payload for frame in found] == [body]


def test_a_line_may_end_without_carriage_return():
    assert [frame.verb for frame in FrameReader(TO_SERVER).feed(b"PING\nPONG\r\n")] == ["PING", "PONG"]


@pytest.mark.parametrize(
    "stream",
    [
        b"\x16\x03\x01\x02\n",
        b"GET / HTTP/1.1\r\n",
        b"\r\n",
        b"PUB a\r\n",
        b"PUB a b c 5\r\n",
        b"PUB a five\r\n",
        b"PUB a -1\r\n",
        b"PUB a 1\r\nxyz",
        b"HPUB a 9 3\r\nabc\r\n",
        b"PING now\r\n",
        b"x" * (1 << 20) + b"x",
    ],
)
def test_what_is_no_nats_protocol_is_an_error(stream):
    with pytest.raises(UnreadableError, match="to the client is no NATS protocol"):
        FrameReader(TO_CLIENT).feed(stream)


@pytest.mark.parametrize(
    ("pattern", "subject", "matches"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.b.c", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("a.>", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a.b", True),
        ("a.>.c", "a.b.c", False),
        ("a*", "ab", False),
        ("A", "a", False),
    ],
)
def test_subjects_with_wildcards(pattern, subject, matches):
    assert subject_matches(pattern, subject) is matches


def test_what_matches():
    reader = FrameReader(TO_SERVER)
    ping, sub, told, asked = reader.feed(
        b"PING\r\nSUB grctl_api.> 1\r\nPUB grctl_api.x 0\r\n\r\nPUB grctl_api.x _INBOX.1 1\r\nq\r\n"
    )
    (answer,) = FrameReader(TO_CLIENT).feed(b"MSG _INBOX.1 1 1\r\na\r\n")
    answer = Frame(TO_CLIENT, answer.verb, answer.raw, answer.arguments, answer.subject, "", b"", b"a", asked)
    everything = [ping, sub, told, asked, answer]

    def matched(match):
        return [frame for frame in everything if match(frame)]

    assert matched(frames()) == everything
    assert matched(frames(TO_CLIENT)) == [answer]
    assert matched(frames(verbs="pub")) == [told, asked]
    assert matched(frames(verbs=["sub", "Ping"])) == [ping, sub]
    assert matched(frames(subject=">")) == [sub, told, asked, answer]
    assert matched(frames(where=lambda frame: frame.payload == b"q")) == [asked]
    assert matched(requests()) == [asked]
    assert matched(requests("other.>")) == []
    assert matched(replies()) == [answer]
    assert matched(replies(where=lambda frame: frame.request.payload == b"other")) == []
    assert matched(replies("other.>")) == []
    with pytest.raises(ValueError, match="no verbs of the protocol: PUBLISH"):
        frames(verbs="publish")
