"""Safeguards: what grctld does wrong, and how this transport keeps it from the user.

Each is numbered as in docs/protocol.md, section 8, was seen on grctld v0.4, and can be switched off, so that it can go
when the server is mended. Two more stand elsewhere, as they need no request: one cancel or terminate at a time for
each run (5) in ``grctl_core.flights``, and ids of at most 1,024 bytes (4) in ``grctl_core.ids``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from grctl_core.errors import InvalidInputError, NotSentError, RefusedError, WorkflowFinishedError
from grctl_core.run import RunInfo, RunRef
from grctl_nats import subjects, wire
from grctl_nats.records import Records

__all__ = [
    "Safeguards",
    "check_size",
    "wait_for_residue",
    "wait_until_begun",
    "wait_until_settled",
]

_RESERVED = 4_096
_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.1


class Safeguards(msgspec.Struct, frozen=True, kw_only=True):
    """Which safeguards are on, and their bounds.

    Attributes:
        begun_before_cancel: (3) a cancel goes out only once the run has begun; else it would kill the server.
        size_margin: (4) commands that come within 4 KiB of the broker's limit are refused; they would never begin.
        settled_before_send: (6) an event goes out once the run has taken in all earlier ones; else it may get stuck.
        residue_before_start: (7) a start of an id whose run just ended waits for its residue to go; else the new run
            may be lost.
        second_reply_warning: (10) a request that is answered twice is warned of, once: two servers on one broker.
        begun_within: (3) seconds to wait for the run to begin, before the cancel is refused.
        settled_within: (6) seconds to wait before an event is sent anyway.
        residue_within: (7) seconds to wait before a start is sent anyway.
    """

    begun_before_cancel: bool = True
    size_margin: bool = True
    settled_before_send: bool = True
    residue_before_start: bool = True
    second_reply_warning: bool = True
    begun_within: float = 2.0
    settled_within: float = 1.0
    residue_within: float = 2.0


async def wait_until_begun(describe: Callable[[], Awaitable[RunInfo | None]], within: float) -> None:
    """Safeguard 3: wait until the latest run of the id has ``started_at``. A failed look says nothing: it looks again.

    Raises:
        NotSentError: it has none within the time, or the server could not say.

    """
    trouble: RefusedError | None = None

    async def begun() -> bool:
        nonlocal trouble
        trouble = None
        try:
            info = await describe()
        except RefusedError as error:
            trouble = error
            return False
        return info is None or info.started_at is not None or info.is_finished

    if await _poll(begun, within):
        return
    if trouble is not None:
        raise NotSentError(
            f"cancel not sent: the server would die of it if the run has not begun, and does not say within {within:g} "
            f"s whether it has: {trouble}. A terminate works at once"
        ) from trouble
    raise NotSentError(
        f"cancel not sent: the run has not begun within {within:g} s, and the server would die of a cancel now. "
        "Is a worker running? A terminate works at once"
    )


def check_size(body: bytes | memoryview, max_payload: int) -> None:
    """Safeguard 4: refuse a command that the server would accept and never carry out.

    Raises:
        InvalidInputError: it is too large.

    """
    if len(body) > max_payload - _RESERVED:
        raise InvalidInputError(
            f"the command has {len(body)} bytes, and {max_payload - _RESERVED} are possible (the broker's limit less "
            "4 KiB that the server needs): send less, for example a reference to where the data lies"
        )


async def wait_until_settled(records: Records, run: RunRef, within: float) -> None:
    """Safeguard 6: wait until the run waits for events, and has taken in all that were sent; give up silently.

    Raises:
        WorkflowFinishedError: the run has ended.

    """

    async def settled() -> bool:
        state, last = await asyncio.gather(
            records.last(subjects.run_state(run)), records.last(subjects.events(run.wf_id))
        )
        if state is None:
            return False
        at = wire.decode_run_state(state.body)
        if at.kind not in ("start", "step", "wait"):
            raise WorkflowFinishedError(
                f"event not sent: run {run.run_id} of workflow {run.wf_id!r} has ended, and the server would give the "
                "event to a newer run of the id"
            )
        return at.kind == "wait" and (last is None or (at.last_event_seq_id or 0) >= last.seq)

    await _poll(settled, within)


async def wait_for_residue(records: Records, ended: RunRef, within: float) -> None:
    """Safeguard 7: wait until nothing is left of a run that has ended; give up silently."""

    async def gone() -> bool:
        return await records.last(subjects.worker_task(ended)) is None

    await _poll(gone, within)


async def _poll(look: Callable[[], Awaitable[bool]], within: float) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    pause = _FIRST_PAUSE
    while not await look():
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
    return True
