"""Service: takes commands off the wire, gives them to the engine, and answers when what they did is stored."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from grctl.dev_server.errors import DevServerError, LinkLostError
from grctl.dev_server.journal import Journal
from grctl.dev_server.limits import RESERVED
from grctl.dev_server.link import Link, LinkKeeper
from grctl.dev_server.stream import get_last
from grctl.dev_server.writer import Writer
from grctl_core.commands import Command, DescribeCommand, ErrorCode, Reply, ReplyError, StartCommand
from grctl_core.errors import DecodeError, InvalidInputError
from grctl_core.ids import check_id
from grctl_core.run import RunInfo, RunRef
from grctl_engine import replies
from grctl_engine.engine import Engine
from grctl_nats import subjects, wire

__all__ = ["Service", "kind_of", "max_value"]

_UNKNOWN_COMMAND = ReplyError(ErrorCode.UNKNOWN_COMMAND, "Unknown API command", "unknown API command")
_REGISTER_WORKER = "worker.register"
_DRAIN_SECONDS = 2.0
_log = logging.getLogger("grctl.dev_server")


class _Envelope(msgspec.Struct):
    id: str = ""
    k: str = ""
    s: str = ""


def kind_of(body: bytes) -> str:
    """Return the kind of an encoded command, empty for what is none."""
    try:
        return _decode_envelope(body).k
    except (msgspec.MsgspecError, ValueError):
        return ""


_decode_envelope = msgspec.msgpack.Decoder(_Envelope).decode


class Service:
    """Answers commands, one after the other, in the order in which they came.

    Attributes:
        has_past: whether the stream may hold runs from before the engine began.
    """

    def __init__(self, engine: Callable[[], Engine], links: LinkKeeper, writer: Writer, journal: Journal) -> None:
        self._engine = engine
        self._links = links
        self._writer = writer
        self._journal = journal
        self.has_past = False
        self._subscription: Subscription | None = None

    async def listen(self, link: Link) -> None:
        """Take commands from this link."""
        self._subscription = await link.client.subscribe(
            subjects.ALL_COMMANDS, cb=self._take, pending_msgs_limit=-1, pending_bytes_limit=-1
        )

    async def mute(self) -> None:
        """Take no more commands, after those that are here already: who sends one learns that nobody listens."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):  # where the link is gone, it is too
                await asyncio.wait_for(subscription.drain(), _DRAIN_SECONDS)  # type: ignore[no-untyped-call]

    async def answer(self, body: bytes) -> Reply:
        """Carry out what an encoded command says."""
        try:
            envelope = _decode_envelope(body)
        except (msgspec.MsgspecError, ValueError) as error:
            first = f"unexpected code={body[0]:x} decoding map length" if body and not _is_map(body) else str(error)
            return _internal(f"failed to decode command: msgpack: {first if body else 'EOF'}")
        if not envelope.id or not envelope.s:
            return Reply(success=False, error=_UNKNOWN_COMMAND)
        if envelope.k == _REGISTER_WORKER:
            # How a server hands steps to its workers is not in the protocol, and a success would promise that.
            return _internal(
                "workers cannot attach to the development server: it runs the steps itself. Start it with your "
                "workflows, as MODULE:OBJECT"
            )
        try:
            command = wire.decode_command(body)
        except DecodeError as error:
            cause = str(error).rpartition("cannot be decoded: ")[2]
            return _internal(f"failed to decode command message for kind {envelope.k}: {cause}")
        refusal = self._check(command, len(body))
        return refusal or await self._execute(command)

    async def _take(self, message: Msg) -> None:
        try:
            reply = await self.answer(message.data)
        except LinkLostError:
            return  # who asked finds out by a timeout, as with any server that is cut off
        except Exception as error:  # noqa: BLE001 - the server goes on, and says so
            _log.exception("a command broke the server")
            reply = Reply(success=False, error=ReplyError(ErrorCode.PANIC, f"internal panic: {error}"))
        if message.reply:
            await self._respond(message, reply)

    async def _respond(self, message: Msg, reply: Reply) -> None:
        await self._writer.after(functools.partial(self._send, message.reply, reply))

    async def _send(self, subject: str, reply: Reply) -> None:
        if reply.run is not None:
            reply = Reply(success=True, run=self._journal.stamp(reply.run))
        try:
            link = self._links.up
            if link is not None:
                await link.publish(subject, wire.encode_reply(reply))
        except LinkLostError:
            _log.debug("a reply was lost with the connection")

    def _check(self, command: Command, size: int) -> Reply | None:
        try:
            check_id("workflow id", command.wf_id)
            if isinstance(command, StartCommand):
                check_id("run id", command.run.id)
                check_id("workflow type", command.run.wf_type)
        except InvalidInputError as error:
            return _internal(str(error))
        if size > self._journal.max_value:
            return replies.bad_message(f"the message has {size} bytes, of {self._journal.max_value}")
        return None

    async def _execute(self, command: Command) -> Reply:
        if isinstance(command, StartCommand):
            refusal = await self._refuse_second_start(command.run)
            if refusal is not None:
                return refusal
        reply = self._engine().execute(command)
        if self._lacks_runs and reply.error is not None and reply.error.code == ErrorCode.NOT_FOUND:
            return await self._answer_from_stream(command, reply)
        return reply

    async def _refuse_second_start(self, info: RunInfo) -> Reply | None:
        # In this order: what the engine has kept for long enough it forgets when it is asked.
        if self._engine().find_run(info.ref) is None and self._lacks_runs:
            link = await self._links.current()
            if await get_last(link, subjects.run_state(info.ref)):
                return replies.FINISHED
        return None

    @property
    def _lacks_runs(self) -> bool:
        """Whether the stream may hold runs that the engine does not know."""
        return self.has_past or self._engine().has_forgotten

    async def _answer_from_stream(self, command: Command, not_found: Reply) -> Reply:
        """Answer for a run that had ended before this engine began, or that it has forgotten since."""
        link = await self._links.current()
        found = await get_last(link, subjects.run_info(RunRef(command.wf_id, "*")))
        if found is None:
            return not_found
        if isinstance(command, DescribeCommand):
            return Reply(success=True, run=wire.decode_run_info(found.data))
        return replies.FINISHED


def _is_map(body: bytes) -> bool:
    return body[0] & 0xF0 == 0x80 or body[0] in (0xDE, 0xDF)


def _internal(message: str) -> Reply:
    return Reply(success=False, error=ReplyError(ErrorCode.INTERNAL, message))


def max_value(link: Link) -> int:
    """Return how many bytes a command or a value may have on this broker.

    Raises:
        DevServerError: it takes next to nothing.

    """
    if link.max_payload <= 4 * RESERVED:
        raise DevServerError(f"the broker takes messages of {link.max_payload} bytes only: raise its max_payload")
    return link.max_payload - RESERVED
