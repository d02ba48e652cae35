"""Stream: what holds everything durable (docs/protocol.md, section 1), and how it is read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from nats.aio.msg import Msg

from grctl.dev_server.errors import DevServerError
from grctl.dev_server.link import Link
from grctl_nats import subjects

__all__ = ["StreamState", "ensure_stream", "get_last", "get_message", "read_state"]

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


async def _get(link: Link, what: dict[str, Any]) -> Msg | None:
    answer = await link.request(f"$JS.API.DIRECT.GET.{subjects.STREAM}", json.dumps(what).encode())
    return None if answer.headers and "Status" in answer.headers else answer


def _code(answer: dict[str, Any]) -> int:
    code: int = answer.get("error", {}).get("code", 0)
    return code


def _state(answer: dict[str, Any]) -> StreamState:
    if "error" in answer:
        raise DevServerError(f"the broker has no use of stream {subjects.STREAM}: {answer['error'].get('description')}")
    return StreamState(answer["created"], answer["state"]["last_seq"])
