"""Stream: what holds everything durable (docs/protocol.md, section 1), and how it is read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from nats.aio.msg import Msg

from grctl.dev_server.errors import DevServerError
from grctl.dev_server.link import Link
from grctl_nats import subjects

__all__ = [
    "StreamState",
    "ensure_stream",
    "get_all",
    "get_last",
    "get_message",
    "list_subjects",
    "read_state",
    "sequence",
]

_CONFIG: dict[str, Any] = {
    "name": subjects.STREAM,
    "subjects": [
        "grctl_history.>",
        "grctl_run.>",
        "grctl_wf_kv.>",
        "grctl_registry.>",
        "grctl_state.>",
        "grctl_events.>",
        "grctl_worker_task.>",
    ],
    "retention": "limits",
    "discard": "old",
    "storage": "file",
    "num_replicas": 1,
    "allow_direct": True,
    "allow_atomic": True,
    "allow_msg_schedules": True,
    "allow_rollup_hdrs": True,
    "metadata": {"made-by": "grctl-client dev"},
}
_NOT_FOUND = 404


class StreamState(msgspec.Struct, frozen=True):
    """Where the stream stands.

    Attributes:
        created: tells one stream from another one of the same name.
        last_seq: sequence of the last message that it ever held.
    """

    created: str
    last_seq: int


async def ensure_stream(link: Link) -> StreamState:
    """Make the stream if it is not there, and return where it stands.

    Raises:
        LinkLostError: the broker does not answer.
        DevServerError: the broker refuses, or is too old.

    """
    answer = await link.call(f"STREAM.INFO.{subjects.STREAM}")
    if _code(answer) == _NOT_FOUND:
        answer = await link.call(f"STREAM.CREATE.{subjects.STREAM}", _CONFIG)
    elif (made_by := _made_by(answer)) != _made_by({"config": _CONFIG}):
        raise DevServerError(
            f"this broker holds a stream {subjects.STREAM} that another server made ({made_by or 'grctld'}?): the "
            "development server keeps its hands off it. Use a broker without one, or leave out --nats-url"
        )
    elif any(answer.get("config", {}).get(key) is not True for key, value in _CONFIG.items() if value is True):
        answer = await link.call(f"STREAM.UPDATE.{subjects.STREAM}", _CONFIG)
    state = _state(answer)
    if answer["config"].get("allow_atomic") is not True:
        raise DevServerError("this broker is too old: the development server needs nats-server 2.12 or later")
    return state


async def read_state(link: Link) -> StreamState:
    """Return where the stream stands.

    Raises:
        LinkLostError: the broker does not answer.
        DevServerError: there is no stream.

    """
    return _state(await link.call(f"STREAM.INFO.{subjects.STREAM}"))


async def get_last(link: Link, subject: str) -> Msg | None:
    """Return the last message of a subject, which may have wildcards; None where there is none."""
    return await _get(link, {"last_by_subj": subject})


async def get_message(link: Link, seq: int) -> Msg | None:
    """Return the message with this sequence; None where there is none."""
    return await _get(link, {"seq": seq})


async def get_all(link: Link, subject: str) -> list[Msg]:
    """Return the messages of a subject, in order."""
    found: list[Msg] = []
    seq = 0
    while (message := await _get(link, {"seq": seq + 1, "next_by_subj": subject})) is not None:
        found.append(message)
        seq = sequence(message)
    return found


async def list_subjects(link: Link, pattern: str) -> list[str]:
    """Return the subjects of a pattern that have messages."""
    found: list[str] = []
    while True:
        request = {"subjects_filter": pattern, "offset": len(found)}
        answer = await link.call(f"STREAM.INFO.{subjects.STREAM}", request)
        page = answer["state"].get("subjects") or {}
        found += page
        if not page or len(found) >= answer.get("total", 0):
            return found


def sequence(message: Msg) -> int:
    """Return the stream sequence of a message that was got."""
    return int((message.headers or {})["Nats-Sequence"])


async def _get(link: Link, what: dict[str, Any]) -> Msg | None:
    answer = await link.request(f"$JS.API.DIRECT.GET.{subjects.STREAM}", json.dumps(what).encode())
    return None if answer.headers and "Status" in answer.headers else answer


def _made_by(answer: dict[str, Any]) -> str:
    made_by: str = answer.get("config", {}).get("metadata", {}).get("made-by", "")
    return made_by


def _code(answer: dict[str, Any]) -> int:
    code: int = answer.get("error", {}).get("code", 0)
    return code


def _state(answer: dict[str, Any]) -> StreamState:
    if "error" in answer:
        raise DevServerError(f"the broker has no use of stream {subjects.STREAM}: {answer['error'].get('description')}")
    return StreamState(answer["created"], answer["state"]["last_seq"])
