"""Does a Ground Control server answer, and only one?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from grctl.doctor.examination import Examination
from grctl.doctor.finding import Finding, failed, ok, warning
from grctl_core.commands import DescribeCommand, ErrorCode
from grctl_core.errors import AccessDeniedError, DecodeError
from grctl_core.ids import new_ulid
from grctl_nats import subjects, wire

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["check_server"]

_SECONDS = 5.0
_MORE_SECONDS = 0.5
"""How long to wait for a second answer after the first one."""


async def check_server(examination: Examination) -> AsyncIterator[Finding]:
    """Describe a workflow that nobody has, and count the answers."""
    link = examination.patient.linked()
    command = DescribeCommand(wf_id=f"grctl-doctor-{new_ulid()}")
    subject = subjects.command(command.wf_id)
    inbox = f"{link.inbox}.{command.id}.doctor"  # deeper than the replies of requests, which are one each
    answers: asyncio.Queue[Msg | AccessDeniedError] = asyncio.Queue()

    async def hear(message: Msg) -> None:
        answers.put_nowait(message)

    unsubscribe = await link.subscribe(inbox, hear)
    try:
        with link.telling_of_refusals(answers.put_nowait, subject, inbox):
            began = time.monotonic()
            await link.publish(subject, wire.encode_command(command, "grctl-doctor"), inbox)
            try:
                async with asyncio.timeout(_SECONDS):
                    first = await answers.get()
            except TimeoutError:
                yield failed(
                    "server",
                    f"a Ground Control server listens on {link.server}, but has not answered within {_SECONDS:g} s",
                    "look at the server's log, and restart it: it is overloaded or stuck",
                )
                return
            milliseconds = (time.monotonic() - began) * 1000
            if isinstance(first, AccessDeniedError):
                raise first
            if (first.headers or {}).get("Status") == "503":
                yield failed(
                    "server",
                    f"the broker {link.server} is there, but no Ground Control server listens on it",
                    "start the server (grctld, or 'grctl-client dev'); if it runs, restart it: it may have lost its "
                    "broker",
                )
                return
            yield _judge(command, first, milliseconds)
            count = 1 + await _count(answers)
    finally:
        await unsubscribe()
    if count > 1:
        yield failed(
            "servers",
            f"{count} servers answer on this broker: each command is carried out {count} times, and events get lost",
            "stop all of them but one. Several servers on one broker are not supported, not even for a deployment",
            servers=count,
        )
    else:
        yield ok("servers", "it is the only one", servers=1)


def _judge(command: DescribeCommand, message: Msg, milliseconds: float) -> Finding:
    try:
        reply = wire.decode_reply(message.data, command, 0)
    except DecodeError as error:
        mend = "something else answers in the server's place, or it is of another version: look at what runs there"
        return warning("server", f"a server answers, but {error}", mend)
    if reply.error is not None and reply.error.code != ErrorCode.NOT_FOUND:
        said = f"{reply.error.code}: {reply.error.message} {reply.error.detail}".strip()
        return warning("server", f"a server answers, with an error: {said}", "look at the server's log")
    return ok("server", f"a server answers, in {milliseconds:.1f} ms", milliseconds=round(milliseconds, 1))


async def _count(answers: asyncio.Queue[Msg | AccessDeniedError]) -> int:
    """Return how many further answers come."""
    found = 0
    try:
        async with asyncio.timeout(_MORE_SECONDS):
            while True:
                if not isinstance(await answers.get(), AccessDeniedError):
                    found += 1
    except TimeoutError:
        return found
