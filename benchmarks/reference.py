"""The reference: the same work by hand, with nats-py and msgspec, as somebody without a library would write it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import nats
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from benchmarks.responder import EVENT, TYPE

__all__ = ["INPUT", "Reference"]

INPUT = {"order_id": "abc-123", "amount": 49.99}
_RUN_ID, _COMMAND_ID, _SENDER = "01M82CM2EPSQNNVV4233NRWD1P", "01M82CM2EPSQNNVV4233NRWD1Q", "c_0123abcd@host"
_GET = "$JS.API.DIRECT.GET.grctl_state"

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


class Reference:
    """Makes commands of plain maps, and reads replies into plain maps."""

    def __init__(self, nc: nats.aio.client.Client) -> None:
        self._nc = nc

    async def start(self, number: int) -> None:
        """Start a run. The ids are constant, as making some is no part of what is compared."""
        now = datetime.now(UTC)
        wf_id = f"order-{number}"
        run = {"id": _RUN_ID, "wf_id": wf_id, "wf_type": TYPE, "created_at": now}
        await self._command("run.start", wf_id, {"run_info": run, "input": INPUT}, now)

    async def send(self, wf_id: str) -> None:
        """Send an event."""
        inner = {"wf_id": wf_id, "event_name": EVENT, "payload": INPUT}
        await self._command("run.event", wf_id, inner, datetime.now(UTC))

    async def _command(self, kind: str, wf_id: str, inner: dict[str, Any], now: datetime) -> None:
        body = {"id": _COMMAND_ID, "k": kind, "m": _encode(inner), "t": now, "s": _SENDER}
        reply = await self._nc.request(f"grctl_api.workflow.{wf_id}", _encode(body), timeout=5)
        _decode(reply.data)

    async def get(self, subject: str) -> Any:
        """Read the last record of a subject by a direct get."""
        return _decode((await self._nc.request(f"{_GET}.{subject}", timeout=5)).data)

    async def last_of_each(self, subjects: list[str], at_once: int) -> int:
        """Read the last record of each subject by ``multi_last``, so many with a request; nothing is decoded."""
        inbox = self._nc.new_inbox()
        found = 0
        page_read = asyncio.Event()

        async def hear(message: Msg) -> None:
            nonlocal found
            if (message.headers or {}).get("Status"):
                page_read.set()
            else:
                found += 1

        subscription = await self._nc.subscribe(inbox, cb=hear)
        for page in _pages(subjects, at_once):
            page_read.clear()
            await self._nc.publish(_GET, json.dumps({"multi_last": page}).encode(), reply=inbox)
            await page_read.wait()
        await subscription.unsubscribe()
        return found

    async def history(self, subject: str, count: int) -> int:
        """Read a history by an ordered consumer, and decode its events."""
        return await self._consume(subject, count, DeliverPolicy.ALL, ordered=True)

    async def list_runs(self, count: int) -> int:
        """Read the last record of each run by a consumer, and decode them."""
        return await self._consume("grctl_run.*.*.*.info", count, DeliverPolicy.LAST_PER_SUBJECT, ordered=False)

    async def _consume(self, subject: str, count: int, policy: DeliverPolicy, *, ordered: bool) -> int:
        decoded = 0
        all_read = asyncio.Event()

        async def hear(message: Msg) -> None:
            nonlocal decoded
            body = _decode(message.data)
            if "m" in body:
                _decode(body["m"])
            decoded += 1
            if decoded >= count:
                all_read.set()

        js = self._nc.jetstream()
        config = ConsumerConfig(deliver_policy=policy, ack_policy=AckPolicy.NONE)
        subscription = await js.subscribe(
            subject, cb=hear, stream="grctl_state", ordered_consumer=ordered, config=None if ordered else config
        )
        await all_read.wait()
        await subscription.unsubscribe()
        return decoded


def _pages(subjects: list[str], at_once: int) -> Iterator[list[str]]:
    for first in range(0, len(subjects), at_once):
        yield subjects[first : first + at_once]
